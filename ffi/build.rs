//! Gives libquire.so its SONAME: programs are bound to the API's major number.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libquire.so.0");
}
