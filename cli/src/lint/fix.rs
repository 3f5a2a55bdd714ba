//! `lint --fix`: the mends that are sure, made in the files themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, TextDiff};

use super::Located;
use crate::Error;
use crate::edit::{self, Change};

/// A file and what is in it.
pub type Text = (String, String);

/// What was made of the texts.
#[derive(Debug, Default)]
pub struct Fixed {
    /// All texts, as they are now.
    pub texts: Vec<Text>,
    /// How many findings were mended.
    pub mended: usize,
    /// What could not be, and why.
    pub left: Vec<String>,
    /// What is still found.
    pub findings: Vec<Located>,
}

/// How often is looked again: a mend may bring to light what another rule finds.
const ROUNDS: usize = 100;

/// Mends what is sure in the texts, until nothing that is sure is found.
///
/// # Errors
/// If the texts cannot be judged.
pub fn fix(
    mut texts: Vec<Text>,
    mut judge: impl FnMut(&[Text]) -> Result<Vec<Located>, Error>,
) -> Result<Fixed, Error> {
    let mut fixed = Fixed::default();
    let mut hopeless: BTreeSet<(String, String, &'static str, String)> = BTreeSet::new();
    for _ in 0..ROUNDS {
        let findings = judge(&texts)?;
        // Of every object one finding a round: where others are may be different then.
        let mut by_file: BTreeMap<&str, BTreeMap<usize, &Located>> = BTreeMap::new();
        for located in &findings {
            let sure = located
                .finding
                .mend
                .as_ref()
                .is_some_and(|mend| !mend.fixes.is_empty());
            if sure && !hopeless.contains(&name_of(located)) {
                let objects = by_file.entry(&located.file).or_default();
                objects.entry(located.start).or_insert(located);
            }
        }
        if by_file.is_empty() {
            fixed.findings = findings;
            fixed.texts = texts;
            return Ok(fixed);
        }
        for (file, text) in &mut texts {
            let Some(objects) = by_file.get(file.as_str()) else {
                continue;
            };
            let objects: Vec<&Located> = objects.values().copied().collect();
            let (changed, unfit) = mend(text, &objects);
            fixed.mended += objects.len() - unfit.len();
            *text = changed;
            for (index, reason) in unfit {
                let located = objects[index];
                hopeless.insert(name_of(located));
                fixed.left.push(format!(
                    "{file}:{}: {} {} has to be mended by hand: {reason}",
                    located.line, located.finding.code, located.finding.field
                ));
            }
        }
    }
    fixed.findings = judge(&texts)?;
    fixed.texts = texts;
    Ok(fixed)
}

/// The text with what was found in it mended, and what could not be.
fn mend(text: &str, found: &[&Located]) -> (String, Vec<(usize, edit::Unfit)>) {
    let changes: Vec<Change> = found
        .iter()
        .map(|located| Change {
            start: located.start,
            fixes: located
                .finding
                .mend
                .as_ref()
                .map(|mend| mend.fixes.clone())
                .unwrap_or_default(),
        })
        .collect();
    match edit::apply(text, &changes) {
        Ok(done) => done,
        Err(reason) => {
            let all = (0..found.len()).map(|index| (index, reason.clone()));
            (text.to_owned(), all.collect())
        }
    }
}

fn name_of(located: &Located) -> (String, String, &'static str, String) {
    let finding = &located.finding;
    (
        located.file.clone(),
        finding.object.to_string(),
        finding.code,
        finding.field.clone(),
    )
}

/// What is different, as `patch` and `git apply` take it.
pub fn diff(file: &str, before: &str, after: &str, out: &mut dyn Write) -> io::Result<()> {
    const ADDED: Style = AnsiColor::Green.on_default();
    const REMOVED: Style = AnsiColor::Red.on_default();
    const PLACE: Style = AnsiColor::Cyan.on_default();
    let shown: String = file
        .trim_start_matches("./")
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    let [old, new] = match Path::new(file).is_absolute() {
        true => [shown.clone(), shown],
        false => [format!("a/{shown}"), format!("b/{shown}")],
    };
    writeln!(out, "--- {old}\n+++ {new}")?;
    let lines = TextDiff::from_lines(before, after);
    for hunk in lines.unified_diff().context_radius(3).iter_hunks() {
        writeln!(out, "{PLACE}{}{PLACE:#}", hunk.header())?;
        for change in hunk.iter_changes() {
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ('-', REMOVED),
                ChangeTag::Insert => ('+', ADDED),
                ChangeTag::Equal => (' ', Style::new()),
            };
            let line = change.value();
            let bare = line.strip_suffix('\n').unwrap_or(line);
            writeln!(out, "{style}{sign}{bare}{style:#}")?;
            if change.missing_newline() {
                writeln!(out, "\\ No newline at end of file")?;
            }
        }
    }
    Ok(())
}

/// Puts the text in the file's place, all at once: whoever reads it sees the old one or the new one. A link stays a link, and the
/// file it leads to keeps its mode.
///
/// # Errors
/// If the file is no longer as it was read, may not be written, or its folder takes no new file.
pub fn write(file: &str, before: &str, after: &str) -> Result<(), String> {
    let wrong = |error: io::Error| format!("{file}: {error}");
    let target = fs::canonicalize(file).map_err(wrong)?;
    let permissions = fs::metadata(&target).map_err(wrong)?.permissions();
    if permissions.readonly() {
        return Err(format!("{file}: is read-only"));
    }
    if fs::read(&target).map_err(wrong)? != before.as_bytes() {
        return Err(format!("{file}: was changed by someone else meanwhile"));
    }
    let folder = target.parent().unwrap_or(Path::new("/"));
    let mut fresh = tempfile::Builder::new()
        .prefix(".ringfence-")
        .tempfile_in(folder)
        .map_err(wrong)?;
    fresh.write_all(after.as_bytes()).map_err(wrong)?;
    fresh.as_file().set_permissions(permissions).map_err(wrong)?;
    fresh.as_file().sync_all().map_err(wrong)?;
    fresh.persist(&target).map_err(|error| wrong(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests;
