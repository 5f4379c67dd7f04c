//! The library's own memory: not the program's `malloc`, and nowhere that the program may map over.

use quire_linux::Heap;

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Sets the addresses aside when the library is loaded, before the program can make holes in its memory.
extern "C" fn start() {
    HEAP.start();
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;
