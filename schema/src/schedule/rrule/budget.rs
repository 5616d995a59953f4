//! What one question may cost: steps of all the rules of a set together.
//!
//! A step is a day, a period or an instant that was looked at and did not match. Without a common budget a set could
//! multiply what one rule costs: by its rules, and by each EXDATE that is passed.

use std::cell::Cell;

use super::super::GaveUp;

/// Enough for a grid that meets the clock once in 137 years (one step a day), or for nearly a thousand years of
/// weeks; the calendar repeats after 400.
const MOST: u32 = 50_000;

/// Four for each occurrence of the longest COUNT.
const MOST_COUNTING: u32 = 400_000;

#[derive(Debug)]
pub(super) struct Budget {
    all: u32,
    left: Cell<u32>,
}

impl Budget {
    /// For the next occurrence.
    pub(super) fn for_next() -> Self {
        Self::new(MOST)
    }

    /// For finding where the COUNTs of a set end, once, when it is read.
    pub(super) fn for_counts() -> Self {
        Self::new(MOST_COUNTING)
    }

    fn new(all: u32) -> Self {
        Self { all, left: Cell::new(all) }
    }

    pub(super) fn step(&self) -> Result<(), GaveUp> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(GaveUp { steps: self.all }),
        }
    }

    pub(super) fn steps(&self) -> u32 {
        self.all - self.left.get()
    }
}
