//! Cron: the dialect of crontab(5), in a zone.
//!
//! [`shape`], [`fields`] and [`marks`] read it with errors that teach, [`matcher`] has `saffron` match civil times, [`sentence`]
//! says in English what was read. What is decided here is daylight saving: a wildcard schedule goes by elapsed real
//! time, a fixed-time one is shifted out of gaps and runs once in folds.

pub(crate) mod fields;
mod marks;
mod matcher;
mod sentence;
mod shape;

use super::{DstShift, GaveUp, civil};
use crate::{
    fault::{Fault, FaultCode},
    limits::Limits,
    time::Zone,
};
use fields::Fields;
use matcher::Matcher;

#[derive(Debug, Clone)]
pub(crate) struct Cron {
    fields: Fields,
    matcher: Matcher,
    normalised: String,
}

impl Cron {
    pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Self, Vec<Fault>> {
        if text.len() > limits.cron_bytes {
            return Err(vec![Fault::new(
                super::EXPR,
                FaultCode::Limit,
                format!("the expression has {} bytes, at most {} are allowed", text.len(), limits.cron_bytes),
            )]);
        }
        let fields = Fields::parse(text)?;
        let matcher = Matcher::new(&fields).map_err(|fault| vec![fault])?;
        let normalised = fields.text();
        Ok(Self { fields, matcher, normalised })
    }

    pub(crate) fn next_after(&self, zone: &Zone, after: i64) -> Result<Option<i64>, GaveUp> {
        let from = |civil| self.matcher.first_from(civil);
        if self.fields.is_wildcard() {
            civil::first_elapsed(zone, after, from)
        } else {
            civil::first_fixed(zone, after, from)
        }
    }

    pub(crate) fn shift_at(&self, zone: &Zone, at: i64) -> Result<Option<DstShift>, GaveUp> {
        if self.fields.is_wildcard() {
            return Ok(None);
        }
        civil::shift_at(zone, at, |civil| Ok(self.matcher.first_from(civil)? == Some(civil)))
    }

    pub(crate) fn normalised(&self) -> &str {
        &self.normalised
    }

    pub(crate) fn describe(&self) -> String {
        sentence::describe(&self.fields)
    }
}
