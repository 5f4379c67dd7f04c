//! The device pager with drivers in Rust, driven by the SDK's host: what reaches which function of a driver, and what comes back.

#![allow(missing_debug_implementations, reason = "of tests")]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::Mutex;

use quire_pager::abi::{self, *};
use quire_pager::testing::{PAGE_SIZE, TestDriver, TestHost};
use quire_pager::{
    Device, DeviceFault, DeviceKind, Driver, Durable, Error, Host, Level, OpenRequest, Opened, Populate, PopulateRun,
    Populated, Put, PutRun, Result, driver_module,
};

const PAGES: u64 = 16;
const SIZE: u64 = PAGES * PAGE_SIZE as u64;

/// What became of the devices, by name. Each test has names of its own.
static DEVICES: Mutex<BTreeMap<String, i32>> = Mutex::new(BTreeMap::new());

fn note(name: &str, change: i32) {
    *DEVICES.lock().unwrap().entry(name.to_owned()).or_default() += change;
}

/// How many of that name are there; `None` if there never was one.
fn devices(name: &str) -> Option<i32> {
    DEVICES.lock().unwrap().get(name).copied()
}

/// The name says what is to go wrong.
struct Thing {
    name: String,
    host: Host,
    puts: Mutex<Vec<u64>>,
}

impl Thing {
    fn make(request: &OpenRequest<'_>) -> Result<Opened<Self>> {
        let name = request.text()?.to_owned();
        match &*name {
            "refused" => return Err(Error::errno(13, "not for you")),
            "panics in ctor" => panic!("ctor fell over"),
            _ => {}
        }
        let size = if name == "without size" { 0 } else { SIZE };
        let host = request.host().clone();
        host.log(Level::Info, format!("{name} is made"));
        note(&name, 1);
        let (puts, shown) = (Mutex::default(), format!("the {name}"));
        let thing = Self { name, host, puts };
        Ok(Opened::new(thing, size).identity([4, 2]).max_run(99).named(shown))
    }

    fn unmake(self) {
        note(&self.name, -1);
        assert_ne!(self.name, "panics in dtor", "dtor fell over");
    }
}

macro_rules! driver {
    ($driver:ident, $device:ident, $name:literal, $kind:ident) => {
        struct $driver;
        #[allow(dead_code, reason = "some devices only have it")]
        struct $device(Thing);

        impl Driver for $driver {
            const NAME: &'static CStr = $name;
            const KIND: DeviceKind = DeviceKind::$kind;
            type Device = $device;

            fn ctor(request: &OpenRequest<'_>) -> Result<Opened<$device>> {
                Ok(Thing::make(request)?.map($device))
            }
        }
    };
}

driver!(Managed, ManagedDevice, c"managed", Managed);
driver!(Bare, BareDevice, c"bare", Managed);
driver!(Unmanaged, UnmanagedDevice, c"unmanaged", Unmanaged);
driver!(Phys, PhysDevice, c"phys", Phys);
driver!(Windows, WindowsDevice, c"windows", Phys);

impl Device for ManagedDevice {
    fn fault(&self, fault: &mut DeviceFault<'_>) -> Result<()> {
        assert!(fault.access().read() && !fault.access().write());
        assert!(fault.frame(7, 0).is_err());
        match fault.index() {
            12 => Ok(()),
            13 => Err(Error::errno(5, "a bad spot")),
            14 => panic!("page 14 is cursed"),
            index => fault.fill(&index.to_le_bytes()),
        }
    }

    fn dtor(self) {
        self.0.unmake();
    }
}

impl Populate for ManagedDevice {
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        match run.index() {
            0 => Ok(Populated::UseGet),
            15 => panic!("page 15 is cursed"),
            index if index == SIZE / 4096 - 2 => run.fill(index..=index + 15, |_, bytes| {
                bytes.fill(1);
                Ok(())
            }),
            _ => run.fill(4..=11, |index, bytes| {
                bytes.fill(u8::try_from(index).unwrap());
                Ok(())
            }),
        }
    }
}

impl Put for ManagedDevice {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        for page in run.pages() {
            assert_ne!(page.index(), 3, "page 3 is never written");
            self.0.puts.lock().unwrap().push(page.index());
            page.written();
        }
        Ok(())
    }
}

impl Durable for ManagedDevice {
    fn sync(&self) -> Result<()> {
        let puts = self.0.puts.lock().unwrap().clone();
        self.0.host.log(Level::Info, format!("synced {puts:?}"));
        if puts.contains(&9) {
            return Err(Error::errno(28, "no room for page 9"));
        }
        Ok(())
    }
}

