//! What was measured: a table for people, JSON for machines.
use super::stats::Samples;
use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde::Serialize;
use std::fmt;

/// Of the table where there is no terminal to ask.
const WIDTH: u16 = 180;

/// All that one run measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) about: About,
    pub(super) rows: Vec<Row>,
}

/// What figures mean nothing without.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub(super) version: &'static str,
    /// The profile: `dist`, `release` or `debug`.
    pub(super) build: String,
    pub(super) kubernetes: &'static str,
    pub(super) cores: usize,
    /// Load average of the last minute before the run: what else the machine did.
    pub(super) load_before: f64,
    pub(super) children: usize,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// By the number of the performance plan.
    pub(super) experiment: u8,
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) note: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) goal: Option<Goal>,
    /// Load average of the last minute when it was measured.
    pub(super) load: f64,
    /// The share of the machine that its host took away during the experiment, 0 to 1.
    pub(super) stolen: f64,
    /// What `value` was taken from, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) samples: Vec<f64>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {}", number(*limit)),
            Self::AtLeast(limit) => write!(f, "≥ {}", number(*limit)),
        }
    }
}

impl Row {
    pub(super) fn new(experiment: u8, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            experiment,
            what: what.into(),
            value,
            unit,
            note: String::new(),
            goal: None,
            load: super::usage::load(),
            stolen: 0.0,
            samples: Vec::new(),
        }
    }

    pub(super) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(super) fn samples(mut self, samples: &Samples) -> Self {
        self.samples = samples.numbers().to_vec();
        self
    }

    pub(super) fn stolen(mut self, share: f64) -> Self {
        self.stolen = share;
        self
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            Some(goal) if goal.is_met(self.value) => "met",
            Some(_) => "missed",
            None => "",
        }
    }

    /// `p50 of a change repaired: 5.2 ms (goal ≤ 10, met)`
    pub(super) fn line(&self) -> String {
        let goal = self
            .goal
            .map(|goal| format!(" (goal {goal}, {})", self.verdict()))
            .unwrap_or_default();
        let note = if self.note.is_empty() {
            String::new()
        } else {
            format!(" – {}", self.note)
        };
        format!("{}: {} {}{goal}{note}", self.what, number(self.value), self.unit)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.about;
        writeln!(
            f,
            "openmcp {} ({} build), Kubernetes {}, {} cores, load {:.1} before, {} children a service object",
            about.version, about.build, about.kubernetes, about.cores, about.load_before, about.children
        )?;
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if !table.is_tty() {
            table.set_width(WIDTH);
        }
        table.set_header(["#", "what", "measured", "goal", "", "load", "stolen", "note"]);
        for row in &self.rows {
            table.add_row([
                Cell::new(row.experiment),
                Cell::new(&row.what),
                Cell::new(format!("{} {}", number(row.value), row.unit)),
                Cell::new(row.goal.map(|goal| goal.to_string()).unwrap_or_default()),
                Cell::new(row.verdict()),
                Cell::new(format!("{:.1}", row.load)),
                Cell::new(format!("{:.0} %", 100.0 * row.stolen)),
                Cell::new(&row.note),
            ]);
        }
        write!(f, "{table}")
    }
}

/// Three digits are enough for people.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    let digits = match value.abs() {
        0.0 => 0,
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_goal_is_met() {
        let row = Row::new(1, "p50", 10.04, "ms").goal(Goal::AtMost(10.0));
        assert_eq!(row.line(), "p50: 10 ms (goal ≤ 10, missed)");
        assert_eq!(
            Row::new(11, "rate", 0.9, "").goal(Goal::AtLeast(0.8)).verdict(),
            "met"
        );
        assert_eq!(
            [0.0, 0.5, 5.0, 25.25, 1234.5].map(number),
            ["0", "0.5", "5", "25.2", "1234"]
        );
    }
}
