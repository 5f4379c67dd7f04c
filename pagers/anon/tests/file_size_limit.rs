//! A process that may not write files as large as its swap file. The limit is the whole process's, so this test has one of its own.

mod support;

use quire_pager::abi::QUIRE_PAGER_OK;
use quire_pager::testing::PAGE_SIZE;
use support::{Kind, anon, page};

#[test]
fn a_page_beyond_the_limit_of_the_process_is_an_error_that_says_so() {
    let (host, folder) = (anon(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("swap");
    let area = host.open(&format!("{},size=64K", path.display())).expect("opens");
    let _limited = Limited::to(3 * PAGE_SIZE as u64 + 100);
    let pages: Vec<u8> = (0..6).flat_map(|slot| page(Kind::Noise, slot)).collect();
    let answer = area.put(0, &pages);
    let statuses: Vec<_> = answer.pages.iter().map(|page| page.status).collect();
    let fbig = -libc::EFBIG;
    assert_eq!((answer.status, statuses), (fbig, vec![0, 0, 0, fbig, fbig, fbig]));
    assert!(
        answer.text.contains("larger than this process may write"),
        "{}",
        answer.text
    );
    for slot in 0..3 {
        let answer = area.get(slot, 1);
        assert_eq!(answer.status, QUIRE_PAGER_OK);
        assert!(
            answer.pages[0].bytes == page(Kind::Noise, slot),
            "a short write was continued"
        );
    }
    let other = folder.path().join("other");
    let failure = host
        .open(&format!("{},size=64K", other.display()))
        .expect_err("too large");
    assert_eq!(failure.status, fbig);
    assert!(
        failure.text.contains("it cannot have 65536 bytes: ftruncate"),
        "{failure}"
    );
    assert!(!other.exists(), "what was made for it goes again");
}

/// A limit on the files of this process, until this is dropped: what the test says may go to a file that is longer already.
struct Limited(libc::rlimit);

impl Limited {
    fn to(bytes: u64) -> Self {
        let mut before = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the signal is ignored from here on, and both limits are valid for as long as they are used.
        unsafe {
            assert_ne!(libc::signal(libc::SIGXFSZ, libc::SIG_IGN), libc::SIG_ERR);
            assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut before), 0);
            let limit = libc::rlimit {
                rlim_cur: bytes,
                ..before
            };
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
        }
        Self(before)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // SAFETY: the limit is the one that was there before.
        unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const self.0) };
    }
}
