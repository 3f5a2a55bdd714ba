//! `rules`: what `lint` and the webhook look for, in policies, labels, and what is done to what the generator owns.

use std::io::Write;

use anstyle::Style;
use ringfence_netpol::catalogue::{self, Entry};
use ringfence_netpol::finding::Severity;

use crate::{Error, Outcome};

/// Explain the rules that objects are judged by
///
/// Without a code it lists them; with one it tells why the rule is there, and shows a policy that it finds something in and one that it does not.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ringfence rules
  ringfence rules NP002")]
pub struct Args {
    /// The code or the name of a rule, as NP002 or selector-misspelt
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// If there is no such rule.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome, Error> {
    let Some(code) = &args.code else {
        for rule in catalogue::entries() {
            writeln!(
                out,
                "{}  {:4}  {:26}  {}",
                rule.code,
                severity(&rule),
                rule.name,
                rule.finds
            )?;
        }
        return Ok(Outcome::Fine);
    };
    let Some(rule) =
        catalogue::entries().find(|rule| rule.code.eq_ignore_ascii_case(code) || rule.name == code)
    else {
        let known: Vec<&str> = catalogue::entries().map(|rule| rule.code).collect();
        return Err(Error::Usage(format!(
            "there is no rule {code}; the codes are {}",
            known.join(", ")
        )));
    };
    explain(&rule, out)?;
    Ok(Outcome::Fine)
}

fn explain(rule: &Entry, out: &mut dyn Write) -> std::io::Result<()> {
    const TITLE: Style = Style::new().bold();
    writeln!(
        out,
        "{TITLE}{} {}{TITLE:#} ({})\n",
        rule.code,
        rule.name,
        severity(rule)
    )?;
    writeln!(out, "Finds {}.\n\n{}\n", rule.finds, rule.why)?;
    if rule.needs_cluster {
        writeln!(out, "Compares with what is there in the cluster.\n")?;
    }
    for (title, example) in [("Found in", rule.bad), ("Not in", rule.good)] {
        writeln!(out, "{title}:\n")?;
        for line in example.lines() {
            writeln!(out, "    {line}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn severity(rule: &Entry) -> &'static str {
    match rule.severity {
        Severity::Deny => "deny",
        Severity::Warn => "warn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(code: Option<&str>) -> String {
        let mut out = Vec::new();
        let args = Args {
            code: code.map(str::to_owned),
        };
        run(&args, &mut out).unwrap();
        String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap()
    }

    #[test]
    fn a_rule_is_explained_with_a_bad_and_a_good_example() {
        insta::assert_snapshot!(shown(Some("np002")));
        assert_eq!(shown(Some("selector-misspelt")), shown(Some("NP002")));
    }

    #[test]
    fn every_rule_is_listed() {
        assert_eq!(shown(None).lines().count(), catalogue::entries().count());
    }

    #[test]
    fn a_rule_that_is_not_there_is_an_error() {
        let args = Args {
            code: Some("NP999".to_owned()),
        };
        assert!(run(&args, &mut Vec::new()).is_err());
    }
}
