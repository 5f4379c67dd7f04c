//! A swap area: what each operation does with each page of its run.

use quire_pager::direction::{Get, Put as Writing};
use quire_pager::{Error, FreeSpace, GetRun, Host, Level, Object, Page, Put, PutRun, Result};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::codec::{Bench, Lent, Packing, Workshop};
use crate::pool::{NotKept, Pool};
use crate::slots::{Held, Slot, Slots};
use crate::store::{Store, Stretch};

/// An open swap area.
///
/// Invariant: it has a store or a pool, or both.
#[derive(Debug)]
pub struct Area {
    host: Host,
    page_size: usize,
    slots: Slots,
    store: Option<Store>,
    memory: Option<Memory>,
    /// It has been said that the pool cannot be written to the file.
    complained: AtomicBool,
}

/// What keeps pages in memory.
#[derive(Debug)]
struct Memory {
    pool: Pool,
    workshop: Workshop,
}

impl Area {
    /// An area of `count` slots: with a store, and with `pool` bytes of memory for pages that are packed as said.
    pub(crate) fn new(
        host: &Host,
        page_size: usize,
        count: u32,
        store: Option<Store>,
        memory: Option<(usize, Packing)>,
    ) -> Result<Self> {
        let memory = memory.map(|(limit, packing)| {
            Ok::<_, Error>(Memory {
                pool: Pool::new(limit),
                workshop: Workshop::new(packing, page_size)?,
            })
        });
        Ok(Self {
            host: host.clone(),
            page_size,
            slots: Slots::new(count)?,
            store,
            memory: memory.transpose()?,
            complained: AtomicBool::new(false),
        })
    }

    /// The slot of a page, if the area has it and the page is one of its own size.
    fn slot(&self, index: u64, len: usize) -> Result<Slot> {
        let slot = self.slots.slot(index).filter(|_| len == self.page_size);
        slot.ok_or_else(|| Error::bad(format!("page {index}, of {len} bytes, is no slot of the swap area")))
    }
}

impl Object for Area {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        let mut bench = None;
        let mut from_file = Stretch::<Get>::new();
        for mut page in run.pages() {
            let len = page.data().len();
            match self
                .slot(page.index(), len)
                .and_then(|slot| Ok((slot, self.take_in(slot, page.data(), &mut bench)?)))
            {
                Ok((_, true)) => page.filled(),
                Ok((slot, false)) => {
                    if !from_file.takes(slot) {
                        self.read(&mut from_file);
                    }
                    from_file.push(slot, page);
                }
                Err(error) => page.fail(error),
            }
        }
        self.read(&mut from_file);
        Ok(())
    }
}

impl Area {
    /// Fills the page of a slot that is in memory. False: it is in the file.
    fn take_in<'a>(&'a self, slot: Slot, page: &mut [u8], lent: &mut Option<Lent<'a>>) -> Result<bool> {
        match (self.slots.get(slot), &self.memory) {
            (Held::Nothing, _) => page.fill(0),
            (Held::Filled(word), _) => page
                .chunks_exact_mut(4)
                .for_each(|place| place.copy_from_slice(&word.to_ne_bytes())),
            (Held::Pool(_), Some(memory)) => {
                let bench = lent.get_or_insert_with(|| memory.workshop.bench());
                let Some(len) = memory.pool.read(&self.slots, slot, &mut bench.entry) else {
                    // It has gone to the file since.
                    return self.take_in(slot, page, lent);
                };
                bench
                    .unpack_into(len, page)
                    .map_err(|error| error.context(format_args!("slot {}", slot.0)))?;
            }
            (Held::File | Held::Pool(_), _) => return Ok(false),
        }
        Ok(true)
    }

    fn read(&self, stretch: &mut Stretch<'_, Get>) {
        let Some(store) = &self.store else { return };
        store.read(stretch);
        stretch.drain().for_each(|(_, page)| page.filled());
    }
}

