//! Requests done past the page cache, by a pool of threads with little room.

mod files;
mod many;

const CONFIG: &str = "io=threads,threads=2,depth=3,direct=1";
