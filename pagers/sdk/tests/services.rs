//! The host's services for devices: taking pages back, and memory of a device's own, as their author calls and tests them.

#![allow(missing_debug_implementations, reason = "of tests")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use quire_pager::abi::{self, *};
use quire_pager::testing::{PAGE_SIZE, Revoked, TestHost};
use quire_pager::{
    Aperture, CacheMode, Error, GetRun, GrabFlags, Host, HostObject, NotDone, Object, OpenRequest, Opened, Pager,
    Populate, PopulateRun, Populated, Result, RevokeFlags, module,
};

const SIZE: u64 = 8 * PAGE_SIZE as u64;

/// What the pager was told of each object, by the name that it was opened by; each test has names of its own.
static TOLD: Mutex<BTreeMap<String, (Host, HostObject)>> = Mutex::new(BTreeMap::new());

fn told(name: &str) -> (Host, HostObject) {
    TOLD.lock().unwrap()[name].clone()
}

/// A pager whose objects show the aperture that is named behind the colon of their name.
struct Windows {
    host: Host,
}

struct Window {
    aperture: u64,
}

impl Pager for Windows {
    const NAME: &'static CStr = c"windows";
    type Object = Window;

    fn init(host: Host, _: Option<&str>) -> Result<Self> {
        Ok(Self { host })
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Window>> {
        let name = request.text()?.to_owned();
        let aperture = name.split(':').nth(1).map_or(0, |number| number.parse().unwrap());
        let told = (self.host.clone(), request.host_object());
        TOLD.lock().unwrap().insert(name, told);
        Ok(Opened::new(Window { aperture }, SIZE).populate())
    }
}

impl Object for Window {
    fn get(&self, _: &mut GetRun<'_>) -> Result<()> {
        Err(Error::fail("there are frames only"))
    }
}

impl Populate for Window {
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        let (first, last) = (*run.window().start(), *run.window().end());
        run.insert_frames(
            first,
            u32::try_from(last - first + 1).unwrap(),
            self.aperture,
            first * PAGE_SIZE as u64,
        )?;
        Ok(Populated::Pages(first..=last))
    }
}

fn host() -> TestHost {
    TestHost::load(module!(Windows), None).expect("loads")
}

fn revoked(object: HostObject, first: u64, count: u64, flags: u32) -> Revoked {
    Revoked {
        object,
        first,
        count,
        flags,
    }
}

#[test]
fn f22_what_is_revoked_on_a_thread_of_the_pagers_reaches_the_host_as_it_was_said() {
    let testing = host();
    let object = testing.open("revoked").expect("opens");
    let (host, name) = told("revoked");
    assert_eq!(name, object.host_object());
    thread::spawn(move || {
        host.revoke(name, 2..5, RevokeFlags::NONE)?;
        host.revoke(name, 6.., RevokeFlags::DISCARD)?;
        host.revoke(name, .., RevokeFlags::DISCARD.and(RevokeFlags::FAIL))
    })
    .join()
    .unwrap()
    .expect("all are taken");
    let both = QUIRE_REVOKE_DISCARD | QUIRE_REVOKE_FAIL;
    let expected = [(2, 3, 0), (6, 0, QUIRE_REVOKE_DISCARD), (0, 0, both)];
    assert_eq!(
        testing.revoked(),
        expected.map(|(first, count, flags)| revoked(name, first, count, flags))
    );
}

#[test]
fn f22_an_empty_range_revokes_nothing_and_a_part_is_not_revoked_for_good() {
    let testing = host();
    let object = testing.open("parts").expect("opens");
    let (host, name) = told("parts");
    host.revoke(name, 3..3, RevokeFlags::DISCARD).expect("nothing to do");
    let error = host.revoke(name, 1.., RevokeFlags::FAIL).expect_err("a part");
    assert_eq!(error.status(), QUIRE_PAGER_INVALID);
    assert!(error.to_string().contains("whole object"), "{error}");
    assert_eq!(testing.revoked(), []);
    drop(object);
    let error = host.revoke(name, .., RevokeFlags::NONE).expect_err("closed");
    assert_eq!(error.status(), QUIRE_PAGER_STALE);
    assert!(error.to_string().contains("not open"), "{error}");
}

