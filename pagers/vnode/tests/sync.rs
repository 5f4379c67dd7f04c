//! Requests done on the thread that asks.

mod files;
mod many;

const CONFIG: &str = "io=sync";
