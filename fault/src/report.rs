//! Verdicts as a table for people and as lines of JSON.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};

use crate::{
    checker::{Verdict, Wrong},
    faults::{Outcome, Report},
};

/// Findings that are told in words; the rest is counted.
const TOLD: usize = 20;

/// A line a fault.
pub fn table(reports: &[Report]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "fault",
        "disturbed",
        "runs",
        "attempted again",
        "lost",
        "doubled",
        "stale writes",
        "steps repeated",
        "other",
        "recovery p50",
        "p99",
        "verdict",
    ]);
    for report in reports {
        let mut row = vec![report.fault.to_owned()];
        match &report.outcome {
            Outcome::Judged(verdict) => {
                row.extend(columns(verdict));
                row.push(if report.outcome.is_clean() { "held" } else { "BROKEN" }.to_owned());
            }
            Outcome::LeftOut(why) => {
                row.extend(vec![String::new(); 10]);
                row.push(format!("left out: {why}"));
            }
            Outcome::Failed(why) => {
                row.extend(vec![String::new(); 10]);
                row.push(format!("FAILED: {why}"));
            }
        }
        table.add_row(row);
    }
    for column in 1..11 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn columns(verdict: &Verdict) -> Vec<String> {
    let named = [Wrong::Lost, Wrong::Doubled, Wrong::StaleWrite, Wrong::StepRepeated];
    let other = verdict.findings.iter().filter(|finding| !named.contains(&finding.wrong)).count();
    let mut columns = [verdict.disturbances, verdict.runs, verdict.attempted_again].map(|n| n.to_string()).to_vec();
    columns.extend(named.map(|wrong| verdict.count(wrong).to_string()));
    columns.push(other.to_string());
    for share in [0.5, 0.99] {
        let at = percentile(&verdict.recoveries, share);
        columns.push(at.map_or_else(|| "-".to_owned(), |took| format!("{:.1} s", took.as_secs_f64())));
    }
    columns
}

/// Everything about one fault.
pub fn json(report: &Report) -> Value {
    let judged = match &report.outcome {
        Outcome::Judged(verdict) => json!({
            "runs": verdict.runs,
            "disturbances": verdict.disturbances,
            "attempted_again": verdict.attempted_again,
            "lost": verdict.count(Wrong::Lost),
            "doubled": verdict.count(Wrong::Doubled),
            "stale_writes": verdict.count(Wrong::StaleWrite),
            "steps_repeated": verdict.count(Wrong::StepRepeated),
            "findings": verdict.findings.len(),
            "told": verdict.findings.iter().take(TOLD).map(ToString::to_string).collect::<Vec<_>>(),
            "recovered": verdict.recoveries.len(),
            "recovery_p50_ms": percentile(&verdict.recoveries, 0.5).map(|took| took.as_millis()),
            "recovery_p99_ms": percentile(&verdict.recoveries, 0.99).map(|took| took.as_millis()),
        }),
        Outcome::LeftOut(why) => json!({ "left_out": why }),
        Outcome::Failed(why) => json!({ "failed": why }),
    };
    let mut line =
        json!({ "fault": report.fault, "held": report.outcome.is_clean(), "took_ms": report.took.as_millis() });
    if let (Value::Object(line), Value::Object(judged)) = (&mut line, judged) {
        line.extend(judged);
    }
    line
}

/// The nearest rank.
fn percentile(values: &[Duration], share: f64) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank")]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let seconds = |list: &[u64]| list.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(percentile(&seconds(&[3, 1, 2]), 0.5), Some(Duration::from_secs(2)));
        assert_eq!(percentile(&seconds(&[3, 1, 2]), 0.99), Some(Duration::from_secs(3)));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
