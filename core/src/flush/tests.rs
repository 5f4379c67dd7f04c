//! The table of dirtiness, against every sequence of events.

use proptest::prelude::*;

use crate::machine::Harvest;
use crate::page::{self, Dirtiness};

/// What can happen to a page's dirtiness.
#[derive(Clone, Copy, Debug)]
enum Event {
    MappedWritable,
    Written,
    /// Mappings are write-protected; the machine had collected a modified bit, or not.
    Collected(bool),
    PutBegins,
    PutSucceeds,
    PutFails,
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::MappedWritable),
        Just(Event::Written),
        any::<bool>().prop_map(Event::Collected),
        Just(Event::PutBegins),
        Just(Event::PutSucceeds),
        Just(Event::PutFails),
    ]
}

/// The table at the top of the page's module, once more. `since`: written since the last put began.
fn expected(from: Dirtiness, event: Event, since: bool, mapped: bool) -> Dirtiness {
    use Dirtiness::{Clean, Dirty, Unknown};
    match (from, event) {
        (Clean, Event::MappedWritable) | (Unknown, Event::PutBegins) => Unknown,
        (Clean | Unknown, Event::Written) | (Unknown, Event::Collected(true)) => Dirty,
        (Unknown, Event::Collected(false)) => Clean,
        (Dirty, Event::PutSucceeds) if !since && mapped => Unknown,
        (Dirty, Event::PutSucceeds) if !since => Clean,
        (same, _) => same,
    }
}

proptest! {
    #[test]
    fn n5_dirtiness_changes_only_as_the_table_says(steps in proptest::collection::vec(events(), 1..64)) {
        let page = page::allocate().unwrap();
        let (mut since, mut mapped) = (false, false);
        for event in steps {
            let before = page.dirtiness();
            match event {
                Event::MappedWritable => { page.note_writable(); mapped = true; }
                Event::Written => { page.note_modified(); since = true; }
                Event::Collected(modified) => {
                    // A modified bit comes from a writable mapping.
                    let modified = modified && mapped;
                    Harvest { modified, referenced: false }.record(page);
                    page.settle();
                    since |= modified;
                    let want = expected(before, Event::Collected(modified), since, mapped);
                    mapped = false;
                    prop_assert_eq!(page.dirtiness(), want);
                    continue;
                }
                Event::PutBegins => { page.put_begins(); since = false; }
                Event::PutSucceeds => page.put_succeeded(),
                Event::PutFails => {}
            }
            prop_assert_eq!(page.dirtiness(), expected(before, event, since, mapped), "{:?} of {:?}", event, before);
        }
        page::free(page);
    }
}
