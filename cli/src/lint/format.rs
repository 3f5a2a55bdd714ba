//! The forms of findings.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use ringfence_netpol::finding::Severity;
use ringfence_netpol::lint::{Rule, rules};
use serde_json::{Value, json};

use super::{Format, Located};

pub fn write(format: Format, findings: &[Located], policies: usize, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => text(findings, policies, out),
        Format::Json => {
            let list: Vec<Value> = findings.iter().map(object).collect();
            pretty(&Value::from(list), out)
        }
        Format::Sarif => pretty(&sarif(findings), out),
        Format::Github => github(findings, out),
    }
}

fn pretty(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn text(findings: &[Located], policies: usize, out: &mut dyn Write) -> io::Result<()> {
    const PLACE: Style = Style::new().bold();
    for Located {
        finding, file, line, ..
    } in findings
    {
        let (style, severity) = match finding.severity {
            Severity::Deny => (AnsiColor::Red.on_default().bold(), "deny"),
            Severity::Warn => (AnsiColor::Yellow.on_default().bold(), "warn"),
        };
        write!(
            out,
            "{PLACE}{file}:{line}{PLACE:#}: {style}{severity}{style:#} {}: ",
            finding.object
        )?;
        writeln!(out, "{finding}\n")?;
    }
    let some =
        |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let denied = findings
        .iter()
        .filter(|located| located.finding.severity == Severity::Deny);
    writeln!(
        out,
        "{} in {}{}",
        some(findings.len(), "finding", "findings"),
        some(policies, "policy", "policies"),
        match denied.count() {
            0 => String::new(),
            count => format!("; admission would refuse {count} of them"),
        }
    )
}

fn object(located: &Located) -> Value {
    let mut value = json!({"file": located.file, "line": located.line});
    if let (Value::Object(all), Ok(Value::Object(finding))) =
        (&mut value, serde_json::to_value(&located.finding))
    {
        all.extend(finding);
    }
    value
}

/// Workflow commands of GitHub Actions, which become annotations at the lines of a pull request.
fn github(findings: &[Located], out: &mut dyn Write) -> io::Result<()> {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    for Located {
        finding, file, line, ..
    } in findings
    {
        let command = match finding.severity {
            Severity::Deny => "error",
            Severity::Warn => "warning",
        };
        writeln!(
            out,
            "::{command} file={},line={line},title={}::{}",
            property(file),
            property(&format!("{} {}", finding.code, finding.object)),
            data(&finding.to_string())
        )?;
    }
    Ok(())
}

/// SARIF 2.1.0: what code hosts and editors take.
fn sarif(findings: &[Located]) -> Value {
    let rule = |rule: &&Rule| {
        json!({
            "id": rule.code,
            "name": rule.name,
            "shortDescription": {"text": rule.finds},
            "fullDescription": {"text": rule.why},
            "defaultConfiguration": {"level": level(rule.severity)},
        })
    };
    let result = |located: &Located| {
        let finding = &located.finding;
        json!({
            "ruleId": finding.code,
            // What label standards ask for is no rule of this list.
            "ruleIndex": rules::ALL.iter().position(|rule| rule.code == finding.code).map_or(json!(-1), |index| json!(index)),
            "level": level(finding.severity),
            "message": {"text": finding.to_string()},
            "locations": [{
                "physicalLocation": {
                    "artifactLocation": {"uri": uri(&located.file)},
                    "region": {"startLine": located.line.max(1)},
                },
                "logicalLocations": [{"fullyQualifiedName": format!("{} {}", finding.object, finding.field)}],
            }],
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "ringfence",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": "https://ringfence.dev",
                "rules": rules::ALL.iter().map(rule).collect::<Vec<Value>>(),
            }},
            "results": findings.iter().map(result).collect::<Vec<Value>>(),
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Deny => "error",
        Severity::Warn => "warning",
    }
}

/// A path as a relative reference: what is no plain character is escaped.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.trim_start_matches("./")
        .bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
