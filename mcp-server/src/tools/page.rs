//! Pages of a list, and the opaque cursors between them.

use ordinaut_schema::fault::FaultCode;
use uuid::Uuid;

use super::arguments::Arguments;

/// The most that one page of anything holds.
pub(super) const MOST: u32 = 100;

/// What was asked of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) after: Option<Uuid>,
    pub(super) limit: u32,
}

impl Page {
    /// Reads `cursor` and `limit`; a wrong cursor is a fault of the call.
    pub(super) fn read(arguments: &mut Arguments, limit: u32) -> Self {
        let after = arguments.text("cursor").and_then(|text| {
            let read = decode(&text);
            if read.is_none() {
                wrong_cursor(arguments, &text);
            }
            read
        });
        Self { after, limit: arguments.count("limit", 1..=MOST).unwrap_or(limit) }
    }

    /// One more than is shown, to see whether there is more.
    pub(super) const fn probe(self) -> u32 {
        self.limit + 1
    }

    /// Cuts what was read to the page; answers the cursor of the next one.
    pub(super) fn cut<T>(self, items: &mut Vec<T>, id: impl Fn(&T) -> Uuid) -> Option<String> {
        if items.len() <= self.limit as usize {
            return None;
        }
        items.truncate(self.limit as usize);
        items.last().map(|last| encode(id(last)))
    }
}

fn encode(id: Uuid) -> String {
    format!("c{}", hex::encode(id.as_bytes()))
}

fn decode(text: &str) -> Option<Uuid> {
    let bytes = hex::decode(text.strip_prefix('c')?).ok()?;
    Uuid::from_slice(&bytes).ok()
}

/// A cursor into a list that is in one piece: how many were shown.
pub(super) fn offset(arguments: &mut Arguments) -> usize {
    let Some(text) = arguments.text("cursor") else { return 0 };
    let read = text.strip_prefix('n').and_then(|number| number.parse().ok());
    if read.is_none() {
        wrong_cursor(arguments, &text);
    }
    read.unwrap_or_default()
}

fn wrong_cursor(arguments: &mut Arguments, text: &str) {
    let message = format!("`{text}` is no cursor; give back `next_cursor` as it was, or leave it out");
    arguments.fault("cursor", FaultCode::InvalidValue, message);
}

/// The cursor after `shown` of them.
pub(super) fn offset_cursor(shown: usize) -> String {
    format!("n{shown}")
}