#[test]
fn f22_what_a_revoke_is_refused_with_is_said_in_words() {
    let testing = host();
    let _object = testing.open("refused").expect("opens");
    let (host, name) = told("refused");
    for (status, words) in [(-35, "call it on another thread"), (-28, "still there")] {
        testing.answer_revokes(status);
        let error = host.revoke(name, .., RevokeFlags::NONE).expect_err("refused");
        assert_eq!(error.status(), status);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn an_aperture_is_registered_as_it_was_described_and_ends_with_its_guard() {
    let testing = host();
    let _object = testing.open("guard").expect("opens");
    let (host, _) = told("guard");
    let file = File::open("/dev/zero").expect("opens");
    let described = Aperture::of_file(file.as_fd(), 2 * PAGE_SIZE as u64, SIZE).cache(CacheMode::WriteCombining);
    let guard = host.add_aperture(&described).expect("is registered");
    let registered = testing.apertures()[&guard.number()];
    assert!(registered.has_file);
    assert_eq!(
        (
            registered.cache,
            registered.address,
            registered.length,
            registered.offset
        ),
        (QUIRE_CACHE_WRITE_COMBINING, 0, SIZE, 2 * PAGE_SIZE as u64)
    );
    drop(guard);
    assert!(testing.apertures().is_empty());
    let memory = NonNull::new(std::ptr::without_provenance_mut::<c_void>(16 * PAGE_SIZE)).unwrap();
    // SAFETY: this host looks at no memory.
    let guard = host
        .add_aperture(&unsafe { Aperture::of_memory(memory, SIZE) })
        .expect("is registered");
    assert_eq!(testing.apertures()[&guard.number()].address, 16 * PAGE_SIZE);
    assert!(!testing.apertures()[&guard.number()].has_file);
    guard.remove().expect("is removed");
    assert!(testing.apertures().is_empty());
    assert!(testing.log_lines().is_empty(), "once is enough");
    let error = host
        .add_aperture(&Aperture::of_file(file.as_fd(), 0, 0))
        .expect_err("no bytes");
    assert_eq!(error.status(), QUIRE_PAGER_INVALID);
    assert!(error.to_string().contains("not 0 bytes"), "{error}");
}

#[test]
fn an_aperture_that_pages_show_is_kept_until_they_are_revoked() {
    let testing = host();
    let _first = testing.open("kept").expect("opens");
    let (host, _) = told("kept");
    let file = File::open("/dev/zero").expect("opens");
    let guard = host
        .add_aperture(&Aperture::of_file(file.as_fd(), 0, SIZE))
        .expect("is registered");
    let name = format!("kept:{}", guard.number());
    let object = testing.open(&name).expect("opens");
    object.populate(1, 0..=3, &[]).expect("installs");
    let NotDone { guard, error } = guard.remove().expect_err("pages show it");
    assert_eq!(error.status(), QUIRE_PAGER_AGAIN);
    assert!(error.to_string().contains("revoke them"), "{error}");
    let (host, shown) = told(&name);
    host.revoke(shown, 1.., RevokeFlags::NONE).expect("takes three");
    assert_eq!(object.frames(), BTreeMap::from([(0, (guard.number(), 0))]));
    let guard = guard.remove().expect_err("one is left").guard;
    host.revoke(shown, ..1, RevokeFlags::NONE).expect("takes the last");
    guard.remove().expect("nothing shows it");
    assert!(testing.apertures().is_empty());
}

#[test]
fn a_guard_that_is_dropped_while_pages_show_its_aperture_says_so_in_the_log() {
    let testing = host();
    let object = testing.open("early:77").expect("opens");
    let (host, _) = told("early:77");
    let file = File::open("/dev/zero").expect("opens");
    let guard = host
        .add_aperture(&Aperture::of_file(file.as_fd(), 0, SIZE))
        .expect("is registered");
    let number = guard.number();
    let shows = testing.open(&format!("early:{number}")).expect("opens");
    shows.populate(0, 0..=0, &[]).expect("installs");
    drop(guard);
    assert!(testing.apertures().contains_key(&number), "it is not gone");
    let log = testing.log_lines();
    assert!(
        log[0].contains("stays registered") && log[0].contains("pages show"),
        "{log:?}"
    );
    drop((object, shows));
}

#[test]
fn an_older_hosts_lack_is_an_error_with_a_sentence() {
    // Of the first version of the table nothing is there but the words before the services; set_error is needed to say anything.
    let old = TestHost::load_on(module!(Windows), None, |api| {
        api.struct_size = u32::try_from(std::mem::offset_of!(HostApi, aperture_add)).unwrap();
    })
    .expect("loads");
    let _object = old.open("old").expect("opens");
    let (host, name) = told("old");
    let file = File::open("/dev/zero").expect("opens");
    let lacks: [(&str, Result<()>); 4] = [
        ("revoke", host.revoke(name, .., RevokeFlags::NONE)),
        (
            "aperture_add",
            host.add_aperture(&Aperture::of_file(file.as_fd(), 0, SIZE)).map(drop),
        ),
        ("page_lookup", host.lookup(name, 0).map(drop)),
        ("xunbusy", host.grab(name, 0, GrabFlags::NONE).map(drop)),
    ];
    for (service, result) in lacks {
        let error = result.expect_err(service);
        assert_eq!(error.status(), QUIRE_PAGER_UNSUPPORTED, "{service}");
        let text = error.to_string();
        assert!(text.contains(service) && text.contains("newer host"), "{text}");
    }
    assert!(old.apertures().is_empty() && old.revoked().is_empty());
}

#[test]
fn an_aperture_that_nobody_could_remove_is_not_registered() {
    let half = TestHost::load_on(module!(Windows), None, |api| api.aperture_remove = None).expect("loads");
    let _object = half.open("half").expect("opens");
    let (host, _) = told("half");
    let file = File::open("/dev/zero").expect("opens");
    let error = host
        .add_aperture(&Aperture::of_file(file.as_fd(), 0, SIZE))
        .expect_err("no way back");
    assert_eq!(error.status(), QUIRE_PAGER_UNSUPPORTED);
    assert!(half.apertures().is_empty());
}

/// The ends that the test does not have, for `revoke_waits`.
static GATE: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(None);
static RETURNED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn revoke_waits(_: *mut abi::Host, _: u64, _: u64, _: u64, _: u32) -> i32 {
    let (begun, go_on) = GATE.lock().unwrap().take().expect("once");
    begun.send(()).unwrap();
    go_on.recv().unwrap();
    RETURNED.store(true, Ordering::Relaxed);
    QUIRE_PAGER_OK
}

#[test]
fn the_end_of_a_pager_waits_for_a_service_that_blocks_and_others_go_on_meanwhile() {
    let testing = TestHost::load_on(module!(Windows), None, |api| api.revoke = Some(revoke_waits)).expect("loads");
    let ((begun, has_begun), (open_gate, go_on)) = (channel(), channel());
    *GATE.lock().unwrap() = Some((begun, go_on));
    drop(testing.open("ending").expect("opens"));
    let (host, name) = told("ending");
    thread::scope(|scope| {
        let revoking = scope.spawn(|| host.revoke(name, .., RevokeFlags::NONE));
        has_begun.recv().unwrap();
        let ending = scope.spawn(move || {
            drop(testing);
            RETURNED.load(Ordering::Relaxed)
        });
        // Each of these comes back at once, also while the end waits: first from the host, and then without it.
        let file = File::open("/dev/zero").expect("opens");
        let add = || host.add_aperture(&Aperture::of_file(file.as_fd(), 0, 0));
        while add().expect_err("no bytes").status() != QUIRE_PAGER_STALE {
            thread::yield_now();
        }
        open_gate.send(()).unwrap();
        revoking.join().unwrap().expect("what had begun is finished");
        assert!(ending.join().unwrap(), "the end did not wait for the service under way");
    });
    let error = host.revoke(name, .., RevokeFlags::NONE).expect_err("the host is gone");
    assert_eq!(error.status(), QUIRE_PAGER_STALE);
    assert!(error.to_string().contains("the host is gone"), "{error}");
}