impl Put for Area {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        let mut bench = None;
        let mut to_file = Stretch::<Writing>::new();
        for page in run.pages() {
            let data = page.data();
            match self
                .slot(page.index(), data.len())
                .and_then(|slot| Ok((slot, self.take_over(slot, data, &mut bench)?)))
            {
                Ok((_, true)) => page.written(),
                Ok((slot, false)) => {
                    if !to_file.takes(slot) {
                        self.write(&mut to_file);
                    }
                    to_file.push(slot, page);
                }
                Err(error) => page.fail(error),
            }
        }
        self.write(&mut to_file);
        Ok(())
    }
}

impl Area {
    /// Keeps a slot's page in memory. False: it is to go to the file. After an error, or if it does not get there, the slot
    /// holds what it held.
    fn take_over<'a>(&'a self, slot: Slot, page: &[u8], bench: &mut Option<Lent<'a>>) -> Result<bool> {
        self.slots.reserve(slot)?;
        if let Some(word) = one_word(page) {
            self.settle(slot, Held::Filled(word));
            return Ok(true);
        }
        let Some(memory) = &self.memory else {
            return Ok(false);
        };
        let bench = bench.get_or_insert_with(|| memory.workshop.bench());
        let bytes = match (bench.pack(page), &self.store) {
            (Some(packed), _) => packed,
            (None, None) => page,
            (None, Some(_)) => return Ok(false),
        };
        match copy(bytes) {
            Ok(bytes) => self.keep(memory, slot, bytes, bench),
            Err(error) => self.or_to_file(error),
        }
    }

    /// Puts a slot's packed page into the pool, from which older pages go to the file to make room.
    fn keep(&self, memory: &Memory, slot: Slot, mut bytes: Box<[u8]>, bench: &mut Bench) -> Result<bool> {
        loop {
            match memory.pool.keep(&self.slots, slot, bytes) {
                Ok(()) => return Ok(true),
                Err(NotKept::NoMemory) => return self.or_to_file(no_memory()),
                Err(NotKept::Full(back)) => bytes = back,
            }
            if !self.make_room(memory, bench) {
                return self.or_to_file(full(&memory.pool));
            }
        }
    }

    /// Where there is a file, a page that is not kept goes there, and only otherwise that is an error.
    fn or_to_file(&self, error: Error) -> Result<bool> {
        if self.store.is_some() { Ok(false) } else { Err(error) }
    }

    /// Moves the oldest page of the pool to the file. Whether it did.
    fn make_room(&self, memory: &Memory, bench: &mut Bench) -> bool {
        let Some(store) = &self.store else { return false };
        let Some(leaving) = memory.pool.leaving(&self.slots) else {
            return false;
        };
        let slot = leaving.slot();
        let written = match memory.pool.read(&self.slots, slot, &mut bench.entry) {
            Some(len) => bench.unpack(len).and_then(|()| store.write_page(slot, &bench.page)),
            None => Ok(()),
        };
        match written {
            Ok(()) => {
                leaving.moved();
                true
            }
            Err(error) => {
                // Nothing is lost: it stays in the pool, and the newer page tries its own place in the file.
                if !self.complained.swap(true, Ordering::Relaxed) {
                    let text =
                        format!("anon: a page stays in the pool, because it cannot be written to the file: {error}");
                    self.host.log(Level::Warn, text);
                }
                false
            }
        }
    }

    /// Writes a stretch to the file. Older copies in the pool stay until that has succeeded.
    fn write(&self, stretch: &mut Stretch<'_, Writing>) {
        let Some(store) = &self.store else { return };
        let slots = (stretch.first().0..).map(Slot).take(stretch.count() as usize);
        // None of them comes into the pool meanwhile; some may leave it.
        let in_pool = slots
            .into_iter()
            .any(|slot| matches!(self.slots.get(slot), Held::Pool(_)));
        let pool = self.memory.as_ref().filter(|_| in_pool).map(|memory| &memory.pool);
        let kept = pool.map(|pool| pool.kept(&self.slots, stretch.first(), stretch.count()));
        store.write(stretch);
        stretch.drain().for_each(|(slot, page)| {
            match &kept {
                Some(kept) => kept.replaced(slot),
                None => self.slots.set(slot, Held::File),
            }
            Page::written(page);
        });
    }

    /// The slot holds `held` from now on, which is neither in the pool nor in the file.
    fn settle(&self, slot: Slot, held: Held) {
        match (self.slots.get(slot), &self.memory) {
            (Held::Pool(_), Some(memory)) => memory.pool.replace(&self.slots, slot, held),
            _ => self.slots.set(slot, held),
        }
    }
}

