//! Pages in hand: the faulting one and its resident neighbours, and how they are entered.
//!
//! Being busied keeps them from going away. Nothing is allocated here, and no pager is called.

use alloc::sync::Arc;
use core::ops::Range;

use super::check::Window;
use super::verify::Found;
use super::{Fault, FaultCase, Goal, Outcome, Resolved, Stop};
use crate::machine::{EnterRun, NotEntered};
use crate::object::Object;
use crate::page::PageRef;
use crate::stats::Counter;
use crate::types::{Access, MAX_WINDOW, PAGE_SIZE, PageIndex, Prot, VirtAddr};

/// The resident pages of a window, each shared busied; dropping it unbusies them.
#[derive(Debug)]
pub(super) struct Gathered {
    pages: [Option<PageRef>; MAX_WINDOW],
    /// The rights of their mappings.
    prots: [Prot; MAX_WINDOW],
    pub(super) window: Window,
}

impl Gathered {
    /// Takes over the faulting page, shared busied.
    pub(super) fn new(window: Window, faulting: PageRef, prot: Prot) -> Self {
        let mut gathered = Self {
            pages: [None; MAX_WINDOW],
            prots: [prot; MAX_WINDOW],
            window,
        };
        gathered.pages[window.centre] = Some(faulting);
        gathered
    }

    /// Takes over a neighbour, shared busied.
    pub(super) fn add(&mut self, at: usize, page: PageRef, prot: Prot) {
        self.pages[at] = Some(page);
        self.prots[at] = prot;
    }

    /// The page that was asked for.
    pub(super) fn faulting(&self) -> PageRef {
        self.pages[self.window.centre].unwrap_or_else(|| unreachable!("it was taken over first"))
    }

    /// Those that can be written through their mappings.
    pub(super) fn writable(&self) -> impl Iterator<Item = PageRef> {
        let with_prots = self.pages[..self.window.len].iter().zip(&self.prots);
        with_prots.filter_map(|(page, prot)| page.filter(|_| prot.contains(Prot::WRITE)))
    }

    /// The unbroken run that holds the faulting page.
    pub(super) fn run_around(&self) -> Range<usize> {
        let centre = self.window.centre;
        let start = (0..centre)
            .rev()
            .take_while(|&i| self.goes_on(i))
            .last()
            .unwrap_or(centre);
        start..self.end_of_run(centre)
    }

    /// The other unbroken runs.
    fn other_runs(&self, around: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<'_> {
        let around = around.start;
        let mut from = 0;
        core::iter::from_fn(move || {
            loop {
                let start = (from..self.window.len).find(|&i| self.pages[i].is_some())?;
                let run = start..self.end_of_run(start);
                from = run.end;
                if start != around {
                    return Some(run);
                }
            }
        })
    }

    fn end_of_run(&self, start: usize) -> usize {
        (start..self.window.len)
            .find(|&i| !self.goes_on(i))
            .unwrap_or(self.window.len - 1)
            + 1
    }

    /// Whether the machine can be handed page `i` and the one behind it in one piece: both are there, follow each other in one object, and
    /// are mapped alike.
    #[inline]
    fn goes_on(&self, i: usize) -> bool {
        if i + 1 >= self.window.len {
            return false;
        }
        match (self.pages[i], self.pages[i + 1]) {
            (Some(page), Some(next))
                if self.prots[i] == self.prots[i + 1] && page.cache_mode() == next.cache_mode() =>
            {
                page.object()
                    .is_some_and(|object| next.is(object, PageIndex(page.index().0 + 1)))
            }
            _ => false,
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        for page in self.pages[..self.window.len].iter().flatten() {
            page.busy.release_shared();
        }
    }
}

/// Enters the faulting page, which is one of `object` and must succeed, and its neighbours, which may.
pub(super) fn enter(
    fault: &Fault<'_>,
    found: &Found<'_>,
    pages: &Gathered,
    object: &Arc<Object>,
    case: FaultCase,
) -> Result<Outcome, Stop> {
    let around = pages.run_around();
    let prot = pages.prots[pages.window.centre];
    let access = match case {
        FaultCase::TwoA => fault.access,
        FaultCase::OneA | FaultCase::OneB | FaultCase::TwoB => fault.own_access(prot),
    };
    if let Some(why) = enter_run(fault, found, pages, around.clone(), Some(access)) {
        return Err(Stop::not_entered(why, object, pages.faulting().index()));
    }
    if fault.goal == Goal::Wire {
        fault.map.engine().memory.wire(pages.faulting());
    }
    let mut neighbours = around.len() - 1;
    for run in pages.other_runs(&around) {
        let len = run.len();
        // A neighbour that cannot be entered will fault by itself, if it is ever used (N14).
        if enter_run(fault, found, pages, run, None).is_none() {
            neighbours += len;
        }
    }
    fault.count_neighbours(neighbours as u64);
    #[allow(clippy::cast_possible_truncation, reason = "less than MAX_WINDOW")]
    Ok(fault.entered(case, neighbours as u32))
}

impl Fault<'_> {
    pub(super) fn count_neighbours(&self, neighbours: u64) {
        if neighbours > 0 {
            let stats = self.map.engine().stats();
            stats.add(Counter::NeighboursMapped, neighbours);
        }
    }

    /// The page has been entered, and so many neighbours.
    pub(super) fn entered(&self, case: FaultCase, neighbours: u32) -> Outcome {
        if !self.restarted {
            self.map.engine().stats().count(Counter::FaultsResident);
        }
        Outcome::Entered(Resolved {
            case,
            resident: !self.restarted,
            neighbours,
        })
    }
}

/// Hands one run to the machine. With the faulting page in it, which is accessed, only that page's failure counts.
fn enter_run(
    fault: &Fault<'_>,
    found: &Found<'_>,
    pages: &Gathered,
    run: Range<usize>,
    access: Option<Access>,
) -> Option<NotEntered> {
    let mut list = [pages.faulting(); MAX_WINDOW];
    for (to, from) in list.iter_mut().zip(pages.pages[run.clone()].iter().flatten()) {
        *to = from;
    }
    let accessed = access.map(|access| (pages.window.centre - run.start, access));
    // Modulo 2^64: the run may begin before or behind the faulting page.
    let ahead = pages.window.first.0.wrapping_sub(found.index.0);
    let first_va = found.page_va.0.wrapping_add(ahead.wrapping_mul(PAGE_SIZE));
    let (entered, stopped) = fault.map.pmap().enter(&EnterRun {
        start: VirtAddr(first_va + run.start as u64 * PAGE_SIZE),
        pages: &list[..run.len()],
        prot: pages.prots[run.start],
        cache: list[0].cache_mode(),
        accessed,
        wired: fault.goal == Goal::Wire || found.entry.attr.wired > 0,
        can_fail: true,
    });
    let needed = accessed.map_or(run.len(), |(centre, _)| centre + 1);
    stopped.filter(|_| entered < needed)
}
