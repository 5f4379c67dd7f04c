//! A pager to drive: it plays what it is told, and has every optional operation.

use std::ffi::CStr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use quire_pager::testing::{PAGE_SIZE, TestHost};
use quire_pager::{
    Accounting, Cancel, Caps, Durable, Error, Extent, FreeSpace, GetRun, HasPage, Host, Level, Object, OpenRequest,
    Opened, Pager, PendingGet, Populate, PopulateRun, Populated, PrepareWrite, Put, PutRun, Reserve, Resize, Result,
    Size, Threads,
};

/// A pager whose one object does what its name says; "pend" hands requests to a thread.
pub(crate) struct Actor {
    host: Host,
    sender: Option<Sender<(Todo, PendingGet)>>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
enum Todo {
    Fill,
    Drop,
    Fail,
}

pub(crate) struct Role {
    name: String,
    sender: Sender<(Todo, PendingGet)>,
    state: Mutex<Vec<String>>,
}

fn work(requests: Receiver<(Todo, PendingGet)>) {
    for (todo, mut request) in requests {
        match todo {
            Todo::Fill => {
                for page in request.pages() {
                    page.fill(b"late");
                }
                request.complete(Ok(()));
            }
            Todo::Drop => drop(request),
            Todo::Fail => request.complete(Err(Error::errno(5, "the line is cut"))),
        }
    }
}

impl Pager for Actor {
    const NAME: &'static CStr = c"actor";
    const DESCRIPTION: &'static CStr = c"Plays what it is told";
    const THREADS: Threads = Threads::SerializeObject;
    const CAPS: Caps = Caps::ASYNC.and(Caps::STAY_RESIDENT);
    type Object = Role;

    fn init(host: Host, config: Option<&str>) -> Result<Self> {
        match config {
            Some("refuse") => return Err(Error::invalid("told to refuse")),
            Some("panic") => panic!("told to panic"),
            _ => {}
        }
        let (sender, receiver) = channel();
        let worker = std::thread::spawn(move || work(receiver));
        host.log(Level::Info, format_args!("pages of {}\0 bytes", host.page_size()));
        Ok(Self {
            host,
            sender: Some(sender),
            worker: Some(worker),
        })
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Role>> {
        let name = request.text()?.to_owned();
        if name == "missing" {
            return Err(Error::from(std::io::Error::from_raw_os_error(2)));
        }
        let sender = self.sender.clone().expect("the worker runs until fini");
        let role = Role {
            name,
            sender,
            state: Mutex::default(),
        };
        Ok(Opened::new(role, 10_000)
            .identity([1, 2])
            .granule(512)
            .max_run(16)
            .populate())
    }

    fn fini(mut self) {
        drop(self.sender.take());
        self.worker.take().expect("a worker").join().expect("the worker ends");
        self.host.log(Level::Info, "fini");
    }
}

impl Object for Role {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        let late = |run: &mut GetRun<'_>, todo| {
            let request = run.pend().ok_or_else(|| Error::again("may not pend"))?;
            assert_eq!(run.pages().count(), 0);
            assert!(run.pend().is_none());
            self.sender.send((todo, request)).map_err(|_| Error::new("no worker"))
        };
        match self.name.as_str() {
            "panic" => panic!("page {} is cursed", run.first()),
            "pend" => late(run, Todo::Fill),
            "pend and drop" => late(run, Todo::Drop),
            "pend and fail" => late(run, Todo::Fail),
            "pend and panic" => {
                late(run, Todo::Fill)?;
                panic!("too late to matter")
            }
            "pend, complete, return" => {
                let mut request = run.pend().expect("may pend");
                request.pages().for_each(|page| page.fill(b"early"));
                request.complete(Ok(()));
                Ok(())
            }
            "pend and unwind" => {
                let _request = run.pend().expect("may pend");
                panic!("with the request in hand")
            }
            "forget" => Ok(()),
            "neighbours fail" => {
                for page in run.pages() {
                    if page.required() {
                        page.fill(&[7; PAGE_SIZE])
                    } else {
                        page.fail(Error::fail("not mine"))
                    }
                }
                Ok(())
            }
            "required fails" => {
                run.pages().for_each(|page| page.fail(Error::fail("gone")));
                Ok(())
            }
            _ => {
                for mut page in run.pages() {
                    page.data().fill(b'x');
                    page.filled();
                }
                Ok(())
            }
        }
    }

    fn close(self) -> Result<()> {
        if self.name == "panic" {
            panic!("in close")
        } else {
            Ok(())
        }
    }
}

impl Put for Role {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        for (i, page) in run.pages().enumerate() {
            self.state
                .lock()?
                .push(format!("{}+{}", page.offset(), page.data().len()));
            match (self.name.as_str(), i) {
                ("put half", 1) => return Err(Error::errno(28, "full")),
                ("put forgets", 1) => {}
                _ => page.written(),
            }
        }
        Ok(())
    }
}

impl Populate for Role {
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        assert!(run.access().read() && !run.access().write() && run.max_protection().write());
        match self.name.as_str() {
            "use get" => return Ok(Populated::UseGet),
            "elsewhere" => return Ok(Populated::Pages(run.index() + 1..=run.index() + 1)),
            _ => {}
        }
        let (mut first, mut last) = (run.index(), run.index());
        for index in run.window() {
            let Some(bytes) = run.insert(index)? else { continue };
            bytes.fill(index.to_le_bytes()[0]);
            run.ready(index)?;
            (first, last) = (first.min(index), last.max(index));
        }
        Ok(Populated::Pages(first..=last))
    }
}

/// Everything optional, so that the table is full.
macro_rules! notes {
    ($($trait:ident: $method:ident($($argument:ident),*) -> $result:ty = $value:expr;)*) => {$(
        impl $trait for Role {
            fn $method(&self $(, $argument: u64)*) -> $result {
                self.state.lock()?.push(stringify!($method).to_owned());
                $(let _ = $argument;)*
                $value
            }
        }
    )*};
}

notes! {
    HasPage: has_page(index) -> Result<Option<Extent>> = Ok((index < 2).then_some(Extent { before: 1, after: 2 }));
    Size: size() -> Result<u64> = Ok(77);
    Resize: resize(size) -> Result<()> = Err(Error::unsupported("fixed"));
    Durable: sync() -> Result<()> = Ok(());
    PrepareWrite: prepare_write(first, count) -> Result<()> = Ok(());
    Cancel: cancel(token) -> Result<()> = Ok(());
    Reserve: reserve(first, count) -> Result<()> = Ok(());
    FreeSpace: free_space(first, count) -> Result<()> =
        if first == 0 { Ok(()) } else { Err(Error::errno(5, format!("{count} pages from {first} are gone"))) };
}

impl Accounting for Role {
    fn page_inserted(&self, index: u64) {
        self.state.lock().expect("lock").push(format!("+{index}"));
    }
    fn page_removed(&self, index: u64) {
        panic!("notice {index}")
    }
}

pub(crate) fn actor() -> TestHost {
    TestHost::load(quire_pager::module!(Actor), None).expect("the actor loads")
}
