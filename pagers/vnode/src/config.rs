//! What the host's configuration text may say.

use quire_pager::{Error, Result};

/// Which engine moves the bytes of requests that may complete later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Io {
    /// The best that the system allows: a ring, else threads.
    Auto,
    /// A ring, or no pager.
    Uring,
    /// Threads.
    Threads,
    /// None: every request is done on the thread that asks.
    Sync,
}

/// The configuration of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) io: Io,
    /// Files are opened with `O_DIRECT` beside the ordinary descriptor.
    pub(crate) direct: bool,
    /// The most requests under way at once; more are done on the threads that ask.
    pub(crate) depth: usize,
    /// Threads of the pool.
    pub(crate) threads: usize,
    /// Puts into the page cache are handed over like others, in place of being made at once.
    pub(crate) later: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            io: Io::Auto,
            direct: false,
            // Several devices' queues of 32; half a MiB of memory.
            depth: 128,
            // What a device needs in flight to show its best; they sleep unless there is work.
            threads: 16,
            later: false,
        }
    }
}

impl Config {
    /// Reads `name=value` pairs, separated by commas or white space. An unknown name or value is an error that says what
    /// would do.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let mut config = Self::default();
        let words = text.unwrap_or_default().split(|c: char| c == ',' || c.is_whitespace());
        for word in words.filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').ok_or_else(|| {
                Error::invalid(format!("`{word}` in the configuration is not of the form name=value"))
            })?;
            match name {
                "io" => config.io = io(value)?,
                "direct" => config.direct = number(name, value, 0..=1)? == 1,
                "depth" => config.depth = number(name, value, 1..=4096)?,
                "threads" => config.threads = number(name, value, 1..=256)?,
                "later" => config.later = number(name, value, 0..=1)? == 1,
                _ => {
                    return Err(Error::invalid(format!(
                        "the configuration has no `{name}`; it has io, direct, depth, threads and later"
                    )));
                }
            }
        }
        Ok(config)
    }
}

fn io(value: &str) -> Result<Io> {
    Ok(match value {
        "auto" => Io::Auto,
        "uring" => Io::Uring,
        "threads" => Io::Threads,
        "sync" => Io::Sync,
        _ => {
            return Err(Error::invalid(format!(
                "`io={value}` in the configuration; io is auto, uring, threads or sync"
            )));
        }
    })
}

fn number(name: &str, value: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Error::invalid(format!(
            "`{name}={value}` in the configuration; {name} is a number from {} to {}",
            range.start(),
            range.end()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(Config::parse(None), Ok(Config::default()));
        assert_eq!(Config::parse(Some(" , ")), Ok(Config::default()));
    }

    #[test]
    fn every_option_is_heard() {
        let config = Config::parse(Some("io=threads, direct=1 depth=7,threads=3,later=1")).expect("is right");
        let expected = Config {
            io: Io::Threads,
            direct: true,
            depth: 7,
            threads: 3,
            later: true,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_would_do() {
        for (text, part) in [
            ("io", "not of the form name=value"),
            ("io=fast", "io is auto, uring, threads or sync"),
            ("speed=9", "it has io, direct, depth, threads and later"),
            ("direct=yes", "a number from 0 to 1"),
            ("depth=0", "a number from 1 to 4096"),
            ("threads=-1", "a number from 1 to 256"),
        ] {
            let error = Config::parse(Some(text)).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
