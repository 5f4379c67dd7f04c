//! Drivers in Rust that use the host's services from threads of their own: revoking, memory of their own, pages by hand. On every machine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use quire_bridge::{Open, PluginModule};
use quire_core::aperture::{self, ApertureId};
use quire_core::error::{Error as EngineError, FaultError};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::object::{ObjectRef, Opening};
use quire_core::types::{Access, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use quire_loader::Loaded;
use quire_pager::abi::{
    QUIRE_PAGE_ABSENT, QUIRE_PAGE_BEYOND, QUIRE_PAGE_BUSY, QUIRE_PAGE_STALE, QUIRE_PAGER_AGAIN, QUIRE_PAGER_INVALID,
};
use quire_pager::{
    Aperture, ApertureGuard, Device, DeviceFault, DeviceKind, Driver, GrabFlags, Host, HostObject, OpenRequest, Opened,
    Populate, PopulateRun, Populated, Put, PutRun, Result, RevokeFlags,
};
use quire_tests::{Rig, built, in_all_modes, page_at};

const PAGES: u64 = 8;

/// What a device's own thread is to do.
type Work = Box<dyn FnOnce(&Host, HostObject) + Send>;

/// A device's own thread, which ends with its device, and the way for a test to have it do something.
#[derive(Debug)]
struct Worker {
    thread: JoinHandle<()>,
    name: String,
}

/// The threads of the open devices, by the names that the devices were opened by.
static WORKERS: Mutex<BTreeMap<String, Sender<Work>>> = Mutex::new(BTreeMap::new());

impl Worker {
    fn start(request: &OpenRequest<'_>) -> Result<Self> {
        let (name, host, object) = (
            request.text()?.to_owned(),
            request.host().clone(),
            request.host_object(),
        );
        let (sender, work): (_, Receiver<Work>) = channel();
        WORKERS.lock()?.insert(name.clone(), sender);
        let thread = thread::spawn(move || work.into_iter().for_each(|work| work(&host, object)));
        Ok(Self { thread, name })
    }

    fn end(self) {
        WORKERS.lock().unwrap().remove(&self.name);
        self.thread.join().unwrap();
    }
}

/// Has the thread of the device `name` do something, and answers what it answered.
fn on_its_thread<T: Send + 'static>(name: &str, work: impl FnOnce(&Host, HostObject) -> T + Send + 'static) -> T {
    let (answer, answered) = channel();
    let work: Work = Box::new(move |host, object| answer.send(work(host, object)).unwrap());
    WORKERS.lock().unwrap()[name].send(work).unwrap();
    answered.recv().expect("the device's thread lives")
}

/// A managed device of some numbers, one at the start of each page. Whoever reads the last page finds there what a revoke inside its fault
/// was answered.
struct Charts;

#[derive(Debug)]
struct Chart {
    worker: Worker,
    host: Host,
    object: HostObject,
}

/// The numbers, by device.
static NUMBERS: Mutex<BTreeMap<(String, u64), u64>> = Mutex::new(BTreeMap::new());

fn number(name: &str, page: u64) -> u64 {
    let numbers = NUMBERS.lock().unwrap();
    numbers.get(&(name.to_owned(), page)).copied().unwrap_or(page)
}

fn set_number(name: &str, page: u64, number: u64) {
    NUMBERS.lock().unwrap().insert((name.to_owned(), page), number);
}

impl Driver for Charts {
    const NAME: &'static CStr = c"charts";
    const KIND: DeviceKind = DeviceKind::Managed;
    type Device = Chart;

    fn ctor(request: &OpenRequest<'_>) -> Result<Opened<Chart>> {
        let chart = Chart {
            worker: Worker::start(request)?,
            host: request.host().clone(),
            object: request.host_object(),
        };
        Ok(Opened::new(chart, PAGES * PAGE_SIZE))
    }
}

impl Device for Chart {
    fn fault(&self, fault: &mut DeviceFault<'_>) -> Result<()> {
        if fault.index() == PAGES - 1 {
            let inside = self.host.revoke(self.object, .., RevokeFlags::NONE);
            return fault.fill(&inside.expect_err("it would wait for itself").status().to_ne_bytes());
        }
        fault.fill(&number(&self.worker.name, fault.index()).to_ne_bytes())
    }

    fn dtor(self) {
        self.worker.end();
    }
}

impl Put for Chart {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        for page in run.pages() {
            let first = page.data()[..8].try_into().expect("eight bytes");
            set_number(&self.worker.name, page.index(), u64::from_ne_bytes(first));
            page.written();
        }
        Ok(())
    }
}

