//! Images: what was packed comes back, and what is damaged says so.

#![allow(missing_docs, reason = "tests")]

use std::fs::{self, File};
use std::io::{Cursor, ErrorKind};

use quire_pager_snapshot::image::{Image, Unpacked};
use quire_pager_snapshot::pack::pack;

const BLOCK: u64 = 8192;

/// Three blocks and a piece: text that packs, zeros, noise that does not pack.
fn contents() -> Vec<u8> {
    let mut bytes = vec![0; 3 * 8192 + 1234];
    for (i, byte) in bytes[..8192].iter_mut().enumerate() {
        *byte = b"to be read again and again, "[i % 28];
    }
    let mut noise = 1_u32;
    for byte in &mut bytes[2 * 8192..] {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = noise.to_le_bytes()[3];
    }
    bytes
}

fn packed() -> Vec<u8> {
    let (contents, mut image) = (contents(), Cursor::new(Vec::new()));
    let packed = pack(&contents[..], contents.len() as u64, BLOCK, &mut image).expect("packs");
    assert_eq!(packed.length, image.get_ref().len() as u64);
    image.into_inner()
}

fn open(bytes: &[u8]) -> Result<Image, quire_pager::Error> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), bytes).expect("writes");
    Image::open(File::open(file.path()).expect("opens"))
}

fn refusal(bytes: &[u8]) -> String {
    open(bytes).expect_err("must be refused").to_string()
}

#[test]
fn what_was_packed_comes_back() {
    let (bytes, contents) = (packed(), contents());
    assert!(bytes.len() < contents.len() - 8192);
    let image = open(&bytes).expect("opens");
    assert_eq!((image.size(), image.block_size()), (contents.len() as u64, BLOCK));
    let mut room = Unpacked::default();
    for block in [0, 1, 2, 3, 3, 0, 2, 1] {
        let from = usize::try_from(block * BLOCK).expect("a size");
        let wanted = &contents[from..contents.len().min(from + 8192)];
        assert!(
            image.unpack(block, &mut room).expect("unpacks") == wanted,
            "block {block}"
        );
    }
    let text = image.unpack(4, &mut room).expect_err("behind the end").to_string();
    assert_eq!(text, "the image has no block 4");
}

#[test]
fn a_block_of_zeros_takes_no_room() {
    let mut image = Cursor::new(Vec::new());
    let packed = pack(&vec![0; 40_000][..], 40_000, BLOCK, &mut image).expect("packs");
    assert_eq!(packed.length, 32 + 8 * 6);
    let image = open(image.get_ref()).expect("opens");
    assert_eq!(
        image.unpack(4, &mut Unpacked::default()).expect("zeros"),
        [0; 40_000 - 4 * 8192]
    );
}

#[test]
fn what_no_image_has_is_not_packed() {
    for (size, block) in [(0, BLOCK), (100, 4095), (100, 2048), (100, 12_288), (100, 32 << 20)] {
        let error = pack(&[1; 100][..], size, block, Cursor::new(Vec::new())).expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let error = pack(&[1; 100][..], 101, BLOCK, Cursor::new(Vec::new())).expect_err("too few bytes");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_file_that_is_cut_short_is_refused_wherever_it_is_cut() {
    let (bytes, file) = (packed(), tempfile::NamedTempFile::new().expect("a file"));
    fs::write(file.path(), &bytes).expect("writes");
    for length in (0..bytes.len()).rev() {
        file.as_file().set_len(length as u64).expect("is cut");
        let opened = Image::open(File::open(file.path()).expect("opens"));
        let text = opened.expect_err("must be refused").to_string();
        let wanted = match length {
            0..32 => format!("no snapshot: it has {length} bytes"),
            32..72 => format!("cut short: the file has {length} bytes, and its index ends behind that"),
            _ => format!(
                "cut short: the file has {length} bytes, and its last block ends at byte {}",
                bytes.len()
            ),
        };
        assert!(text.starts_with(&wanted), "{length}: {text}");
    }
}

#[test]
fn every_flipped_bit_of_header_and_index_is_noticed() {
    let bytes = packed();
    for at in 0..72 {
        for bit in 0..8 {
            let mut bent = bytes.clone();
            bent[at] ^= 1 << bit;
            let text = refusal(&bent);
            let words = ["damaged", "cut short", "no snapshot"];
            assert!(words.iter().any(|word| text.starts_with(word)), "{at}: {text}");
        }
    }
}

#[test]
fn a_damaged_block_fails_and_the_others_do_not() {
    let (bytes, contents) = (packed(), contents());
    let begin = |block: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[32 + 8 * block..40 + 8 * block]);
        usize::try_from(u64::from_le_bytes(word)).expect("a place")
    };
    let block = |number: u64| {
        let from = usize::try_from(number * BLOCK).expect("a size");
        &contents[from..from + 8192]
    };
    let mut noticed = 0;
    // All of the packed text, and the ends of the noise, where the frame's own words are.
    let places = (begin(0)..begin(1))
        .chain(begin(2)..begin(2) + 8)
        .chain(begin(3) - 4..begin(3));
    for at in places {
        let mut bent = bytes.clone();
        bent[at] ^= 0x10;
        let image = open(&bent).expect("its header is good");
        let (bad, good) = if at < begin(1) { (0, 2) } else { (2, 0) };
        let mut room = Unpacked::default();
        match image.unpack(bad, &mut room) {
            // A bit that means nothing.
            Ok(same) => assert!(same == block(bad), "byte {at}: other bytes, and no error"),
            Err(error) => {
                let text = error.to_string();
                let named = text.starts_with(&format!("block {bad}, at bytes "));
                assert!(named && text.contains("damaged: "), "{text}");
                noticed += 1;
            }
        }
        assert!(image.unpack(good, &mut room).expect("unpacks") == block(good));
    }
    assert!(noticed > 40, "{noticed}");
}

#[test]
fn a_file_that_shrinks_while_it_is_open_fails_its_blocks() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), packed()).expect("writes");
    let image = Image::open(File::open(file.path()).expect("opens")).expect("an image");
    file.as_file().set_len(100).expect("shrinks");
    let text = image.unpack(2, &mut Unpacked::default()).expect_err("gone").to_string();
    assert!(text.starts_with("block 2, at bytes "), "{text}");
}
