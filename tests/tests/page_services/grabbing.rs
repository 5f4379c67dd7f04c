//! Grabbing: row F17.

use super::*;

#[test]
fn f17_grab_brings_contents_makes_pages_and_says_what_it_does_not() {
    on_every_machine(|rig| {
        let (script, object) = rig.object(8);
        assert_eq!(grab(&object, 0, GrabFlags::NOCREAT), Err(PageError::Absent));
        assert_eq!(grab(&object, 8, GrabFlags::empty()), Err(PageError::BeyondObject));
        let page = grab(&object, 0, GrabFlags::CONTENTS).unwrap();
        assert!(page.is_exclusive().unwrap() && page.is_valid().unwrap());
        assert_eq!(bytes(page), pattern(0));
        assert_eq!(grab(&object, 0, GrabFlags::NOWAIT), Err(PageError::Busy));
        page.release_exclusive().unwrap();
        assert_eq!(grab(&object, 0, GrabFlags::NOCREAT), Ok(page));
        page.release_exclusive().unwrap();

        let zeros = grab(&object, 1, GrabFlags::ZERO).unwrap();
        assert!(
            zeros.is_valid().unwrap() && zeros.is_dirty().unwrap(),
            "its pager has something else"
        );
        assert_eq!(bytes(zeros), vec![0; PAGE_BYTES]);
        zeros.release_exclusive().unwrap();
        let shared = grab(&object, 2, GrabFlags::SBUSY | GrabFlags::ZERO).unwrap();
        assert!(shared.is_shared().unwrap());
        assert_eq!(grab(&object, 2, GrabFlags::SBUSY | GrabFlags::NOCREAT), Ok(shared));
        shared.release_shared().unwrap();
        shared.release_shared().unwrap();

        let looked_at = grab(&object, 2, GrabFlags::NOBUSY | GrabFlags::NOCREAT).unwrap();
        assert!(!looked_at.is_busied().unwrap());
        assert!(looked_at.try_shared().unwrap());
        let passing = GrabFlags::NOBUSY | GrabFlags::IGN_SBUSY | GrabFlags::NOWAIT | GrabFlags::NOCREAT;
        assert_eq!(grab(&object, 2, passing), Ok(looked_at));
        assert_eq!(grab(&object, 2, passing - GrabFlags::IGN_SBUSY), Err(PageError::Busy));
        looked_at.release_shared().unwrap();

        let wired = grab(&object, 3, GrabFlags::CONTENTS | GrabFlags::WIRED | GrabFlags::NOBUSY).unwrap();
        assert_eq!((wired.wire_count(), wired.is_busied()), (Ok(1), Ok(false)));
        wired.unwire().unwrap();
        assert_eq!(script.stored(3), pattern(3));
        is_misuse(grab(&object, 4, GrabFlags::SBUSY));
        is_misuse(grab(&object, 4, GrabFlags::NOBUSY));
        is_misuse(grab(&object, 4, GrabFlags::SBUSY | GrabFlags::NOBUSY | GrabFlags::ZERO));
        is_misuse(grab(&object, 4, GrabFlags::ZERO | GrabFlags::CONTENTS));
        assert_eq!(object.resident(), 4);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(1), vec![0; PAGE_BYTES]);
        done(rig, object);
    });
}

#[test]
fn f17_count_grabs_a_run_that_its_pager_brings_in_one_piece() {
    on_every_machine(|rig| {
        let ops = PagerOps::PUT | PagerOps::HAS_PAGE;
        let (script, pager) = Script::with(ops, 256);
        script.offers(0, 16);
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let mut pages = Vec::new();
        let grabbed = PageHandle::grab(
            object.object(),
            PageIndex(2),
            4,
            GrabFlags::CONTENTS,
            Caller::Program,
            |page| {
                pages.push(page);
            },
        );
        assert_eq!((grabbed, pages.len()), (Ok(4), 4));
        let gets: Vec<_> = script
            .calls()
            .into_iter()
            .filter(|call| matches!(call, Call::Get(..)))
            .collect();
        assert_eq!(gets, [Call::Get(2, 4)]);
        for (page, index) in pages.iter().zip(2..) {
            assert_eq!(bytes(*page), pattern(index));
            page.release_exclusive().unwrap();
        }
        let to_the_end = PageHandle::grab(
            object.object(),
            PageIndex(6),
            9,
            GrabFlags::CONTENTS,
            Caller::Program,
            |page| {
                page.release_exclusive().unwrap();
            },
        );
        assert_eq!(to_the_end, Ok(2), "the object ends there");
        done(rig, object);
    });
}

#[test]
fn f17_waitfail_waits_once_and_nowait_never() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(2);
        let page = resident(&object, 0);
        page.exclusive("own").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| grab(&object, 0, GrabFlags::WAITFAIL));
            until_listed("grab", 1);
            page.release_exclusive().unwrap();
            assert_eq!(waiting.join().unwrap(), Err(PageError::Busy));
        });
        page.exclusive("own").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| grab(&object, 0, GrabFlags::empty()));
            until_listed("grab", 1);
            page.release_exclusive().unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(page));
        });
        page.release_exclusive().unwrap();
        assert_eq!(
            grab(&object, 1, GrabFlags::CONTENTS | GrabFlags::NOWAIT),
            Err(PageError::Busy)
        );
        done(rig, object);
    });
}

#[test]
fn f17_what_its_pager_cannot_bring_is_told() {
    on_every_machine(|rig| {
        let (script, object) = rig.object(1);
        script.next_gets([Twist::Fail(quire_core::error::Cause::Io)]);
        assert!(matches!(
            grab(&object, 0, GrabFlags::CONTENTS),
            Err(PageError::Failed(Error::Pager(_)))
        ));
        assert_eq!(object.resident(), 0);
        done(rig, object);
    });
}
