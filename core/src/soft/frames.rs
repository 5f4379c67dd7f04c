//! The frames: their memory, which of them are free, and what each is fixed to.
//!
//! # Invariants
//!
//! 1. A chunk is put in once and stays until the machine goes, so that a frame's memory and its list of mappings are
//!    found without a lock.
//! 2. The free list and the placements have room for every frame that has memory: giving a frame back never allocates.
//! 3. With fixed frames, a frame is fixed to at most one placement and a placement to at most one frame. It stays known
//!    while the frame is free, until the frame is needed for another placement.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use hashbrown::HashMap;

use super::bytes::{self, Words};
use super::config::SoftConfig;
use super::devices::DeviceMappings;
use super::rmap::FrameMappings;
use crate::alloc_fallible::{try_box, try_reserve};
use crate::aperture;
use crate::error::Error;
use crate::machine::{FrameCounts, Placement, Reserve, Shortage};
use crate::sync::FrameLock;
use crate::types::{Frame, PAGE_BYTES};

/// Frames whose memory is taken from the system at once: 1 MiB.
const CHUNK: usize = 256;

/// All frames of a machine.
#[derive(Debug)]
pub(super) struct Frames {
    total: usize,
    reserve_daemon: u64,
    reserve_kernel: u64,
    chunks: Vec<AtomicPtr<Chunk>>,
    devices: DeviceMappings,
    pool: FrameLock<Pool>,
}

/// The memory of some frames, and what shows them.
#[derive(Debug)]
struct Chunk {
    /// Page aligned.
    bytes: NonNull<u8>,
    mappings: Vec<FrameMappings>,
}

#[derive(Debug)]
struct Pool {
    /// Frames not in use, those without memory included.
    free: u64,
    /// The first frame that was never in use.
    fresh: usize,
    /// Frames that were in use. With fixed frames, some of them may be in use again.
    list: Vec<u32>,
    /// One for each frame that has memory.
    states: Vec<State>,
    homes: Option<Homes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    used: bool,
    listed: bool,
}

/// Which frame is fixed to which placement (invariant 3).
#[derive(Debug, Default)]
struct Homes {
    frame_of: HashMap<Placement, usize>,
    place_of: Vec<Option<Placement>>,
}

impl Frames {
    pub(super) fn new(config: &SoftConfig) -> Result<Self, Error> {
        let total = usize::try_from(config.frames).map_err(|_| Error::NoMemory)?;
        let mut chunks = Vec::new();
        try_reserve(&mut chunks, total.div_ceil(CHUNK))?;
        chunks.resize_with(total.div_ceil(CHUNK), AtomicPtr::default);
        Ok(Self {
            total,
            reserve_daemon: config.reserve_daemon,
            reserve_kernel: config.reserve_kernel,
            chunks,
            devices: DeviceMappings::default(),
            pool: FrameLock::new(Pool {
                free: config.frames,
                fresh: 0,
                list: Vec::new(),
                states: Vec::new(),
                homes: config.fixed_frames.then(Homes::default),
            }),
        })
    }

    /// A frame for `place`, if the reserve level leaves one and, with fixed frames, if the one fixed to it is free.
    pub(super) fn alloc(&self, place: Placement, reserve: Reserve) -> Option<Frame> {
        let mut pool = self.pool.lock();
        if pool.free <= self.held_back(reserve) {
            return None;
        }
        let frame = match pool.home_of(place) {
            Some(home) if pool.states[home].used => return None,
            Some(home) => home,
            None => {
                pool.make_room_for_a_home()?;
                let frame = self.any_free(&mut pool)?;
                pool.fix(frame, place);
                frame
            }
        };
        pool.states[frame].used = true;
        pool.free -= 1;
        drop(pool);
        let frame = Frame(frame as u64);
        self.spoil(frame);
        Some(frame)
    }

    /// Takes frames back.
    pub(super) fn free(&self, frames: &[Frame]) {
        for frame in frames {
            assert!(
                self.mappings(*frame).is_empty(),
                "frame {frame} was freed while it was mapped"
            );
        }
        let mut pool = self.pool.lock();
        for frame in frames {
            pool.free(index(frame.0));
        }
    }

