//! The lab's own clock: what the sink and the disturbances are dated by. Never moved, whatever the programs are told.

use jiff::Timestamp;

/// The true instant.
#[expect(clippy::disallowed_methods, reason = "an observer dates what it sees; nothing is decided by it")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