/// A device with memory of its own, all of which every populate installs.
struct Screens;

struct Screen {
    worker: Worker,
    aperture: u64,
}

/// Each device's memory as it sees it, and its aperture.
static SCREENS: Mutex<BTreeMap<String, (File, ApertureGuard)>> = Mutex::new(BTreeMap::new());

impl Driver for Screens {
    const NAME: &'static CStr = c"screens";
    const KIND: DeviceKind = DeviceKind::Phys;
    type Device = Screen;

    fn ctor(request: &OpenRequest<'_>) -> Result<Opened<Screen>> {
        // SAFETY: a new descriptor, or -1, which `File` may not have.
        let file = unsafe {
            let fd = libc::memfd_create(c"screen".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0);
            File::from_raw_fd(fd)
        };
        file.set_len(PAGES * PAGE_SIZE)?;
        let aperture = request
            .host()
            .add_aperture(&Aperture::of_file(file.as_fd(), 0, PAGES * PAGE_SIZE))?;
        let worker = Worker::start(request)?;
        let number = aperture.number();
        SCREENS.lock()?.insert(worker.name.clone(), (file, aperture));
        let screen = Screen {
            worker,
            aperture: number,
        };
        Ok(Opened::new(screen, PAGES * PAGE_SIZE))
    }
}

impl Device for Screen {
    fn dtor(self) {
        let kept = SCREENS.lock().unwrap().remove(&self.worker.name);
        self.worker.end();
        drop(kept);
    }
}

impl Populate for Screen {
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        let mut at = 0;
        while at < PAGES {
            let rest = u32::try_from(PAGES - at).expect("a few");
            let inserted = run.insert_frames(at, rest, self.aperture, at * PAGE_SIZE)?;
            at += u64::from(if inserted == 0 { run.take(at, rest)? } else { inserted });
        }
        Ok(Populated::Pages(0..=PAGES - 1))
    }
}

fn started(table: quire_pager::abi::Module) -> Arc<PluginModule> {
    let log = Box::new(|_, _: &str, _: &str| {});
    // SAFETY: the SDK makes whole and static tables, and each is started once, by its `OnceLock`.
    unsafe { PluginModule::start(table, None, Box::new(()), log, quire_loader::open_memory) }.expect("starts")
}

fn charts() -> &'static Arc<PluginModule> {
    static CHARTS: OnceLock<Arc<PluginModule>> = OnceLock::new();
    CHARTS.get_or_init(|| started(quire_pager::driver_module!(Charts)))
}

fn screens() -> &'static Arc<PluginModule> {
    static SCREENS: OnceLock<Arc<PluginModule>> = OnceLock::new();
    SCREENS.get_or_init(|| started(quire_pager::driver_module!(Screens)))
}

/// Opens a device in each mode, mapped to be read and written, by a name that no other has.
fn with_device(driver: &'static Arc<PluginModule>, test: impl Fn(&Rig, &str, &ObjectRef, VirtAddr)) {
    static DEVICES: OnceLock<Arc<Loaded>> = OnceLock::new();
    let devices = DEVICES.get_or_init(|| {
        let file = built::plugin("device");
        Loaded::load(&file, None, Box::new(|_, _, _| {})).expect("loads")
    });
    in_all_modes(|rig| {
        let name = format!("{:?} {:?}", thread::current().id(), rig.mode);
        let c_name = CString::new(name.clone()).expect("text");
        let opened = devices
            .open(&Open {
                name: Some(&c_name),
                write: true,
                driver: Some(driver),
                ..Open::default()
            })
            .expect("opens");
        let object = rig.engine.attach(Opening {
            pager: opened.pager,
            source: driver.number(),
            identity: opened.identity,
            size: opened.size,
            change: opened.change,
        });
        let object = object.expect("attaches");
        let range = rig.map.map(&object, &MapRequest::read_write(PAGES * PAGE_SIZE));
        let va = range.expect("maps").start;
        test(&rig, &name, &object, va);
        rig.map.unmap(va, PAGES * PAGE_SIZE).expect("unmaps");
        object.release().expect("closes");
        assert!(!WORKERS.lock().unwrap().contains_key(&name), "dtor has run");
        rig.assert_nothing_left();
    });
}

fn first_word(rig: &Rig, va: VirtAddr, page: u64) -> u64 {
    u64::from_ne_bytes(rig.load_page(page_at(va, page))[..8].try_into().unwrap())
}

