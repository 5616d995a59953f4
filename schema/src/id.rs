//! Identities: newtypes over UUIDs, never interchangeable.
//!
//! Drawn ids are UUIDv7 (RFC 9562 section 5.7). A [`RunId`] is derived, not drawn, so that the same
//! occurrence has the same id on any executor and after any failover.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// An owner of tasks.
    AgentId,
    /// One bearer token of an agent.
    TokenId,
    /// A standing definition.
    TaskId,
    /// One execution of a task for one occurrence; see [`RunId::derive`].
    RunId,
    /// Something that happened; stable over every redelivery.
    EventId,
    /// The right of one attempt to write a run. Random, so that it fences even after a restored backup.
    LeaseToken,
    /// A message in an agent's inbox.
    MessageId,
    /// What a run shows a person to decide.
    ApprovalId,
}

macro_rules! drawn {
    ($($name:ident),*) => {$(
        impl $name {
            /// Draws a new id that sorts by the moment it was drawn.
            #[expect(clippy::new_without_default, reason = "drawing an id is an act, not a default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }
    )*};
}

drawn!(AgentId, TokenId, TaskId, EventId, MessageId, ApprovalId);

/// The slice of the database that an agent's rows live in; 0 until there is more than one database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(pub u8);

impl RunId {
    /// Derives the id of the run of `task` for the occurrence named `key`.
    ///
    /// A UUIDv8 (RFC 9562 section 5.8): 48 bits of Unix milliseconds of `at`, the version, 8 bits of shard and
    /// 4 bits of digest, the variant, 62 bits of digest; the digest is SHA-256 over task id and key. The leading
    /// instant makes ids sort by time, which history is partitioned by.
    pub fn derive(task: TaskId, key: &OccurrenceKey, at: Timestamp, shard: Shard) -> Self {
        let mut digest = Sha256::new();
        digest.update(task.uuid().as_bytes());
        digest.update(key.as_str().as_bytes());
        let digest = digest.finalize();

        let mut bytes = [0_u8; 16];
        bytes[..6].copy_from_slice(&Self::milliseconds(at).to_be_bytes()[2..]);
        bytes[6] = 0x80 | (shard.0 >> 4);
        bytes[7] = (shard.0 << 4) | (digest[0] & 0x0f);
        bytes[8] = 0x80 | (digest[1] & 0x3f);
        bytes[9..].copy_from_slice(&digest[2..9]);
        Self(Uuid::from_bytes(bytes))
    }

    /// The least id of any run at or after `at`: a partition bound.
    pub fn floor(at: Timestamp) -> Self {
        let mut bytes = [0_u8; 16];
        bytes[..6].copy_from_slice(&Self::milliseconds(at).to_be_bytes()[2..]);
        Self(Uuid::from_bytes(bytes))
    }

    fn milliseconds(at: Timestamp) -> u64 {
        u64::try_from(at.as_millisecond()).unwrap_or(0)
    }
}

/// Names one occurrence of a task. See the constructors for the forms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OccurrenceKey(String);

impl OccurrenceKey {
    /// `t:<UTC instant>`: an instant that the schedule named. Guarded by the task's cursor.
    pub fn at(instant: Timestamp) -> Self {
        Self(format!("t:{instant}"))
    }

    /// `e:<event id>`: an event that a task listens to. An event may carry a foreign id, hence text.
    pub fn event(id: &str) -> Self {
        Self(format!("e:{id}"))
    }

    /// `m:<request id>`: somebody asked.
    pub fn manual(request: &str) -> Self {
        Self(format!("m:{request}"))
    }

    /// `s:<parent run>/<step>`: a step of another run asked.
    pub fn step(parent: RunId, step: &str) -> Self {
        Self(format!("s:{parent}/{step}"))
    }

    /// `r:<root run>:<n>`: the n-th retry of a run.
    pub fn retry(root: RunId, n: u32) -> Self {
        Self(format!("r:{root}:{n}"))
    }

    /// Reads back a key that was stored.
    pub fn from_stored(key: String) -> Self {
        Self(key)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OccurrenceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_a_version_8_uuid_that_depends_on_task_key_and_shard_only() {
        let task = TaskId::new();
        let at: Timestamp = "2026-11-23T08:30:00Z".parse().unwrap();
        let key = OccurrenceKey::at(at);
        let id = RunId::derive(task, &key, at, Shard(0xab));

        assert_eq!(id.uuid().get_version_num(), 8);
        assert_eq!(id.uuid().get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id, RunId::derive(task, &key, at, Shard(0xab)));
        assert_ne!(id, RunId::derive(task, &OccurrenceKey::manual("x"), at, Shard(0xab)));
        assert_ne!(id, RunId::derive(TaskId::new(), &key, at, Shard(0xab)));
        assert_ne!(id, RunId::derive(task, &key, at, Shard(0)));
        assert_eq!(id.uuid().as_bytes()[6] & 0x0f, 0x0a);
        assert_eq!(id.uuid().as_bytes()[7] >> 4, 0x0b);
    }

    #[test]
    fn run_ids_lie_between_the_floors_of_their_instants() {
        let at: Timestamp = "2026-11-23T08:30:00.5Z".parse().unwrap();
        let later = at + std::time::Duration::from_millis(1);
        let id = RunId::derive(TaskId::new(), &OccurrenceKey::at(at), at, Shard(255));
        assert!(RunId::floor(at) <= id && id < RunId::floor(later));
    }
}
