//! What an operator is told of refused requests: every one is counted, and enough of them are logged.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Pace, pace::Paces, peer::Peer, refusal::Refusal};
use crate::telemetry::Metrics;

/// Lines for each reason: whoever is refused writes as many requests as they like, and must not fill a disk by it.
const LINES: Pace = Pace { per_minute: 20, burst: 20 };
/// More reasons than there are.
const REASONS: usize = 64;
/// What of a name that a stranger sent is worth a line.
const LONGEST: usize = 300;

#[derive(Debug)]
pub(super) struct Told {
    metrics: Metrics,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    paces: Paces<&'static str>,
    /// Not logged since the last that was.
    left_out: u64,
}

impl Told {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, lines: Mutex::new(Lines { paces: Paces::new(LINES, REASONS), left_out: 0 }) }
    }

    pub(super) fn tell(&self, refusal: &Refusal, peer: Option<Peer>, now: Instant) {
        let reason = refusal.reason();
        self.metrics.refused(reason);
        if !refusal.is_suspicious() {
            debug!(reason, %refusal, "request refused");
            return;
        }
        let left_out = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.paces.take(reason, now).is_err() {
                lines.left_out += 1;
                return;
            }
            std::mem::take(&mut lines.left_out)
        };
        let peer = peer.map(tracing::field::display);
        let token = match refusal {
            Refusal::TokenInvalid(digest) => Some(tracing::field::display(digest)),
            _ => None,
        };
        warn!(reason, peer, token.sha256 = token, left_out, "request refused: {}", shown(&refusal.to_string()));
    }
}

/// Text with a stranger's words in it, as a log can bear it.
fn shown(text: &str) -> String {
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_neither_moves_the_cursor_nor_fills_the_line() {
        let text = shown(&format!("a\u{9b}31m\u{202e}b{}", "c".repeat(10_000)));
        assert!(text.starts_with("a\\u{9b}31m\\u{202e}bccc"), "{text}");
        assert!(text.len() < 400);
    }
}
