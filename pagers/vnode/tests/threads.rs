//! Requests done by a pool of threads.

mod files;
mod many;

const CONFIG: &str = "io=threads,threads=4,later=1";
