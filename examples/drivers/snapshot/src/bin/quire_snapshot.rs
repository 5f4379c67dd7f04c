//! `quire-snapshot FILE IMAGE [BLOCK]`: packs a file into an image that the snapshot driver shows. `BLOCK` is the size of a block in bytes.

use std::env;
use std::fs::{self, File};
use std::io;
use std::process::ExitCode;

use quire_pager_snapshot::pack::{BLOCK_SIZE, Packed, pack};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (file, image, block) = match arguments.as_slice() {
        [file, image] => (file, image, Ok(BLOCK_SIZE)),
        [file, image, block] => (file, image, block.parse()),
        _ => {
            eprintln!("usage: quire-snapshot FILE IMAGE [BLOCK]");
            return ExitCode::from(2);
        }
    };
    let Ok(block) = block else {
        eprintln!("quire-snapshot: the size of a block is a number of bytes");
        return ExitCode::from(2);
    };
    match pack_file(file, image, block) {
        Ok(Packed { size, length }) => {
            println!("{image}: {length} bytes, for {size}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("quire-snapshot: {file} to {image}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pack_file(file: &str, image: &str, block: u64) -> io::Result<Packed> {
    let from = File::open(file)?;
    let size = from.metadata()?.len();
    // What is there stays until the new one is whole.
    let part = format!("{image}.part");
    let packed = File::create(&part).and_then(|to| pack(from, size, block, to));
    match packed.and_then(|packed| fs::rename(&part, image).map(|()| packed)) {
        Ok(packed) => Ok(packed),
        Err(error) => {
            let _absent = fs::remove_file(&part);
            Err(error)
        }
    }
}
