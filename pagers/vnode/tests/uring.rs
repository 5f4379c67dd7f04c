//! Requests done by io_uring, where the kernel allows it.

mod files;
mod many;

const CONFIG: &str = "io=auto,later=1";
