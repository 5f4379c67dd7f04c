//! Frames: reserves, accounting, placements.

use super::*;
use crate::error::Error;
use crate::machine::FrameCounts;
use crate::soft::{Failure, Injection};
use crate::types::Frame;

#[test]
fn a_machine_that_makes_no_sense_is_refused() {
    let made = |frames, reserve_daemon, reserve_kernel| {
        SoftMachine::new(SoftConfig {
            frames,
            reserve_daemon,
            reserve_kernel,
            ..SoftConfig::default()
        })
        .map(|_| ())
    };
    assert!(matches!(made(0, 0, 0), Err(Error::Invalid(_))));
    assert!(matches!(made(1 << 32, 0, 0), Err(Error::Invalid(_))));
    assert!(matches!(made(8, 5, 4), Err(Error::Invalid(_))));
    assert!(matches!(made(8, u64::MAX, 9), Err(Error::Invalid(_))));
    assert_eq!(made(8, 5, 3), Ok(()));
}

#[test]
fn the_modes_are_all_different_and_the_first_is_not_awkward() {
    let modes = SoftConfig::awkward_modes();
    assert_eq!(modes[0], SoftConfig::default());
    for (i, mode) in modes.iter().enumerate() {
        assert!(modes[..i].iter().all(|other| other != mode));
    }
}

#[test]
fn s190_each_reserve_level_stops_where_the_next_goes_on() {
    for mode in SoftConfig::awkward_modes() {
        let config = SoftConfig {
            frames: 10,
            reserve_daemon: 2,
            reserve_kernel: 3,
            ..mode
        };
        let machine = SoftMachine::new(config).unwrap();
        let mut next = 0;
        let mut taken = Vec::new();
        let mut take_all = |reserve| {
            let before = taken.len();
            while let Some(frame) = machine.frame_alloc(place(next), reserve) {
                assert!(!taken.contains(&frame));
                taken.push(frame);
                next += 1;
            }
            taken.len() - before
        };
        assert_eq!(take_all(Reserve::Ordinary), 5);
        assert_eq!(take_all(Reserve::Kernel), 3);
        assert_eq!(take_all(Reserve::Ordinary), 0);
        assert_eq!(take_all(Reserve::Daemon), 2);
        assert_eq!(
            machine.frame_counts(),
            FrameCounts {
                total: 10,
                free: 0,
                reserved: 5
            }
        );
        for frame in taken.drain(..6) {
            machine.frames_free(&[frame]);
        }
        assert_eq!(machine.frame_counts().free, 6);
        assert!(machine.frame_alloc(place(100), Reserve::Ordinary).is_some());
        assert!(machine.frame_alloc(place(101), Reserve::Ordinary).is_none());
    }
}

#[test]
fn every_frame_can_be_used_and_holds_a_page_of_its_own() {
    for mode in SoftConfig::awkward_modes() {
        // More than two chunks, the last one short.
        let machine = SoftMachine::new(SoftConfig { frames: 600, ..mode }).unwrap();
        let all: Vec<PageRef> = (0..588).map(|index| valid_page(&machine, index)).collect();
        for (page, byte) in all.iter().zip((0..251).cycle()) {
            machine.copy_in(page, 0, &[byte; 4096]);
        }
        for (page, byte) in all.iter().zip((0..251).cycle()) {
            let mut bytes = [0; 4096];
            machine.copy_out(page, 0, &mut bytes);
            assert_eq!(bytes, [byte; 4096]);
        }
        finish(&machine, Vec::new(), &all);
    }
}

#[test]
fn freeing_what_is_not_in_use_is_caught() {
    for machine in machines() {
        let frame = machine.frame_alloc(place(0), Reserve::Ordinary).unwrap();
        machine.frames_free(&[frame]);
        assert!(panic_of(|| machine.frames_free(&[frame])).contains("freed twice"));
        assert!(panic_of(|| machine.frames_free(&[Frame(1 << 40)])).contains("does not belong"));
    }
}