    pub(super) fn counts(&self) -> FrameCounts {
        let free = self.pool.lock().free;
        FrameCounts {
            total: self.total as u64,
            free,
            reserved: self.reserve_daemon + self.reserve_kernel,
        }
    }

    /// Whether a page of `place` may be seen in this frame: always, unless frames are fixed.
    pub(super) fn is_home(&self, frame: Frame, place: Placement) -> bool {
        match &self.pool.lock().homes {
            Some(homes) => homes.place_of[index(frame.0)] == Some(place),
            None => true,
        }
    }

    /// The mappings of a frame.
    #[inline]
    pub(super) fn mappings(&self, frame: Frame) -> &FrameMappings {
        if frame.is_device() {
            return self.devices.get(frame);
        }
        let (chunk, at) = self.find(frame);
        &chunk.mappings[at]
    }

    /// The same, for a mapping that is about to be listed.
    #[inline]
    pub(super) fn mappings_to_add_to(&self, frame: Frame) -> Result<&FrameMappings, Shortage> {
        if frame.is_device() {
            self.devices.get_or_new(frame)
        } else {
            Ok(self.mappings(frame))
        }
    }

    /// Reads bytes of a frame from `offset` on, which is that of a busied page, or of a translation that is locked. Does not cross it.
    #[inline]
    pub(super) fn read(&self, frame: Frame, offset: usize, to: &mut [u8]) {
        if frame.is_device() {
            // SAFETY: as this function asks.
            unsafe { aperture::of(frame) }.read(frame, offset, to);
        } else {
            bytes::read(self.words(frame), offset, to);
        }
    }

    /// Writes bytes of a frame likewise.
    #[inline]
    pub(super) fn write(&self, frame: Frame, offset: usize, from: &[u8]) {
        if frame.is_device() {
            // SAFETY: as this function asks.
            unsafe { aperture::of(frame) }.write(frame, offset, from);
        } else {
            bytes::write(self.words(frame), offset, from);
        }
    }

    /// The bytes of a frame, for access while others may write.
    #[inline]
    pub(super) fn words(&self, frame: Frame) -> &Words {
        // SAFETY: a frame is PAGE_BYTES of initialised memory, aligned to a page, and lives as long as we do
        // (invariant 1). Atomics may be changed through shared references; whoever uses plain accesses, through
        // `address`, has the frame to itself.
        unsafe { self.address(frame).cast::<Words>().as_ref() }
    }

    /// Where the bytes of a frame are. To be used only by whoever has it to itself.
    pub(super) fn address(&self, frame: Frame) -> NonNull<u8> {
        let (chunk, at) = self.find(frame);
        // SAFETY: `at` is less than the number of frames in the chunk, checked by `find`, so this stays inside its memory.
        unsafe { chunk.bytes.add(at * PAGE_BYTES) }
    }

    #[inline]
    fn find(&self, frame: Frame) -> (&Chunk, usize) {
        let frame = index(frame.0);
        // SAFETY: null or a box of ours that lives as long as we do (invariant 1); only shared references are made.
        // Acquire: the chunk is seen as it was when it was put in.
        let chunk = self
            .chunks
            .get(frame / CHUNK)
            .and_then(|slot| unsafe { slot.load(Ordering::Acquire).as_ref() });
        match chunk {
            Some(chunk) if frame % CHUNK < chunk.mappings.len() => (chunk, frame % CHUNK),
            _ => panic!("frame {frame:#x} does not belong to this machine"),
        }
    }

    /// How many free frames an allocation leaves alone (S190).
    fn held_back(&self, reserve: Reserve) -> u64 {
        match reserve {
            Reserve::Ordinary => self.reserve_daemon + self.reserve_kernel,
            Reserve::Kernel => self.reserve_daemon,
            Reserve::Daemon => 0,
        }
    }

    /// A frame that is not in use. With fixed frames, one that was never used comes first, so that others stay known.
    fn any_free(&self, pool: &mut Pool) -> Option<usize> {
        let fixed = pool.homes.is_some();
        if !fixed && let Some(frame) = pool.pop() {
            return Some(frame);
        }
        self.fresh(pool).or_else(|| pool.pop())
    }