#[test]
fn f22_a_driver_revokes_on_its_own_thread_and_the_next_access_sees_what_the_device_has_by_then() {
    with_device(charts(), |rig, name, object, va| {
        assert_eq!((first_word(rig, va, 1), first_word(rig, va, 2)), (1, 2));
        rig.map.store(page_at(va, 3), &700_u64.to_ne_bytes()).unwrap();
        set_number(name, 1, 41);
        assert_eq!(first_word(rig, va, 1), 1, "it is in memory");
        on_its_thread(name, |host, object| host.revoke(object, 1..2, RevokeFlags::NONE)).expect("taken back");
        assert!(object.lookup(PageIndex(1)).is_none() && object.lookup(PageIndex(2)).is_some());
        assert_eq!(first_word(rig, va, 1), 41);
        on_its_thread(name, |host, object| host.revoke(object, 2.., RevokeFlags::NONE)).expect("taken back");
        assert_eq!(number(name, 3), 700, "what was dirty was put");
        rig.map.store(page_at(va, 3), &800_u64.to_ne_bytes()).unwrap();
        on_its_thread(name, |host, object| host.revoke(object, .., RevokeFlags::DISCARD)).expect("taken back");
        assert_eq!((number(name, 3), first_word(rig, va, 3)), (700, 700));
    });
}

#[test]
fn f22_inside_its_own_fault_a_driver_is_told_that_it_would_wait_for_itself() {
    with_device(charts(), |rig, _, _, va| {
        let status = rig.load_page(page_at(va, PAGES - 1))[..4].try_into().unwrap();
        assert_eq!(i32::from_ne_bytes(status), -libc::EDEADLK);
    });
}

#[test]
fn f22_what_a_driver_revokes_for_good_fails_every_access() {
    with_device(charts(), |rig, name, _, va| {
        assert_eq!(first_word(rig, va, 1), 1);
        on_its_thread(name, |host, object| host.revoke(object, .., RevokeFlags::FAIL)).expect("taken back");
        assert_eq!(rig.map.fault(va, Access::Read), Err(FaultError::Revoked));
    });
}

#[test]
fn a_drivers_aperture_is_shown_and_ends_with_its_device() {
    let apertures = RefCell::new(Vec::new());
    with_device(screens(), |rig, name, object, va| {
        rig.map.store(page_at(va, 5), &[55; 8]).unwrap();
        let mut seen = [0; 8];
        let read = SCREENS.lock().unwrap()[name].0.read_exact_at(&mut seen, 5 * PAGE_SIZE);
        read.unwrap();
        assert_eq!(seen, [55; 8], "what is stored is in the device's memory");
        assert_eq!(object.resident(), PAGES);
        let page = on_its_thread(name, |host, object| host.lookup(object, 0)?.expect("shown").xbusy());
        drop(page.expect("is busied, and unbusied on another thread"));
        let number = SCREENS.lock().unwrap()[name].1.number();
        let shown = aperture::remove(ApertureId(number));
        assert!(matches!(shown, Err(EngineError::InUse(_))), "{shown:?}");
        apertures.borrow_mut().push(number);
    });
    for number in apertures.into_inner() {
        let gone = aperture::remove(ApertureId(number));
        assert!(matches!(gone, Err(EngineError::Invalid(_))), "{gone:?}");
    }
}

#[test]
fn an_aperture_is_removed_once_its_pages_are_revoked_and_not_before() {
    with_device(screens(), |rig, name, object, va| {
        rig.map.fault(va, Access::Read).expect("populates");
        let (_, guard) = SCREENS.lock().unwrap().remove(name).unwrap();
        let shown = guard.remove().expect_err("pages show it");
        assert_eq!(shown.error.status(), QUIRE_PAGER_AGAIN, "{shown}");
        on_its_thread(name, |host, object| host.revoke(object, .., RevokeFlags::NONE)).expect("taken back");
        assert_eq!(object.resident(), 0);
        shown.guard.remove().expect("nothing shows it");
    });
}