impl Device for BareDevice {}

impl Device for UnmanagedDevice {
    fn fault(&self, fault: &mut DeviceFault<'_>) -> Result<()> {
        assert!(fault.bytes().is_err());
        match fault.index() {
            12 => Ok(()),
            13 => Err(Error::bad("page 13 is not to be had")),
            _ => fault.frame(7, SIZE - fault.offset()),
        }
    }
}

impl Device for PhysDevice {
    fn fault(&self, fault: &mut DeviceFault<'_>) -> Result<()> {
        fault.frame(8, fault.offset())
    }
}

impl Populate for PhysDevice {
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        if run.index() == 15 {
            return Ok(Populated::UseGet);
        }
        let first = run.index() / 8 * 8;
        let count = run.insert_frames(first, 8, 9, first * PAGE_SIZE as u64)?;
        Ok(Populated::Pages(first..=first + u64::from(count) - 1))
    }
}

impl Device for WindowsDevice {}

impl Populate for WindowsDevice {
    fn populate(&self, _run: &mut PopulateRun<'_>) -> Result<Populated> {
        Ok(Populated::UseGet)
    }
}

fn host() -> TestHost {
    TestHost::load(quire_pager_device::module(), None).expect("init succeeds")
}

fn of(module: &Module) -> TestDriver {
    assert_eq!(module.caps & QUIRE_CAP_DRIVER, QUIRE_CAP_DRIVER);
    assert!(module.open.is_none() && module.close.is_none() && module.get.is_none());
    TestDriver::load(module)
}

fn managed() -> TestDriver {
    of(&driver_module!(Managed))
}

#[test]
fn the_pager_says_that_it_takes_drivers_and_needs_one() {
    let host = host();
    assert_eq!(host.module().caps & QUIRE_CAP_DEVICES, QUIRE_CAP_DEVICES);
    assert_eq!(host.module().thread_model, QUIRE_THREADS_PARALLEL);
    let failure = host.open("nothing").expect_err("no driver");
    assert_eq!(failure.status, QUIRE_PAGER_INVALID);
    assert!(failure.text.contains("no driver was given"), "{failure}");
    let failure = TestHost::load(quire_pager_device::module(), Some("fast=yes")).expect_err("no configuration");
    assert!(failure.text.contains("`fast=yes`"), "{failure}");
}

#[test]
fn a_driver_written_with_the_sdk_has_in_its_table_what_its_device_implements() {
    let present = |driver: &TestDriver| {
        // SAFETY: the table is the macro's.
        let table = unsafe { &*driver.handle().table };
        [
            table.fault.is_some(),
            table.populate.is_some(),
            table.put.is_some(),
            table.path.is_some(),
            table.sync.is_some(),
        ]
    };
    assert_eq!(present(&managed()), [true; 5]);
    assert_eq!(present(&of(&driver_module!(Bare))), [true, false, false, true, false]);
}