#[test]
fn freeing_a_frame_that_is_mapped_is_caught() {
    for machine in machines() {
        let (page, pmap) = (valid_page(&machine, 0), pmap(&machine));
        enter(&pmap, 0, page, RW);
        assert!(panic_of(|| machine.frames_free(&[page.frame()])).contains("while it was mapped"));
        finish(&machine, Vec::from([pmap]), &[page]);
    }
}

#[test]
fn an_ordered_failure_to_allocate_comes_once_and_passes() {
    for machine in machines() {
        machine.inject(Injection {
            failure: Failure::Frame,
            after: 1,
            times: 2,
        });
        let answers: Vec<bool> = (0..5)
            .map(|index| machine.frame_alloc(place(index), Reserve::Ordinary).is_some())
            .collect();
        assert_eq!(answers, [true, false, false, true, true]);
    }
}

fn fixed(frames: u64) -> Arc<SoftMachine> {
    let config = SoftConfig {
        frames,
        reserve_daemon: 0,
        reserve_kernel: 0,
        fixed_frames: true,
        ..SoftConfig::default()
    };
    SoftMachine::new(config).unwrap()
}

#[test]
fn a_fixed_frame_comes_back_to_its_placement_and_to_nobody_else_while_it_is_in_use() {
    let machine = fixed(3);
    let take = |index| machine.frame_alloc(place(index), Reserve::Ordinary);
    let (a, b) = (take(1).unwrap(), take(2).unwrap());
    assert_eq!(take(1), None, "its frame is in use, and there is no other");
    machine.frames_free(&[a]);
    machine.frames_free(&[b]);
    assert_eq!(take(1), Some(a));
    assert_eq!(take(2), Some(b));
    machine.frames_free(&[a]);
    let c = take(3).unwrap();
    assert_ne!(c, a, "a frame that was never used is taken before one that is known");
    // Now only the frame of placement 1 is left: it goes to another one, and placement 1 is forgotten.
    assert_eq!(take(4), Some(a));
    assert_eq!(take(5), None);
    machine.frames_free(&[b]);
    assert_eq!(take(1), Some(b));
    for frame in [a, b, c] {
        machine.frames_free(&[frame]);
    }
    assert_eq!(machine.frame_counts().free, 3);
}

#[test]
fn a_page_in_the_frame_of_another_placement_is_refused_until_it_is_moved() {
    let machine = fixed(4);
    let (page, pmap) = (valid_page(&machine, 1), pmap(&machine));
    let old = page.frame();
    machine.copy_in(page, 100, b"carried over");
    page.leave_object();
    page.enter_object(ObjectId(9), PageIndex(7));
    assert_eq!(pmap.enter(&run(0, &[page], RW)), (0, Some(NotEntered::NotHere)));
    assert_eq!(prot_at(&pmap, 0), None);

    let home = Placement {
        owner: ObjectId(9),
        index: PageIndex(7),
    };
    machine.inject(Injection {
        failure: Failure::Frame,
        after: 0,
        times: 1,
    });
    assert!(machine.rehome(page, home).is_err());
    let new = machine.rehome(page, home).unwrap();
    page.set_frame(new);
    assert_ne!(new, old);
    assert_eq!(machine.frame_counts().free, 3);
    enter(&pmap, 0, page, RW);
    assert_eq!(load(&pmap, 100), Ok(*b"carried over"));

    pmap.remove(pages(0, 1));
    assert_eq!(machine.rehome(page, home), Ok(new), "it is at home");
    finish(&machine, Vec::from([pmap]), &[page]);
}

#[test]
fn where_frames_are_not_fixed_a_page_stays_where_it_is() {
    let machine = SoftMachine::new(SoftConfig::default()).unwrap();
    let page = valid_page(&machine, 1);
    assert_eq!(machine.rehome(page, place(2)), Ok(page.frame()));
    give_back(&machine, page);
}
