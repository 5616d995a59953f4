//! Admission: a run under a full key waits as `blocked`; it becomes pending when there is room.
//!
//! Room is counted under the lock of the key's `concurrency` row, never remembered, so a crash cannot leak a place.