impl FreeSpace for Area {
    /// Entries of the pool go at once. Blocks of a file are given back by runs of neighbours; where that fails, these are
    /// tried again when their slots are freed the next time.
    fn free_space(&self, first: u64, count: u64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let last = first.checked_add(count - 1).and_then(|last| self.slots.slot(last));
        let (Some(first), Some(last)) = (self.slots.slot(first), last) else {
            return Err(Error::bad(format!(
                "{count} pages from {first} are no slots of the swap area"
            )));
        };
        let mut outcome = Ok(());
        let mut blocks: Option<(Slot, u32)> = None;
        for slot in self.slots.used(first, last.0 - first.0 + 1) {
            self.settle(slot, Held::Nothing);
            if !self.slots.has_blocks(slot) {
                continue;
            }
            blocks = match blocks {
                Some((from, count)) if from.0 + count == slot.0 => Some((from, count + 1)),
                other => {
                    outcome = outcome.and(self.give_back(other));
                    Some((slot, 1))
                }
            };
        }
        outcome.and(self.give_back(blocks))
    }
}

impl Area {
    fn give_back(&self, blocks: Option<(Slot, u32)>) -> Result<()> {
        if let (Some((first, count)), Some(store)) = (blocks, &self.store)
            && store.give_back(first, count)?
        {
            (first.0..first.0 + count).for_each(|slot| self.slots.forget_blocks(Slot(slot)));
        }
        Ok(())
    }
}

/// The four bytes that the page repeats from its beginning to its end, if it does.
fn one_word(page: &[u8]) -> Option<u32> {
    let (word, rest) = page.split_first_chunk::<4>()?;
    (*rest == page[..rest.len()]).then(|| u32::from_ne_bytes(*word))
}

fn copy(bytes: &[u8]) -> Result<Box<[u8]>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| no_memory())?;
    copy.extend_from_slice(bytes);
    Ok(copy.into_boxed_slice())
}

fn no_memory() -> Error {
    Error::nomem("there is no memory to keep the page in")
}

