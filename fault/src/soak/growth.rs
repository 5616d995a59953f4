//! What must not grow while the work stays the same: the memory of programs, and tables that hold only what is in hand.
//!
//! History, the outbox and what was received are kept on purpose, until retention removes them: they are told of, and
//! not judged.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};

use crate::{
    checker::{Finding, Wrong},
    fleet,
    lab::Lab,
};

/// Tables of what is due, in hand or alive.
const HOT: [&str; 6] = ["due_work", "step_journal", "concurrency", "relay_position", "executor", "action_catalog"];
/// Tables of what is over.
const KEPT: [&str; 3] = ["run", "outbox", "received"];
/// Fewer looks say nothing of growth.
const FEWEST: usize = 8;
/// What may come on top of the second quarter's middle by the last: a quarter, and so many bytes.
const SLACK: u64 = 8 * 1024 * 1024;

/// Sizes in bytes, as often as was looked.
#[derive(Debug, Default)]
pub struct Growth(BTreeMap<String, Vec<u64>>);

/// One of those, over the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Course {
    first: u64,
    /// The middle of the second quarter: warm by then.
    early: u64,
    /// The middle of the last quarter.
    late: u64,
    most: u64,
}

impl Growth {
    /// Looks at the memory of `programs`, by name and process, and at the tables.
    pub(super) async fn look(&mut self, lab: &Lab, programs: [(&str, u32); 2]) -> anyhow::Result<()> {
        for (program, pid) in programs {
            self.note(program, fleet::memory_kb(pid, "VmRSS").with_context(|| format!("look at {program}"))? * 1024);
        }
        let sizes = "
            select coalesce(pg_partition_root(oid), oid)::regclass::text as name, sum(pg_total_relation_size(oid)) as bytes
            from pg_class
            where relnamespace = 'public'::regnamespace and relkind = 'r'
            group by 1
        ";
        for row in lab.rows(sizes).await? {
            let (name, bytes) = (row["name"].as_str().unwrap_or_default(), row["bytes"].as_u64());
            if HOT.contains(&name) || KEPT.contains(&name) {
                self.note(name, bytes.ok_or_else(|| anyhow!("{name} has no size"))?);
            }
        }
        Ok(())
    }

    fn note(&mut self, what: &str, bytes: u64) {
        self.0.entry(what.to_owned()).or_default().push(bytes);
    }

    /// What grew.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let judged = self.0.iter().filter(|(what, sizes)| !KEPT.contains(&what.as_str()) && sizes.len() >= FEWEST);
        let grown = judged.filter_map(|(what, sizes)| {
            let Course { early, late, .. } = course(sizes)?;
            let what = format!("{what} grew from {} to {}", mib(early), mib(late));
            (late > early + early / 4 + SLACK).then_some(Finding { wrong: Wrong::Swollen, what })
        });
        grown.collect()
    }

    /// For people.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(["size of", "at first", "second quarter", "last quarter", "most"]);
        for (what, course) in self.courses() {
            let Course { first, early, late, most } = course;
            table.add_row([what.to_owned(), mib(first), mib(early), mib(late), mib(most)]);
        }
        for column in 1..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// For programs, in bytes.
    pub fn json(&self) -> Value {
        let each = self.courses().map(|(what, Course { first, early, late, most })| {
            (what.to_owned(), json!({ "first": first, "second_quarter": early, "last_quarter": late, "most": most }))
        });
        Value::Object(each.collect())
    }

    fn courses(&self) -> impl Iterator<Item = (&str, Course)> {
        self.0.iter().filter_map(|(what, sizes)| Some((what.as_str(), course(sizes)?)))
    }
}

fn course(sizes: &[u64]) -> Option<Course> {
    let quarter = |nth: usize| middle(&sizes[sizes.len() * nth / 4..sizes.len() * (nth + 1) / 4]);
    let (first, most) = (*sizes.first()?, *sizes.iter().max()?);
    Some(Course { first, early: quarter(1).unwrap_or(first), late: quarter(3).unwrap_or(most), most })
}

fn middle(sizes: &[u64]) -> Option<u64> {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn mib(bytes: u64) -> String {
    format!("{}.{} MiB", bytes / 1024 / 1024, bytes / 1024 % 1024 * 10 / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn grown(what: &str, sizes: impl Iterator<Item = u64>) -> Vec<Wrong> {
        let mut growth = Growth::default();
        sizes.for_each(|size| growth.note(what, size));
        growth.findings().iter().map(|finding| finding.wrong).collect()
    }

    #[test]
    fn what_climbs_is_found_and_what_was_large_once_or_is_kept_is_not() {
        let climbs = || (0..40).map(|n| (30 + n) * MIB);
        assert_eq!(grown("ordinaut-executor", climbs()), [Wrong::Swollen]);
        assert_eq!(grown("run", climbs()), []);
        assert_eq!(grown("due_work", (0..40).map(|n| if n == 35 { 300 * MIB } else { 30 * MIB })), []);
        assert_eq!(grown("due_work", (0..40).map(|n| if n < 6 { MIB } else { 30 * MIB })), [], "it was not warm yet");
        assert_eq!(grown("due_work", climbs().take(FEWEST - 1)), []);
    }

    #[test]
    fn a_course_is_told_in_what_was_seen() {
        let sizes: Vec<u64> = (1..=8).collect();
        assert_eq!(course(&sizes), Some(Course { first: 1, early: 4, late: 8, most: 8 }));
        assert_eq!(mib(3 * MIB / 2), "1.5 MiB");
    }
}
