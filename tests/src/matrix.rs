//! Who reaches whom, measured.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use futures::{StreamExt, TryStreamExt, stream};

use crate::connection::{Outcome, connect};
use crate::target::Target;
use crate::workload::Application;

/// How many connections are measured at once: two cores run both ends of each.
const AT_ONCE: usize = 8;

/// A matrix of connections over TCP, from each application to the pod of each other.
pub struct Matrix<'a> {
    members: &'a [Application],
    /// Row by row: `cells[from][to]`; `None` on the diagonal.
    cells: Vec<Vec<Option<Outcome>>>,
}

impl<'a> Matrix<'a> {
    /// Measures every pair once.
    ///
    /// # Errors
    /// If a client could not be run.
    pub async fn measure(target: &Target, members: &'a [Application]) -> anyhow::Result<Self> {
        let pairs = pairs(members.len());
        let outcomes: Vec<((usize, usize), Outcome)> = stream::iter(pairs)
            .map(|(from, to)| async move {
                anyhow::Ok(((from, to), cell(target, &members[from], &members[to]).await?))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut cells = vec![vec![None; members.len()]; members.len()];
        for ((from, to), outcome) in outcomes {
            cells[from][to] = Some(outcome);
        }
        Ok(Self { members, cells })
    }

    /// Measures until every pair is as `expected` says, or `limit` is over; what is returned is the last that was measured.
    ///
    /// # Errors
    /// If a client could not be run.
    pub async fn settle(
        target: &Target,
        members: &'a [Application],
        limit: Duration,
        expected: impl Fn(&Application, &Application) -> bool,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        loop {
            let matrix = Self::measure(target, members).await?;
            if matrix.differences(&expected).is_empty() || start.elapsed() > limit {
                return Ok(matrix);
            }
        }
    }

    /// The pairs that are not as expected, in words.
    pub fn differences(&self, expected: impl Fn(&Application, &Application) -> bool) -> Vec<String> {
        let pairs = pairs(self.members.len()).into_iter();
        pairs
            .filter_map(|(from, to)| {
                let want = if expected(&self.members[from], &self.members[to]) {
                    Outcome::Open
                } else {
                    Outcome::Closed
                };
                let got = self.cells[from][to]?;
                (got != want).then(|| {
                    format!(
                        "{} -> {}: {got}, must be {want}",
                        self.label(from),
                        self.label(to)
                    )
                })
            })
            .collect()
    }

    fn label(&self, index: usize) -> String {
        format!("{}/{}", self.members[index].namespace, self.members[index].name)
    }

    /// A table for a terminal: a row for each sender, a column for each receiver.
    pub fn table(&self) -> String {
        let width = self
            .members
            .iter()
            .map(|member| member.name.len())
            .max()
            .unwrap_or_default()
            .max(8);
        let labels: Vec<String> = (0..self.members.len()).map(|index| self.label(index)).collect();
        let left = labels.iter().map(String::len).max().unwrap_or_default();
        let mut table = format!("  {:left$}  ", "from \\ to");
        for member in self.members {
            let _ = write!(table, "{:>width$}  ", member.name);
        }
        for (label, (member, row)) in labels.iter().zip(self.members.iter().zip(&self.cells)) {
            let _ = write!(table, "\n  {label:left$}  ");
            for cell in row {
                let (text, style) = match cell {
                    None => ("-".to_owned(), Style::new().dimmed()),
                    Some(Outcome::Open) => ("open".to_owned(), AnsiColor::Green.on_default()),
                    Some(outcome) => (outcome.to_string(), AnsiColor::Red.on_default()),
                };
                let _ = write!(table, "{style}{text:>width$}{style:#}  ");
            }
            let _ = write!(table, "on {}", member.node);
        }
        table
    }
}

fn pairs(members: usize) -> Vec<(usize, usize)> {
    (0..members)
        .flat_map(|from| {
            (0..members)
                .filter(move |to| *to != from)
                .map(move |to| (from, to))
        })
        .collect()
}

async fn cell(target: &Target, from: &Application, to: &Application) -> anyhow::Result<Outcome> {
    connect(target, &from.namespace, &from.name, "tcp", &to.endpoint()).await
}
