//! I8: no more calls are inside at once than a concurrency key lets in.

use jiff::Timestamp;

use super::{Finding, Wrong};
use crate::histories::Histories;

pub(super) fn check(histories: &Histories, findings: &mut Vec<Finding>) {
    for turns in &histories.turns {
        // Who leaves at an instant makes room for who comes at it; who never left is inside for ever.
        let mut moves: Vec<(Timestamp, i8)> = Vec::new();
        for call in histories.calls.iter().filter(|call| call.path == turns.path) {
            moves.push((call.at, 1));
            moves.extend(call.left_at.map(|at| (at, -1)));
        }
        moves.sort_unstable();
        let (mut inside, mut most) = (0_usize, (0, Timestamp::MIN));
        for (at, by) in moves {
            inside = inside.saturating_add_signed(by.into());
            most = most.max((inside, at));
        }
        if most.0 > turns.most {
            let what = format!("{} calls were inside of {} at {}, not {}", most.0, turns.path, most.1, turns.most);
            findings.push(Finding { wrong: Wrong::Crowded, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{planted::*, *};
    use crate::histories::{Call, Turns};

    fn inside(call: u64, from: u32, to: Option<u32>) -> Call {
        Call { left_at: to.map(second), key: None, ..called(call, from, "PUT") }
    }

    #[test]
    fn one_after_the_other_is_right_and_two_at_once_are_found() {
        let mut histories = expecting(0);
        histories.turns = vec![Turns { path: "/hit/one".to_owned(), most: 1 }];
        histories.calls = vec![inside(1, 0, Some(2)), inside(2, 2, Some(4)), inside(3, 5, None)];
        assert_eq!(check(&histories).findings, []);
        histories.calls.push(inside(4, 3, Some(4)));
        assert_eq!(wrongs(&histories), [Wrong::Crowded]);
        histories.turns[0].most = 2;
        assert_eq!(check(&histories).findings, []);
        histories.calls.extend([inside(5, 7, Some(8)), inside(6, 7, Some(8))]);
        assert_eq!(wrongs(&histories), [Wrong::Crowded], "who never left is still inside");
    }
}
