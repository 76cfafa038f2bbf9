//! The inode numbers that the kernel knows, each for as long as it does.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::node::{Node, ROOT};

/// The table. It grows with what the kernel keeps of its own for each of them.
#[derive(Debug)]
pub(crate) struct Inodes(Mutex<HashMap<u64, (Node, u64)>>);

impl Inodes {
    /// With the topmost directory, which never goes.
    pub(crate) fn new(top: Node) -> Self {
        Self(Mutex::new(HashMap::from([(ROOT, (top, 1))])))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Node, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a number stands for.
    pub(crate) fn get(&self, number: u64) -> Option<Node> {
        self.lock().get(&number).map(|(node, _)| node.clone())
    }

    /// Notes that the kernel was told of something once more; its number.
    pub(crate) fn remember(&self, node: Node) -> u64 {
        let mut table = self.lock();
        let mut number = node.number();
        loop {
            match table.entry(number) {
                Slot::Vacant(slot) => {
                    slot.insert((node, 1));
                    return number;
                }
                Slot::Occupied(mut slot) if slot.get().0 == node => {
                    let (there, times) = slot.get_mut();
                    // What was said of its snapshot may have changed.
                    *there = node;
                    *times += 1;
                    return number;
                }
                // Two things of one number: the later one takes the next.
                Slot::Occupied(_) => number = number.wrapping_add(1).max(ROOT + 1),
            }
        }
    }

    /// Notes that the kernel forgot so many of the times it was told.
    pub(crate) fn forget(&self, number: u64, times: u64) {
        if number == ROOT {
            return;
        }
        let mut table = self.lock();
        if let Slot::Occupied(mut slot) = table.entry(number) {
            let left = slot.get().1.saturating_sub(times);
            if left == 0 {
                slot.remove();
            } else {
                slot.get_mut().1 = left;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelves::Shelf;

    #[test]
    fn numbers_last_as_long_as_the_kernel_knows_them_and_are_the_same_again() {
        let inodes = Inodes::new(Node::Shelf(Shelf::Top));
        let tag = || Node::Shelf(Shelf::Tag("a".into()));
        let number = inodes.remember(tag());
        assert_eq!(inodes.remember(tag()), number);
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_some_and(|node| node == tag()));
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_none());
        assert_eq!(inodes.remember(tag()), number);
        inodes.forget(ROOT, 100);
        assert!(inodes.get(ROOT).is_some());
    }

    #[test]
    fn two_things_never_share_a_number() {
        let inodes = Inodes::new(Node::Shelf(Shelf::Top));
        let (a, b) = (Node::Shelf(Shelf::Hosts), Node::Shelf(Shelf::Tags));
        let taken = a.number();
        inodes.lock().insert(taken, (b, 1));
        assert_eq!(inodes.remember(a), taken.wrapping_add(1));
    }
}
