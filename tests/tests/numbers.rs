//! Numbers that C programs rely on, as the header has them.

use std::path::Path;

#[test]
fn s179_the_header_has_freebsds_numbers_and_says_so() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/quire_pager.h");
    let header = std::fs::read_to_string(header).expect("the header");
    assert!(header.contains("are those of FreeBSD's VM_PAGER_ codes"));
    let numbers = ["OK", "BAD", "FAIL", "PEND", "ERROR", "AGAIN", "UNLOCK", "REFAULT"];
    for (number, name) in numbers.iter().enumerate() {
        let line = format!("#define QUIRE_PAGER_{name} {number}");
        assert!(header.lines().any(|l| l == line), "`{line}` is not in the header");
    }
}
