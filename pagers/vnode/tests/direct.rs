//! Requests done past the page cache, where pages are aligned.

mod files;
mod many;

const CONFIG: &str = "io=auto,direct=1";