fn full(pool: &Pool) -> Error {
    let text = format!(
        "the memory for swap is full: {} bytes, and there is no file to move pages to; open it with a larger pool=, or with a file \
         in place of memory",
        pool.limit()
    );
    Error::errno(Errno::NOSPC.raw_os_error(), text)
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::sync::Mutex;

    use quire_pager::testing::{PAGE_SIZE, TestHost};
    use quire_pager::{OpenRequest, Opened, Pager};

    use super::*;
    use crate::store::Kind;

    /// A pager that hands out its host, which only a loaded pager has.
    struct Loaded(Host);

    static HOST: Mutex<Option<Host>> = Mutex::new(None);

    impl Pager for Loaded {
        const NAME: &'static CStr = c"loaded";
        type Object = Area;
        fn init(host: Host, _: Option<&str>) -> Result<Self> {
            *HOST.lock()? = Some(host.clone());
            Ok(Self(host))
        }
        fn open(&self, _: &OpenRequest<'_>) -> Result<Opened<Area>> {
            Ok(Opened::new(Area::new(&self.0, PAGE_SIZE, 1, None, None)?, 4096))
        }
    }

    /// An area of 16 slots in a file, with room for so many bytes in its pool.
    fn with_area(pool: usize, packing: Packing, check: impl FnOnce(&Area, &TestHost, &File)) {
        let loaded = {
            static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
            let _one = ONE_AT_A_TIME.lock().expect("no panic");
            let loaded = TestHost::load(quire_pager::module!(Loaded), None).expect("loads");
            (loaded, HOST.lock().expect("no panic").take().expect("was stored"))
        };
        let file = tempfile::tempfile().expect("a file");
        file.set_len(16 * PAGE_SIZE as u64).expect("grows");
        let fd = OwnedFd::from(file.try_clone().expect("a descriptor"));
        let store = Store::new(fd, Kind::Regular, PAGE_SIZE);
        let area = Area::new(&loaded.1, PAGE_SIZE, 16, Some(store), Some((pool, packing))).expect("memory");
        check(&area, &loaded.0, &file);
    }

    fn text(seed: u8) -> Vec<u8> {
        (0..PAGE_SIZE)
            .map(|i| seed.wrapping_add(u8::try_from(i % 61).expect("small")))
            .collect()
    }

    fn put(area: &Area, slot: u32, page: &[u8]) -> Result<bool> {
        area.take_over(Slot(slot), page, &mut None)
    }

    /// The page of a slot; `None` if it is in the file.
    fn get(area: &Area, slot: u32) -> Result<Option<Vec<u8>>> {
        let mut page = vec![0xAA; PAGE_SIZE];
        Ok(area.take_in(Slot(slot), &mut page, &mut None)?.then_some(page))
    }

    #[test]
    fn a_damaged_entry_is_an_error_that_names_its_slot() {
        for packing in [Packing::Lz4, Packing::Zstd] {
            with_area(usize::MAX, packing, |area, _, _| {
                assert_eq!(put(area, 5, &text(1)), Ok(true));
                assert_eq!(get(area, 5), Ok(Some(text(1))));
                let pool = &area.memory.as_ref().expect("has one").pool;
                let shorter = area
                    .memory
                    .as_ref()
                    .expect("has one")
                    .workshop
                    .bench()
                    .pack(&text(1)[..2048])
                    .map(<[u8]>::to_vec);
                for bytes in [vec![], vec![0xFF; 100], shorter.expect("packs")] {
                    pool.damage(&area.slots, Slot(5), &bytes);
                    let error = get(area, 5).expect_err("damaged");
                    assert_eq!(error.status(), -Errno::IO.raw_os_error());
                    let said = error.to_string();
                    assert!(said.starts_with("slot 5: its entry in the pool is damaged"), "{said}");
                }
                assert_eq!(put(area, 5, &text(2)), Ok(true), "a new page heals it");
                assert_eq!(get(area, 5), Ok(Some(text(2))));
            });
        }
    }

    #[test]
    fn an_oldest_page_that_cannot_leave_stays_and_the_new_one_goes_to_its_own_place() {
        with_area(600, Packing::Lz4, |area, host, file| {
            assert!((0..3).all(|slot| put(area, slot, &text(1)) == Ok(true)));
            file.set_len(0).expect("shrinks");
            for slot in 3..9 {
                assert_eq!(put(area, slot, &text(2)), Ok(slot < 4), "slot {slot}");
            }
            assert!((0..3).all(|slot| get(area, slot) == Ok(Some(text(1)))));
            let lines = host.log_lines();
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(
                lines[0].contains("slot 0: the swap file ends at byte 0; it was made shorter"),
                "{lines:?}"
            );
        });
    }

    #[test]
    fn a_pool_in_front_of_a_file_takes_no_more_than_its_limit_and_nothing_when_all_is_freed() {
        with_area(1000, Packing::Zstd, |area, _, _| {
            let pool = &area.memory.as_ref().expect("has one").pool;
            for slot in (0..16).chain(0..16) {
                assert_eq!(put(area, slot, &text(3)), Ok(true));
                assert!(pool.used() <= 1000);
            }
            assert!(pool.used() > 500);
            assert_eq!(area.slots.get(Slot(0)), Held::File, "it was put first");
            assert!(matches!(area.slots.get(Slot(15)), Held::Pool(_)));
            assert_eq!(area.free_space(0, 16), Ok(()));
            assert_eq!(pool.used(), 0);
            assert!((0..16).all(|slot| area.slots.get(Slot(slot)) == Held::Nothing));
        });
    }

    #[test]
    fn one_word_is_found_and_nothing_else() {
        assert_eq!(one_word(&[7; 4096]), Some(0x0707_0707));
        assert_eq!(
            one_word(&[1, 2, 3, 4].repeat(1024)),
            Some(u32::from_ne_bytes([1, 2, 3, 4]))
        );
        for at in [0, 1, 2047, 4092, 4095] {
            let mut page = [0; 4096];
            page[at] = 1;
            assert_eq!(one_word(&page), None, "byte {at}");
        }
    }
}