#[test]
fn s239_guards_hold_the_rights_that_they_were_given_and_no_other() {
    with_device(charts(), |rig, name, object, va| {
        assert_eq!(first_word(rig, va, 2), 2);
        on_its_thread(name, |host, object| {
            assert!(host.lookup(object, 1)?.is_none(), "nobody has touched it");
            let page = host.lookup(object, 2)?.expect("is in memory");
            let exclusive = page.xbusy()?;
            assert!(page.busied()? && page.try_xbusy()?.is_none() && page.try_sbusy()?.is_none());
            let busy = host.grab(object, 2, GrabFlags::NOWAIT).expect_err("busied");
            assert_eq!(busy.status(), QUIRE_PAGE_BUSY);
            let shared = exclusive.downgrade().expect("it is filled");
            let other = host.grab_shared(object, 2, GrabFlags::NOWAIT.and(GrabFlags::NOCREAT))?;
            let refused = shared.try_upgrade().expect_err("another shares it");
            assert_eq!(refused.error.status(), QUIRE_PAGE_BUSY);
            drop(other);
            let exclusive = refused.guard.try_upgrade().expect("nobody else does");
            assert!(page.try_sbusy()?.is_none());
            drop(exclusive);
            assert!(!page.busied()?, "each right was given back once");
            Ok::<_, quire_pager::Error>(())
        })
        .expect("all of that");
        assert!(object.lookup(PageIndex(2)).is_some());
    });
}

#[test]
fn s241_a_page_grabbed_written_and_wired_by_a_driver_stays_until_its_guards_are_gone() {
    with_device(charts(), |rig, name, object, va| {
        let wiring = on_its_thread(name, |host, object| {
            let mut page = host.grab(object, 4, GrabFlags::NONE)?;
            page.write(0, &[0; PAGE_BYTES])?;
            page.write(0, &444_u64.to_ne_bytes())?;
            assert!(page.write(PAGE_BYTES - 4, &[0; 8]).is_err(), "half of it is outside");
            page.set_valid()?;
            let mut bytes = [0; 8];
            page.read(0, &mut bytes)?;
            assert_eq!(u64::from_ne_bytes(bytes), 444);
            assert!(!page.handle().is_dirty()?);
            page.set_dirty()?;
            assert!(page.handle().is_dirty()?);
            let wiring = page.wire()?;
            assert_eq!(wiring.handle().wire_count()?, 1);
            Ok::<_, quire_pager::Error>(wiring)
        })
        .expect("all of that");
        assert_eq!(first_word(rig, va, 4), 444, "it is unbusied");
        assert_eq!(object.lookup(PageIndex(4)).unwrap().wire_count(), 1);
        drop(wiring);
        assert_eq!(object.lookup(PageIndex(4)).unwrap().wire_count(), 0);
        object.object().flush_all(FlushFlags::DURABLE).expect("is written");
        assert_eq!(number(name, 4), 444);
    });
}

#[test]
fn what_is_not_there_is_answered_and_a_page_that_is_not_filled_goes_with_its_guard() {
    with_device(charts(), |_, name, object, _| {
        on_its_thread(name, |host, object| {
            let absent = host.grab(object, 1, GrabFlags::NOCREAT).expect_err("not in memory");
            let beyond = host.grab(object, PAGES, GrabFlags::NONE).expect_err("outside");
            assert_eq!(
                (absent.status(), beyond.status()),
                (QUIRE_PAGE_ABSENT, QUIRE_PAGE_BEYOND)
            );
            let empty = host.grab(object, 1, GrabFlags::NONE)?;
            let handle = empty.handle().clone();
            assert_eq!(empty.set_dirty().expect_err("not filled").status(), QUIRE_PAGER_INVALID);
            let empty = empty.downgrade().expect_err("not filled");
            assert_eq!(empty.error.status(), QUIRE_PAGER_INVALID);
            drop(empty);
            let stale = handle.xbusy().expect_err("it was not filled");
            assert_eq!(stale.status(), QUIRE_PAGE_STALE);
            let unfilled = host
                .grab_shared(object, 1, GrabFlags::NONE)
                .expect_err("whose would it be?");
            assert_eq!(unfilled.status(), QUIRE_PAGER_INVALID);
            let both = GrabFlags::ZERO.and(GrabFlags::CONTENTS);
            let both = host.grab(object, 1, both).expect_err("one or the other");
            assert_eq!(both.status(), QUIRE_PAGER_INVALID);
            let zeros = host.grab(object, 1, GrabFlags::ZERO)?;
            assert!(zeros.handle().is_valid()?);
            let wiring = zeros.wire()?;
            let wired = zeros.free().expect_err("it is wired");
            assert_eq!(wired.error.status(), QUIRE_PAGER_AGAIN);
            drop(wiring);
            wired.guard.free()?;
            assert!(host.lookup(object, 1)?.is_none());
            Ok::<_, quire_pager::Error>(())
        })
        .expect("all of that");
        assert_eq!(object.resident(), 0);
    });
}
