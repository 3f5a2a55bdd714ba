//! What the platform team says of one namespace, in its annotations.

use super::exemption::Exemption;
use crate::catalogue;
use crate::guard::{EXEMPTIONS, SEVERITIES};
use crate::lint::{Level, Severities};
use crate::selector::Labels;

/// What is said of a namespace:
///
/// ```text
/// ringfence.dev/severities: NP006=off, NP003=deny
/// ringfence.dev/exemptions: |
///   NP006 until 2027-01-31: the old gateway has no fixed address
///   NP003,NP004 of legacy-api until 2027-01-31: moves in January
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Local {
    pub severities: Severities,
    pub exemptions: Vec<Exemption>,
    /// What could not be understood, and therefore says nothing: the annotation's key, and why.
    pub defects: Vec<(&'static str, String)>,
}

impl Local {
    pub fn read(annotations: &Labels) -> Self {
        let mut local = Self::default();
        let parts = |key: &str| {
            let text = annotations.get(key).map_or("", String::as_str);
            text.split(if key == SEVERITIES {
                [',', '\n']
            } else {
                [';', '\n']
            })
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
        };
        for part in parts(SEVERITIES) {
            match severity(&part) {
                Ok((code, level)) => local.severities = local.severities.with(code, level),
                Err(reason) => local.defects.push((SEVERITIES, reason)),
            }
        }
        for part in parts(EXEMPTIONS) {
            match exemption(&part) {
                Ok(exemption) => local.exemptions.push(exemption),
                Err(reason) => local.defects.push((EXEMPTIONS, reason)),
            }
        }
        local
    }
}

fn severity(text: &str) -> Result<(&str, Level), String> {
    let form = || format!("{text:?} is not of the form CODE=deny, CODE=warn or CODE=off");
    let (code, level) = text.split_once('=').ok_or_else(form)?;
    let level = match level.trim() {
        "off" => Level::Off,
        "warn" => Level::Warn,
        "deny" => Level::Deny,
        _ => return Err(form()),
    };
    known(code.trim()).map(|code| (code, level))
}

fn exemption(text: &str) -> Result<Exemption, String> {
    let form =
        || format!("{text:?} is not of the form CODE[,CODE…] [of NAME[,NAME…]] until YYYY-MM-DD: REASON");
    let (what, reason) = text.split_once(':').ok_or_else(form)?;
    let (what, until) = what.split_once(" until ").ok_or_else(form)?;
    let (codes, names) = match what.split_once(" of ") {
        Some((codes, names)) => (codes, list(names)),
        None => (what, Vec::new()),
    };
    let exemption = Exemption {
        rules: list(codes),
        namespaces: Vec::new(),
        names,
        until: until.trim().parse()?,
        reason: reason.trim().to_owned(),
    };
    exemption.validate(catalogue::entries().map(|entry| entry.code))?;
    Ok(exemption)
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn known(code: &str) -> Result<&str, String> {
    catalogue::entry(code)
        .map(|_| code)
        .ok_or_else(|| format!("no rule has the code {code:?}"))
}
