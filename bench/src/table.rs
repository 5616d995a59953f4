//! Figures as a table: a case a line, its subjects side by side, the first one's ratio to the fastest other.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::measure::Figure;

pub(crate) fn of(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(["case", "subject", "median", "p10 to p90", "goal", "to the first"]);
    let mut first: Option<&Figure> = None;
    for figure in figures {
        let leads = first.is_none_or(|first| first.case != figure.case);
        if leads {
            first = Some(figure);
        }
        let goal = figure.goal.map(|goal| {
            let verdict = if goal.is_met(figure.median) { "met" } else { "missed" };
            format!("{} {verdict}", shown(goal.value(), figure.unit))
        });
        let ratio = first.filter(|_| !leads).map(|first| format!("{:.1} ×", figure.median / first.median));
        table.add_row([
            if leads { figure.case.to_owned() } else { String::new() },
            figure.subject.to_owned(),
            shown(figure.median, figure.unit),
            format!("{} to {}", shown(figure.spread.0, figure.unit), shown(figure.spread.1, figure.unit)),
            goal.unwrap_or_default(),
            ratio.unwrap_or_default(),
        ]);
    }
    for column in [2, 3, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Nanoseconds in the unit that reads best.
fn shown(value: f64, unit: &str) -> String {
    match unit {
        "ns" if value >= 1e9 => format!("{:.2} s", value / 1e9),
        "ns" if value >= 1e6 => format!("{:.2} ms", value / 1e6),
        "ns" if value >= 1e4 => format!("{:.1} µs", value / 1e3),
        // A share of something, or a ratio.
        "" => format!("{value:.2}"),
        unit => format!("{value:.0} {unit}"),
    }
}
