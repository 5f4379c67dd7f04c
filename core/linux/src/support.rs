//! What of the Linux machine is to be had here: asked of the kernel once, before an engine is built on it.

use std::ffi::CStr;
use std::fmt;

use rustix::io::Errno;
use thiserror::Error;

use crate::sys::{Features, Pagemap, Query, Reads, Refused, Region, Route, ScanFlags, Uffd};

/// Each feature the machine stands on, and the first Linux that has it.
const NEEDED: [(Features, &str, &str); 9] = [
    (Features::MISSING_SHMEM, "MISSING_SHMEM", "4.11"),
    (Features::SIGBUS, "SIGBUS", "4.14"),
    (Features::THREAD_ID, "THREAD_ID", "4.14"),
    (Features::MINOR_SHMEM, "MINOR_SHMEM", "5.14"),
    (Features::EXACT_ADDRESS, "EXACT_ADDRESS", "5.18"),
    (Features::WP_HUGETLBFS_SHMEM, "WP_HUGETLBFS_SHMEM", "5.19"),
    (Features::WP_UNPOPULATED, "WP_UNPOPULATED", "6.4"),
    (Features::POISON, "POISON", "6.6"),
    (Features::WP_ASYNC, "WP_ASYNC", "6.7"),
];

/// What this kernel lets this process do. It may change with the process's rights, so it is asked, not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// The best way to a userfaultfd.
    pub route: Route,
    /// Everything a userfaultfd can do here; the machine's needs are among it.
    pub features: Features,
    /// Whether a fork can be followed: the kernel may have [`Features::EVENT_FORK`], and the process not the right to it.
    pub fork_events: bool,
}

/// Why the Linux machine cannot be had: what is missing and what to do, as a sentence.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unsupported {
    /// The kernel has userfaultfd, and something keeps this process from it.
    #[error(
        "userfaultfd is refused to this process by {by} ({refused}): let the system call userfaultfd through there, or \
         give the process /dev/userfaultfd to open for reading and writing"
    )]
    Forbidden {
        /// A seccomp filter, or what else it can be.
        by: &'static str,
        /// What each way was answered.
        refused: Answers,
    },
    /// The kernel was built without it.
    #[error("this kernel ({release}) is built without userfaultfd: run one that has CONFIG_USERFAULTFD")]
    NotBuilt {
        /// The running kernel.
        release: String,
    },
    /// The kernel has userfaultfd for the privileged only, being older than user-mode-only ones.
    #[error(
        "userfaultfd needs privileges on this kernel ({release}), and it is older than Linux 6.7, which is needed: run a \
         newer kernel"
    )]
    Privileged {
        /// The running kernel.
        release: String,
    },
    /// A userfaultfd could not be opened for want of memory, descriptors, or another reason of the moment.
    #[error(
        "no userfaultfd could be opened ({0}): see to what the kernel says, for instance raise the limit of open files"
    )]
    NotNow(Answers),
    /// The kernel lacks something.
    #[error(
        "this kernel ({release}) lacks {feature}, which Linux has from {version} on (later on processors other than \
         x86-64): run a newer kernel"
    )]
    TooOld {
        /// The running kernel.
        release: String,
        /// A feature of userfaultfd, or an ioctl.
        feature: &'static str,
        /// The first Linux that has it.
        version: &'static str,
    },
    /// The process may not see its own page tables, by which dirty pages are found.
    #[error(
        "/proc/self/pagemap cannot be read ({0}): mount /proc, and if the process gave up privileges since it was \
         started, make it dumpable again with prctl(PR_SET_DUMPABLE, 1)"
    )]
    NoPagemap(Errno),
    /// A userfaultfd was opened and its handshake failed otherwise than by a missing feature.
    #[error("the userfaultfd that was opened does not answer ({0}): run a kernel that is not modified in this place")]
    Handshake(Errno),
}

/// What each way to a userfaultfd was answered, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers(pub Refused);

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused {
            device,
            syscall,
            user_mode_only,
        } = self.0;
        write!(
            f,
            "/dev/userfaultfd: {device}; the system call: {syscall}; for user mode only: {user_mode_only}"
        )
    }
}

impl Support {
    /// Asks the kernel: opens a userfaultfd as well as it can be had, compares features, and scans a page table.
    pub fn probe() -> Result<Support, Unsupported> {
        let (uffd, route) = Uffd::open_best(Reads::NonBlock).map_err(why_refused)?;
        let features = uffd.api(Features::empty()).map_err(Unsupported::Handshake)?;
        if let Some((feature, version)) = lacking(features) {
            return Err(Unsupported::TooOld {
                release: release(),
                feature,
                version,
            });
        }
        check_pagemap()?;
        Ok(Support {
            route,
            features,
            fork_events: has_fork_events(route),
        })
    }

    /// What cannot be done here although the machine can be had, and what to do about it, as a sentence.
    pub fn limits(&self) -> Option<&'static CStr> {
        (self.route == Route::UserModeOnly).then_some(
            c"only faults of the program itself can be served here, not those in a system call or by KVM, which fail with \
             EFAULT: open /dev/userfaultfd to this user for reading and writing, or set vm.unprivileged_userfaultfd to 1",
        )
    }
}

/// The newest needed feature that is not among these: who has that has the others.
fn lacking(features: Features) -> Option<(&'static str, &'static str)> {
    let newest = NEEDED.iter().rev().find(|(feature, ..)| !features.contains(*feature))?;
    Some((newest.1, newest.2))
}

/// Reads the page table of one page, with the ioctl that finds the written ones.
fn check_pagemap() -> Result<(), Unsupported> {
    let pagemap = Pagemap::open().map_err(Unsupported::NoPagemap)?;
    let page = rustix::param::page_size();
    let here = std::ptr::from_ref(&pagemap).addr() & !(page - 1);
    match pagemap.scan(
        here,
        here + page,
        Query::WRITTEN,
        ScanFlags::empty(),
        &mut [Region::EMPTY; 1],
    ) {
        Ok(_) => Ok(()),
        Err(Errno::NOTTY) => Err(Unsupported::TooOld {
            release: release(),
            feature: "PAGEMAP_SCAN",
            version: "6.7",
        }),
        Err(errno) => Err(Unsupported::NoPagemap(errno)),
    }
}

fn has_fork_events(route: Route) -> bool {
    Uffd::open(route, Reads::NonBlock).is_ok_and(|uffd| uffd.api(Features::EVENT_FORK).is_ok())
}

/// Any process may have a user-mode-only userfaultfd, so what that was answered tells most.
fn why_refused(refused: Refused) -> Unsupported {
    let answers = Answers(refused);
    // The kernel has this file exactly when it was built with userfaultfd.
    let built = std::fs::exists("/proc/sys/vm/unprivileged_userfaultfd").unwrap_or(false);
    match refused.user_mode_only {
        Errno::NOSYS if !built => Unsupported::NotBuilt { release: release() },
        Errno::PERM | Errno::ACCESS | Errno::NOSYS => Unsupported::Forbidden {
            by: forbidder(),
            refused: answers,
        },
        Errno::INVAL => Unsupported::Privileged { release: release() },
        _ => Unsupported::NotNow(answers),
    }
}

/// Who refuses what the kernel allows to everyone.
fn forbidder() -> &'static str {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filtered = status
        .lines()
        .any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
    if filtered {
        "a seccomp filter (a container's profile)"
    } else {
        "a security policy of this system"
    }
}

/// The running kernel's release, as `uname` tells it.
fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
