//! Reading ahead: in order, several at once, and never more than was allowed.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const MOST: u64 = 100;

/// Numbered items of sizes up to a third of what is allowed, and two that are larger than all of it.
fn items() -> Vec<(usize, u64)> {
    let size = |n| if n % 70 == 33 { 5 * MOST } else { 1 + n as u64 * 7 % 33 };
    (0..200).map(|n| (n, size(n))).collect()
}

#[test]
fn what_is_read_and_not_taken_is_bounded() {
    let world = World::new(Limits::default());
    let (now, at_once) = (AtomicU64::new(0), AtomicU64::new(0));
    let (items, mut taken) = (items(), 0);
    let read = |n: &usize| {
        let size = items[*n].1;
        let held = now.fetch_add(size, Ordering::SeqCst) + size;
        assert!(held <= MOST || held == size, "{held} with item {n} of {size}");
        at_once.fetch_max(held / size, Ordering::SeqCst);
        Ok(*n)
    };
    let take = |n: &usize, read| {
        assert_eq!((*n, read), (taken, taken), "in order");
        taken += 1;
        // Before the window learns of it: then it is never more than the window says.
        now.fetch_sub(items[*n].1, Ordering::SeqCst);
        Ok(())
    };
    world.repository.each_in_order(&items, (MOST, 1), read, take).expect("all");
    assert_eq!((taken, now.into_inner()), (items.len(), 0));
    assert!(at_once.into_inner() > 1, "ahead");
    let nothing: &[(usize, u64)] = &[];
    let never = |_: &usize| -> Result<usize> { unreachable!("nothing to read") };
    world.repository.each_in_order(nothing, (MOST, 1), never, |_, _| Ok(())).expect("none");
}

#[test]
fn items_that_are_listed_as_empty_count_as_well() {
    let world = World::new(Limits::default());
    let (read, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let items: Vec<(usize, u64)> = (0..200).map(|n| (n, 0)).collect();
    let read_one = |_: &usize| {
        let ahead = read.fetch_add(1, Ordering::SeqCst) + 1 - taken.load(Ordering::SeqCst);
        assert!(ahead <= 4, "{ahead} ahead, each of which counts for a quarter of what is allowed");
        Ok(())
    };
    let take = |_: &usize, ()| {
        // As above. Time for the others to run ahead.
        std::thread::sleep(std::time::Duration::from_micros(100));
        taken.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    world.repository.each_in_order(&items, (MOST, MOST / 4), read_one, take).expect("all");
    assert_eq!(taken.into_inner(), 200);
}

#[test]
fn the_first_error_ends_it() {
    let world = World::new(Limits::default());
    let items = items();
    for bad in [0, 1, 57, 199] {
        let error = || Error::Worker("bad".into());
        let mut taken = 0;
        let read = |n: &usize| if *n == bad { Err(error()) } else { Ok(()) };
        let count = |_: &usize, ()| {
            taken += 1;
            Ok(())
        };
        let result = world.repository.each_in_order(&items, (MOST, 1), read, count);
        assert!(matches!(result, Err(Error::Worker(_))));
        assert_eq!(taken, bad, "those before it");
        let take = |n: &usize, ()| if *n == bad { Err(error()) } else { Ok(()) };
        let result = world.repository.each_in_order(&items, (MOST, 1), |_| Ok(()), take);
        assert!(matches!(result, Err(Error::Worker(_))));
    }
}