#[test]
fn a_managed_device_is_filled_populated_written_and_synced_by_its_driver() {
    let (host, driver) = (host(), managed());
    let device = host.open_device(driver.handle(), "whole").expect("opens");
    assert_eq!((device.opened.flags, device.opened.size), (QUIRE_OBJECT_POPULATE, SIZE));
    assert_eq!((device.opened.identity, device.opened.max_run), ([4, 2], 1));
    assert_eq!(device.path(64), Ok("the whole".to_owned()));

    let answer = device.get(2, 1);
    assert_eq!(answer.status, QUIRE_PAGER_OK);
    assert_eq!(answer.pages[0].status, QUIRE_PAGER_OK);
    assert_eq!(answer.pages[0].bytes[..9], [2, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(answer.pages[0].bytes.iter().skip(1).all(|byte| *byte == 0));

    let (range, pages) = device.populate(6, 0..=15, &[]).expect("populates");
    assert_eq!(range, 4..=11);
    assert!(
        pages
            .iter()
            .all(|(index, bytes)| bytes.iter().all(|byte| u64::from(*byte) == *index))
    );
    assert_eq!(
        device.populate(0, 0..=15, &[]).expect_err("declines").status,
        QUIRE_PAGER_BAD
    );

    assert_eq!(device.put(1, &[7; 2 * PAGE_SIZE]).status, QUIRE_PAGER_OK);
    assert_eq!(device.sync(), Ok(()));
    assert!(
        host.log_lines().contains(&"synced [1, 2]".to_owned()),
        "{:?}",
        host.log_lines()
    );
    device.put(9, &[7; PAGE_SIZE]);
    let failure = device.sync().expect_err("no room");
    assert_eq!(failure.status, -28);
    assert!(
        failure.text.contains("managed: sync of the whole: no room for page 9"),
        "{failure}"
    );
}

#[test]
fn filling_a_window_takes_what_is_there_and_stops_at_what_cannot_be_had() {
    let (host, driver) = (host(), managed());
    let device = host.open_device(driver.handle(), "window").expect("opens");
    // This host lets pages be taken that somebody else has.
    let (range, pages) = device.populate(8, 0..=15, &[5, 10]).expect("populates");
    assert_eq!(range, 4..=11);
    assert!(pages.keys().copied().eq([4, 6, 7, 8, 9, 11]));
    let end = SIZE / 4096;
    let (range, pages) = device.populate(end - 2, 0..=end - 1, &[]).expect("populates");
    assert_eq!(range, end - 2..=end - 1, "it ends with the object");
    assert!(pages.keys().copied().eq([end - 2, end - 1]));
}

#[test]
fn what_a_driver_fails_with_reaches_the_host_as_it_is() {
    let (host, driver) = (host(), managed());
    let device = host.open_device(driver.handle(), "bad spots").expect("opens");
    let answer = device.get(13, 1);
    assert_eq!((answer.status, answer.pages[0].status), (-5, QUIRE_PAGER_UNTOUCHED));
    assert_eq!(answer.text, "managed: fault of the bad spots: page 13: a bad spot");
    let answer = device.get(12, 1);
    assert_eq!(answer.status, QUIRE_PAGER_ERROR);
    assert!(
        answer.text.contains("the driver answered without page 12"),
        "{}",
        answer.text
    );
}

#[test]
fn a_panic_in_a_driver_becomes_a_status_with_its_words() {
    let (host, driver) = (host(), managed());
    let failure = host.open_device(driver.handle(), "panics in ctor").expect_err("panics");
    assert_eq!(failure.status, QUIRE_PAGER_FAULTED);
    assert!(failure.text.contains("ctor fell over"), "{failure}");
    let device = host.open_device(driver.handle(), "panics in dtor").expect("opens");
    let answer = device.get(14, 1);
    assert_eq!(answer.status, QUIRE_PAGER_FAULTED);
    assert!(answer.text.contains("page 14 is cursed"), "{}", answer.text);
    let failure = device.populate(15, 0..=15, &[]).expect_err("panics");
    assert_eq!(failure.status, QUIRE_PAGER_FAULTED);
    assert!(failure.text.contains("page 15 is cursed"), "{failure}");
    let answer = device.put(3, &[1; PAGE_SIZE]);
    assert_eq!(answer.status, QUIRE_PAGER_FAULTED);
    assert!(answer.text.contains("page 3 is never written"), "{}", answer.text);
    assert_eq!(device.get(1, 1).status, QUIRE_PAGER_OK);
    drop(device);
    assert_eq!(devices("panics in dtor"), Some(0));
    assert!(host.log_lines().iter().any(|line| line.contains("dtor fell over")));
}

#[test]
fn dtor_follows_each_ctor_that_succeeded_and_no_other() {
    let (host, driver) = (host(), managed());
    let failure = host.open_device(driver.handle(), "refused").expect_err("refused");
    assert_eq!(failure.status, -13);
    assert_eq!(failure.text, "managed: ctor: refused: not for you");
    assert_eq!(devices("refused"), None);
    // It fails after its ctor.
    let failure = host.open_device(driver.handle(), "without size").expect_err("no size");
    assert!(
        failure.text.contains("the driver managed made a device of 0 bytes"),
        "{failure}"
    );
    assert_eq!(devices("without size"), Some(0));
    let two = [(); 2].map(|()| host.open_device(driver.handle(), "twice").expect("opens"));
    assert_eq!(devices("twice"), Some(2));
    drop(two);
    assert_eq!(devices("twice"), Some(0));
    assert_eq!(
        host.log_lines(),
        ["without size is made", "twice is made", "twice is made"]
    );
}

#[test]
fn s235_what_a_driver_has_no_function_for_fails() {
    let host = host();
    let bare = of(&driver_module!(Bare));
    let device = host.open_device(bare.handle(), "bare").expect("opens");
    assert_eq!(device.opened.flags, QUIRE_OBJECT_READ_ONLY);
    assert_eq!(device.get(2, 1).status, QUIRE_PAGER_FAIL);
    assert_eq!(device.put(2, &[0; PAGE_SIZE]).status, QUIRE_PAGER_UNSUPPORTED);
    assert_eq!(device.sync(), Ok(()));
    assert_eq!(
        device.populate(2, 0..=15, &[]).expect_err("get").status,
        QUIRE_PAGER_BAD
    );
    // A device whose frames are its own has no get to fall back on.
    let windows = of(&driver_module!(Windows));
    let device = host.open_device(windows.handle(), "windows").expect("opens");
    assert_eq!(
        device.populate(2, 0..=15, &[]).expect_err("nothing").status,
        QUIRE_PAGER_FAIL
    );
}

#[test]
fn an_unmanaged_device_answers_each_fault_with_one_frame() {
    let host = host();
    let driver = of(&driver_module!(Unmanaged));
    let device = host.open_device(driver.handle(), "frames").expect("opens");
    assert_eq!(device.opened.flags, QUIRE_OBJECT_POPULATE | QUIRE_OBJECT_FRAMES);
    let (range, filled) = device.populate(5, 0..=15, &[]).expect("populates");
    assert_eq!((range, filled.len()), (5..=5, 0));
    assert_eq!(device.frames(), BTreeMap::from([(5, (7, SIZE - 5 * PAGE_SIZE as u64))]));
    assert_eq!(
        device.populate(5, 0..=15, &[5]).expect_err("taken").status,
        QUIRE_PAGER_REFAULT
    );
    let failure = device.populate(12, 0..=15, &[]).expect_err("no answer");
    assert!(
        failure.text.contains("the driver answered without page 12"),
        "{failure}"
    );
    let failure = device.populate(13, 0..=15, &[]).expect_err("not to be had");
    assert_eq!(failure.status, QUIRE_PAGER_FAIL, "there is no get to fall back on");
    assert!(failure.text.contains("page 13 is not to be had"), "{failure}");
    let answer = device.get(5, 1);
    assert_eq!(answer.status, QUIRE_PAGER_FAIL);
    assert!(answer.text.contains("frames are its own"), "{}", answer.text);
}

#[test]
fn a_phys_device_installs_windows_of_frames_and_single_ones_otherwise() {
    let host = host();
    let driver = of(&driver_module!(Phys));
    let device = host.open_device(driver.handle(), "windows of frames").expect("opens");
    assert_eq!(device.opened.flags, QUIRE_OBJECT_POPULATE | QUIRE_OBJECT_FRAMES);
    let (range, _) = device.populate(5, 0..=15, &[]).expect("populates");
    assert_eq!(range, 0..=7);
    let expected = (0..8).map(|page| (page, (9, page * PAGE_SIZE as u64)));
    assert_eq!(device.frames(), expected.collect());
    let (range, _) = device.populate(15, 0..=15, &[]).expect("populates");
    assert_eq!(range, 15..=15);
    assert_eq!(device.frames(), BTreeMap::from([(15, (8, 15 * PAGE_SIZE as u64))]));
}

#[test]
fn a_driver_that_is_cut_short_or_newer_is_taken_for_what_it_has() {
    let host = host();
    let whole = managed();
    let of_size = |struct_size| {
        // SAFETY: the table is the macro's.
        let table = unsafe { *whole.handle().table };
        let table: &'static abi::Driver = Box::leak(Box::new(abi::Driver { struct_size, ..table }));
        DriverHandle {
            table,
            ..*whole.handle()
        }
    };
    let short = of_size(QUIRE_DRIVER_MIN_SIZE);
    let device = host.open_device(&short, "short").expect("opens");
    assert_eq!(device.opened.flags, QUIRE_OBJECT_READ_ONLY);
    assert_eq!(device.get(0, 1).status, QUIRE_PAGER_FAIL);
    drop(device);
    let too_short = of_size(QUIRE_DRIVER_MIN_SIZE - 1);
    let failure = host.open_device(&too_short, "shorter").expect_err("too short");
    assert!(
        failure.text.contains("struct quire_driver is 23 bytes long"),
        "{failure}"
    );
    let newer = of_size(4096);
    let device = host.open_device(&newer, "newer").expect("opens");
    assert_eq!(device.get(1, 1).status, QUIRE_PAGER_OK);
}
