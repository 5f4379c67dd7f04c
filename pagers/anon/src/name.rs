//! What is to be opened, as the name says it: `PLACE[,option=value]…`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use quire_pager::{Error, Result};

use crate::codec::Packing;

/// Where slots are kept that are not kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// Nowhere: all are in memory.
    Memory,
    /// In a regular file or on a block device.
    Path(&'a Path),
}

/// A swap area as it was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub(crate) place: Place<'a>,
    /// Bytes, as said.
    pub(crate) size: Option<u64>,
    pub(crate) packing: Packing,
    /// The most memory that kept pages may take, in bytes.
    pub(crate) pool: Option<u64>,
}

impl<'a> Name<'a> {
    /// Reads a name. The place ends at the first comma, so a path with a comma in it cannot be named.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self> {
        let mut words = text.split(|&byte| byte == b',');
        let mut name = Self {
            place: place(words.next().unwrap_or_default())?,
            size: None,
            packing: Packing::None,
            pool: None,
        };
        let mut packing = None;
        for word in words {
            let word = str::from_utf8(word).map_err(|_| Error::invalid("an option in the name is not UTF-8"))?;
            let (option, value) = word
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("`{word}` in the name is not of the form option=value")))?;
            match option {
                "size" => once(option, &mut name.size, bytes(option, value)?)?,
                "pool" => once(option, &mut name.pool, bytes(option, value)?)?,
                "compress" => once(option, &mut packing, method(value)?)?,
                _ => {
                    return Err(Error::invalid(format!(
                        "a swap area has no option `{option}`; it has size, compress and pool (a path cannot hold a comma)"
                    )));
                }
            }
        }
        name.packing = packing.unwrap_or(Packing::None);
        name.fits_together()
    }

    fn fits_together(self) -> Result<Self> {
        match self.place {
            Place::Memory if self.size.is_none() => Err(Error::invalid(
                "swap in memory needs a size; say memory,size=1G, for one",
            )),
            Place::Path(_) if self.packing == Packing::None && self.pool.is_some() => Err(Error::invalid(
                "pool= is for compressed pages, and these are not; say compress=lz4 or compress=zstd as well",
            )),
            _ => Ok(self),
        }
    }
}

fn place(word: &[u8]) -> Result<Place<'_>> {
    match word {
        b"" => Err(Error::invalid(
            "the name says no place for the swap area; begin it with a path, or with memory",
        )),
        b"memory" => Ok(Place::Memory),
        path => Ok(Place::Path(Path::new(OsStr::from_bytes(path)))),
    }
}

fn once<T>(option: &str, place: &mut Option<T>, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("the name says {option}= twice"))),
    }
}

fn method(value: &str) -> Result<Packing> {
    match value {
        "none" => Ok(Packing::None),
        "lz4" => Ok(Packing::Lz4),
        "zstd" => Ok(Packing::Zstd),
        _ => Err(Error::invalid(format!(
            "`compress={value}` in the name; compress is none, lz4 or zstd"
        ))),
    }
}

/// A number of bytes: digits, and K, M, G or T for powers of 1024.
fn bytes(option: &str, value: &str) -> Result<u64> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'K') => (&value[..value.len() - 1], 1 << 10),
        Some(b'M') => (&value[..value.len() - 1], 1 << 20),
        Some(b'G') => (&value[..value.len() - 1], 1 << 30),
        Some(b'T') => (&value[..value.len() - 1], 1 << 40),
        _ => (value, 1_u64),
    };
    // `parse` would take a sign.
    let number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok());
    let bytes = number.flatten().and_then(|number: u64| number.checked_mul(unit));
    bytes.ok_or_else(|| {
        Error::invalid(format!(
            "`{option}={value}` in the name; {option} is a number of bytes below 2^64, such as 4096, 64K, 512M or 2G"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Name<'_>> {
        Name::parse(text.as_bytes())
    }

    #[test]
    fn a_path_alone_is_a_swap_area_without_compression() {
        let name = parse("/var/swap").expect("is right");
        let expected = Name {
            place: Place::Path(Path::new("/var/swap")),
            size: None,
            packing: Packing::None,
            pool: None,
        };
        assert_eq!(name, expected);
        let path = Name::parse(b"/\xff").expect("a path is bytes").place;
        assert_eq!(path, Place::Path(Path::new(OsStr::from_bytes(b"/\xff"))));
    }

    #[test]
    fn every_option_is_heard() {
        let name = parse("memory,size=3G,compress=zstd,pool=70K").expect("is right");
        let expected = Name {
            place: Place::Memory,
            size: Some(3 << 30),
            packing: Packing::Zstd,
            pool: Some(70 << 10),
        };
        assert_eq!(name, expected);
        for (text, size) in [("12", 12), ("1K", 1 << 10), ("2M", 2 << 20), ("16383T", 16383 << 40)] {
            assert_eq!(bytes("size", text), Ok(size));
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_would_do() {
        for (text, part) in [
            ("", "begin it with a path"),
            (",size=1M", "begin it with a path"),
            ("memory", "swap in memory needs a size"),
            ("/a,size", "not of the form option=value"),
            ("/a,", "not of the form option=value"),
            ("/a,speed=9", "it has size, compress and pool"),
            ("/a,size=", "a number of bytes"),
            ("/a,size=K", "a number of bytes"),
            ("/a,size=-1", "a number of bytes"),
            ("/a,size=+1", "a number of bytes"),
            ("/a,size=1k", "a number of bytes"),
            ("/a,size=16777216T", "a number of bytes below 2^64"),
            ("/a,size=99999999999999999999", "a number of bytes below 2^64"),
            ("/a,size=1M,size=1M", "says size= twice"),
            ("/a,compress=gzip", "compress is none, lz4 or zstd"),
            ("/a,pool=1M", "pool= is for compressed pages"),
            ("/a,compress=none,pool=1M", "pool= is for compressed pages"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = Name::parse(b"/a,\xff=1").expect_err("no text").to_string();
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
