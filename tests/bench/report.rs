//! The report: one row for each case and engine, as JSON and as a Markdown table.

use serde_json::{Value, json};

use crate::stats::{Compare, Round, ratio};

pub const FOOT: &str = "STAC-ML-like sizes, random weights, own harness, unaudited";

#[derive(Clone, Debug)]
pub struct Row {
    pub case: String,
    pub engine: String,
    pub figures: Round,
    /// Of the case: our best row against the best peer's. Stands on each of our rows.
    pub ratio_to_best_peer: Option<f64>,
    /// Against the f64 reference.
    pub max_abs_error: Option<f64>,
}

impl Row {
    pub fn is_ours(&self) -> bool {
        self.engine.starts_with("ours")
    }

    pub fn to_json(&self) -> Value {
        json!({
            "case": self.case,
            "engine": self.engine,
            "p50_us": self.figures.p50_us,
            "p99_us": self.figures.p99_us,
            "max_us": self.figures.max_us,
            "per_second": self.figures.per_second,
            "ratio_to_best_peer": self.ratio_to_best_peer,
            "max_abs_error": self.max_abs_error,
        })
    }
}

/// Puts a case's ratio on our rows; `against` is the case whose peers it is compared with.
pub fn set_ratio(rows: &mut [Row], case: &str, against: &str, compare: Compare) {
    let found = {
        let of = |name: &str, ours: bool| {
            let name = name.to_string();
            rows.iter().filter(move |r| r.case == name && r.is_ours() == ours).map(|r| r.figures.clone())
        };
        ratio(compare, of(case, true), of(against, false))
    };
    for row in rows.iter_mut().filter(|r| r.case == case && r.is_ours()) {
        row.ratio_to_best_peer = found;
    }
}

/// Aligned, and Markdown as it stands.
pub fn table(rows: &[Row]) -> String {
    let head = ["case", "engine", "p50 us", "p99 us", "max us", "per second", "ratio", "max error"];
    let mut lines = vec![head.map(String::from)];
    for row in rows {
        let f = &row.figures;
        lines.push([
            row.case.clone(),
            row.engine.clone(),
            number(f.p50_us),
            number(f.p99_us),
            number(f.max_us),
            number(f.per_second),
            row.ratio_to_best_peer.map_or_else(String::new, |r| format!("{r:.2}")),
            row.max_abs_error.map_or_else(String::new, |e| format!("{e:.1e}")),
        ]);
    }
    let width = |column: usize| lines.iter().map(|l| l[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            let cell = if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            text.push_str(&format!("| {cell} "));
        }
        text.push_str("|\n");
        if i == 0 {
            for (column, width) in widths.iter().enumerate() {
                let (dashes, end) = if column < 2 { (width + 1, "-") } else { (width + 1, ":") };
                text.push_str(&format!("|{}{end}", "-".repeat(dashes)));
            }
            text.push_str("|\n");
        }
    }
    text
}

fn number(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(v) if v >= 1000.0 => format!("{v:.0}"),
        Some(v) if v >= 10.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: &str, engine: &str, p50_us: f64) -> Row {
        let figures = Round { p50_us: Some(p50_us), p99_us: Some(9.0), max_us: None, per_second: Some(2e6) };
        Row {
            case: case.into(),
            engine: engine.into(),
            figures,
            ratio_to_best_peer: None,
            max_abs_error: None,
        }
    }

    #[test]
    fn a_row_has_its_fields_and_null_where_nothing_applies() {
        let mut row = row("poll_tcp", "ours", 1.5);
        row.max_abs_error = Some(0.25);
        let expected = json!({
            "case": "poll_tcp", "engine": "ours", "p50_us": 1.5, "p99_us": 9.0, "max_us": null,
            "per_second": 2e6, "ratio_to_best_peer": null, "max_abs_error": 0.25,
        });
        assert_eq!(row.to_json(), expected);
    }

    #[test]
    fn the_ratio_stands_on_our_rows_alone() {
        let mut rows = vec![
            row("fresh", "ours", 8.0),
            row("fresh", "ours-2", 4.0),
            row("fresh", "tract", 6.0),
            row("sliding", "ours", 2.0),
        ];
        set_ratio(&mut rows, "fresh", "fresh", Compare::Latency);
        set_ratio(&mut rows, "sliding", "fresh", Compare::Latency);
        let ratios: Vec<Option<f64>> = rows.iter().map(|r| r.ratio_to_best_peer).collect();
        assert_eq!(ratios, [Some(1.5), Some(1.5), None, Some(3.0)]);
    }

    #[test]
    fn the_table_is_markdown() {
        let text = table(&[row("a", "ours", 12.345), row("long_name", "tract", 123_456.7)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|l| l.len() == lines[0].len() && l.matches('|').count() == 9));
        assert!(lines[1].starts_with("|-") && lines[2].contains("12.3") && lines[3].contains("123457"));
    }
}
