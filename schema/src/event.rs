//! What is told about tasks and runs, and how topics match.

use serde::{Deserialize, Serialize};

use crate::{
    fault::{Fault, FaultCode},
    run::text_enum,
};

text_enum! {
    /// Ordinaut's own topics: what the outbox carries and tasks may listen to.
    Topic {
        TaskCreated = "task.created",
        TaskUpdated = "task.updated",
        TaskPaused = "task.paused",
        TaskResumed = "task.resumed",
        TaskSnoozed = "task.snoozed",
        TaskEnded = "task.ended",
        TaskCancelled = "task.cancelled",
        RunSucceeded = "run.succeeded",
        RunFailed = "run.failed",
        RunCancelled = "run.cancelled",
        RunSkipped = "run.skipped",
        RunQuarantined = "run.quarantined",
        InboxPosted = "inbox.posted",
        ApprovalRequested = "approval.requested",
        /// Also when nobody did by its end.
        ApprovalAnswered = "approval.answered",
        /// Best effort, never in the outbox.
        RunStarted = "run.started",
        /// Best effort, never in the outbox.
        StepFinished = "step.finished",
        /// Events older than the outbox window were given up.
        EventsGap = "events.gap",
    }
}

/// The longest chain of causes: an event whose depth is this triggers nothing.
pub const MAX_CAUSE_DEPTH: u16 = 8;

/// What a task listens to: dot-separated segments, `*` for a whole one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// # Errors
    /// A segment is empty, has a character outside `[A-Za-z0-9_-]`, or mixes `*` with other text.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        check_topic(text, true)?;
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an event on `topic` is one of these.
    pub fn matches(&self, topic: &str) -> bool {
        let mut wanted = self.0.split('.');
        let mut given = topic.split('.');
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(pattern), Some(segment)) if pattern == "*" || pattern == segment => {}
                _ => return false,
            }
        }
    }
}

/// Checks a topic that somebody publishes to.
///
/// # Errors
/// As [`TopicPattern::parse`], and `*` is refused.
pub fn check_published_topic(topic: &str) -> Result<(), Fault> {
    check_topic(topic, false)
}

fn check_topic(topic: &str, pattern: bool) -> Result<(), Fault> {
    let fault = |message: String| Fault::new("$.topic", FaultCode::BadTopic, message);
    if topic.is_empty() || topic.len() > 256 {
        return Err(fault("a topic is 1 to 256 characters, such as `user.email.received`".to_owned()));
    }
    for segment in topic.split('.') {
        let plain = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if plain || (pattern && segment == "*") {
            continue;
        }
        let why = if segment.contains('*') && !pattern {
            "`*` may stand only in the topic a task listens to, not in a published one".to_owned()
        } else if segment.contains('*') {
            format!("`*` stands for a whole segment, `{segment}` mixes it with text")
        } else if segment.is_empty() {
            "an empty segment".to_owned()
        } else {
            format!("segment `{segment}` has characters outside letters, digits, `_` and `-`")
        };
        let fault =
            fault(format!("topic `{topic}`: {why}; write segments joined by dots, such as `user.email.received`"));
        return Err(match plain_topic(topic, pattern) {
            Some(meant) => fault.suggest(meant),
            None => fault,
        });
    }
    Ok(())
}

/// The topic that was meant by what joins its segments with blanks, slashes or colons.
fn plain_topic(text: &str, pattern: bool) -> Option<String> {
    let joint = |c: char| c.is_whitespace() || matches!(c, '.' | '/' | ':');
    let topic = text.split(joint).collect::<Vec<_>>().join(".");
    (topic != text && check_topic(&topic, pattern).is_ok()).then_some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_exactly_one_segment() {
        let pattern = TopicPattern::parse("user.email.*").unwrap();
        assert!(pattern.matches("user.email.received"));
        assert!(!pattern.matches("user.email"));
        assert!(!pattern.matches("user.email.received.today"));
        assert!(!pattern.matches("user.sms.received"));
    }

    #[test]
    fn a_bad_topic_is_refused_with_the_segment_at_fault() {
        assert!(TopicPattern::parse("user.em*").unwrap_err().message.contains("em*"));
        assert!(TopicPattern::parse("user..x").is_err());
        assert!(check_published_topic("user.*").is_err());
        assert!(check_published_topic("user.email-received").is_ok());
    }

    #[test]
    fn a_topic_with_other_joints_than_dots_is_refused_with_the_one_that_was_meant() {
        for (written, meant) in [
            ("door opened", Some("door.opened")),
            ("user/email/received", Some("user.email.received")),
            ("user..email", None),
            ("user/email/*", Some("user.email.*")),
            ("order:created!", None),
            ("user.em*", None),
        ] {
            assert_eq!(TopicPattern::parse(written).unwrap_err().suggestion.as_deref(), meant, "{written}");
        }
    }
}