    fn fresh(&self, pool: &mut Pool) -> Option<usize> {
        let frame = pool.fresh;
        if frame == self.total {
            return None;
        }
        if frame == pool.states.len() {
            let size = CHUNK.min(self.total - frame);
            pool.make_room(size)?;
            let chunk = try_box(Chunk::new(size)?).ok()?;
            self.chunks[frame / CHUNK].store(Box::into_raw(chunk), Ordering::Release);
            pool.grow(size);
        }
        pool.fresh += 1;
        Some(frame)
    }

    /// What a new frame holds is not defined: builds with debug assertions make sure that nobody relies on zeros.
    fn spoil(&self, frame: Frame) {
        if cfg!(debug_assertions) {
            bytes::write(self.words(frame), 0, &[0x5a; PAGE_BYTES]);
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for slot in &mut self.chunks {
            let chunk = *slot.get_mut();
            if !chunk.is_null() {
                // SAFETY: a box of ours (invariant 1); `&mut self` proves that nobody looks at it.
                drop(unsafe { Box::from_raw(chunk) });
            }
        }
    }
}

impl Chunk {
    fn new(frames: usize) -> Option<Self> {
        let mut mappings = Vec::new();
        try_reserve(&mut mappings, frames).ok()?;
        mappings.resize_with(frames, FrameMappings::new);
        // SAFETY: the layout's size is not zero: a chunk has at least one frame.
        let bytes = NonNull::new(unsafe { alloc_zeroed(Self::layout(frames)) })?;
        Some(Self { bytes, mappings })
    }

    fn layout(frames: usize) -> Layout {
        Layout::from_size_align(frames * PAGE_BYTES, PAGE_BYTES).unwrap_or_else(|_| unreachable!("a chunk is 1 MiB"))
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout: the length of the list does not change.
        unsafe { dealloc(self.bytes.as_ptr(), Self::layout(self.mappings.len())) };
    }
}

// SAFETY: the pointer is to memory that the chunk owns; who may access it, and how, is said at `Frames::words` and
// `Frames::address` and does not depend on the thread.
unsafe impl Send for Chunk {}
// SAFETY: as above; shared access to a chunk reads the address and locks the lists.
unsafe impl Sync for Chunk {}

impl Pool {
    fn home_of(&self, place: Placement) -> Option<usize> {
        self.homes.as_ref()?.frame_of.get(&place).copied()
    }

    fn make_room_for_a_home(&mut self) -> Option<()> {
        match &mut self.homes {
            Some(homes) => homes.frame_of.try_reserve(1).ok(),
            None => Some(()),
        }
    }

    /// Fixes a free frame to a placement that has none.
    fn fix(&mut self, frame: usize, place: Placement) {
        if let Some(homes) = &mut self.homes {
            if let Some(old) = homes.place_of[frame].replace(place) {
                homes.frame_of.remove(&old);
            }
            homes.frame_of.insert(place, frame);
        }
    }

    fn free(&mut self, frame: usize) {
        let state = &mut self.states[frame];
        assert!(state.used, "frame {frame:#x} was freed twice");
        state.used = false;
        self.free += 1;
        if !state.listed {
            state.listed = true;
            let frame = u32::try_from(frame).unwrap_or_else(|_| unreachable!("a machine has less than 2^32 frames"));
            self.list.push(frame);
        }
    }

    /// The frame that was freed last.
    fn pop(&mut self) -> Option<usize> {
        while let Some(frame) = self.list.pop() {
            let state = &mut self.states[frame as usize];
            state.listed = false;
            if !state.used {
                return Some(frame as usize);
            }
        }
        None
    }

    /// Room for the notes on `more` frames (invariant 2).
    fn make_room(&mut self, more: usize) -> Option<()> {
        let all = self.states.len() + more;
        try_reserve(&mut self.states, more).ok()?;
        let listed = self.list.len();
        try_reserve(&mut self.list, all - listed).ok()?;
        match &mut self.homes {
            Some(homes) => try_reserve(&mut homes.place_of, more).ok(),
            None => Some(()),
        }
    }

    fn grow(&mut self, more: usize) {
        let all = self.states.len() + more;
        self.states.resize(all, State::default());
        if let Some(homes) = &mut self.homes {
            homes.place_of.resize(all, None);
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "a frame number is less than `total`, which is a usize"
)]
fn index(frame: u64) -> usize {
    frame as usize
}
