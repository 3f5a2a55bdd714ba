//! What findings count, as tables.

use super::*;
use crate::cluster::Key;
use crate::finding::Object;
use crate::guard::{EXEMPTIONS, SEVERITIES};
use crate::selector::Labels;

/// 2027-01-15, noon.
const NOW: i64 = 1_800_014_400;

fn finding(code: &'static str, severity: Severity) -> Finding {
    Finding {
        code,
        severity,
        object: Object::new("NetworkPolicy", &Key::new("shop", "web")),
        field: "spec".to_owned(),
        message: String::new(),
        consequence: String::new(),
        mend: None,
    }
}

#[derive(Default)]
struct Said {
    mode: Mode,
    modes: BTreeMap<String, Mode>,
    severities: Severities,
    exemptions: Vec<Exemption>,
    annotations: Labels,
}

impl Said {
    /// `deny`, `warn`, `audit`, `exempt` or `off`, for an NP002 that would be refused.
    fn of(&self, code: &'static str, severity: Severity, now: i64) -> &'static str {
        let rollout = Rollout {
            mode: self.mode,
            modes: &self.modes,
            severities: &self.severities,
            exemptions: &self.exemptions,
        };
        let local = Local::read(&self.annotations);
        assert_eq!(local.defects, []);
        let weighed = weigh(vec![finding(code, severity)], rollout, &local, "shop", now);
        match (weighed.told.first(), weighed.silent.first()) {
            (Some(told), None) if told.severity == Severity::Deny => "deny",
            (Some(_), None) => "warn",
            (None, Some(Silent { why: Why::Audit, .. })) => "audit",
            (None, Some(_)) => "exempt",
            _ => "off",
        }
    }

    fn of_np002(&self) -> &'static str {
        self.of("NP002", Severity::Deny, NOW)
    }
}

fn annotated(key: &str, text: &str) -> Said {
    Said {
        annotations: Labels::from([(key.to_owned(), text.to_owned())]),
        ..Said::default()
    }
}

#[test]
fn severities_lower_what_a_rule_says_and_those_of_a_namespace_come_first() {
    let said = |cluster: Option<Level>, namespace: &str| {
        let mut said = annotated(SEVERITIES, namespace);
        if let Some(level) = cluster {
            said.severities = said.severities.with("NP002", level);
        }
        said.of_np002()
    };
    assert_eq!(said(None, ""), "deny");
    assert_eq!(said(Some(Level::Warn), ""), "warn");
    assert_eq!(said(Some(Level::Off), ""), "off");
    assert_eq!(said(None, "NP003=deny, NP002=warn"), "warn");
    assert_eq!(said(Some(Level::Warn), "NP002=off"), "off");
    assert_eq!(said(Some(Level::Off), "NP002=deny"), "deny");
}

#[test]
fn nothing_raises_a_finding_that_was_softened() {
    let said = annotated(SEVERITIES, "NP002=deny");
    assert_eq!(said.of("NP002", Severity::Warn, NOW), "warn");
}

#[test]
fn the_milder_of_the_modes_counts() {
    use Mode::{Audit, Enforce, Warn};
    for (all, one, expected) in [
        (Enforce, None, "deny"),
        (Warn, None, "warn"),
        (Audit, None, "audit"),
        (Enforce, Some(Warn), "warn"),
        (Enforce, Some(Audit), "audit"),
        (Warn, Some(Enforce), "warn"),
        (Audit, Some(Warn), "audit"),
    ] {
        let said = Said {
            mode: all,
            modes: one.map(|mode| ("NP002".to_owned(), mode)).into_iter().collect(),
            ..Said::default()
        };
        assert_eq!(said.of_np002(), expected, "{all:?} {one:?}");
        assert_ne!(said.of("NP003", Severity::Deny, NOW), "off");
    }
}

#[test]
fn an_exemption_is_for_a_rule_a_place_an_object_and_a_time() {
    let said = |text: &str| annotated(EXEMPTIONS, text).of_np002();
    assert_eq!(said("NP002 until 2027-01-31: moves in January"), "exempt");
    assert_eq!(said("NP002 until 2027-01-15: its last day"), "exempt");
    assert_eq!(said("NP002 until 2027-01-14: over"), "deny");
    assert_eq!(said("NP003 until 2027-01-31: another rule"), "deny");
    assert_eq!(
        said("NP003 until 2027-01-31: x; NP002 until 2027-01-31: y"),
        "exempt"
    );
    assert_eq!(said("NP002,NP003 of web until 2027-01-31: this one"), "exempt");
    assert_eq!(said("NP002 of api, db until 2027-01-31: others"), "deny");
    let in_settings = |yaml: &str| {
        let said = Said {
            exemptions: vec![serde_yaml_ng::from_str(yaml).unwrap()],
            ..Said::default()
        };
        said.of_np002()
    };
    assert_eq!(
        in_settings("{rules: [NP002], until: 2027-01-31, reason: x}"),
        "exempt"
    );
    assert_eq!(
        in_settings("{rules: [NP002], namespaces: [shop], names: [web], until: 2027-01-31, reason: x}"),
        "exempt"
    );
    assert_eq!(
        in_settings("{rules: [NP002], namespaces: [bank], until: 2027-01-31, reason: x}"),
        "deny"
    );
}

#[test]
fn a_day_ends_at_midnight() {
    let said = annotated(EXEMPTIONS, "NP002 until 2027-01-15: x");
    let midnight = 1_800_057_600;
    assert_eq!(said.of("NP002", Severity::Deny, midnight - 1), "exempt");
    assert_eq!(said.of("NP002", Severity::Deny, midnight), "deny");
}

#[test]
fn what_cannot_be_understood_says_nothing_and_is_named() {
    for (key, text, reason) in [
        (SEVERITIES, "NP002", "CODE=deny"),
        (SEVERITIES, "NP002=loud", "CODE=deny"),
        (SEVERITIES, "NP999=off", "no rule has the code \"NP999\""),
        (EXEMPTIONS, "NP002", "until"),
        (EXEMPTIONS, "NP002: for ever", "until"),
        (EXEMPTIONS, "NP002 until tomorrow: x", "no date"),
        (EXEMPTIONS, "NP002 until 2027-02-30: x", "no date"),
        (EXEMPTIONS, "NP999 until 2027-01-31: x", "no rule has the code"),
        (EXEMPTIONS, "NP002 until 2027-01-31:", "has a reason"),
        (EXEMPTIONS, " of x until 2027-01-31: y", "no rule has the code"),
    ] {
        let local = Local::read(&Labels::from([(key.to_owned(), text.to_owned())]));
        assert_eq!(local.defects.len(), 1, "{text}");
        assert_eq!(local.defects[0].0, key);
        assert!(
            local.defects[0].1.contains(reason),
            "{text}: {}",
            local.defects[0].1
        );
        assert_eq!(
            (local.severities, local.exemptions),
            (Severities::default(), Vec::new())
        );
    }
}

#[test]
fn an_unknown_field_of_an_exemption_is_an_error() {
    let read = |yaml: &str| serde_yaml_ng::from_str::<Exemption>(yaml).map_err(|e| e.to_string());
    assert!(
        read("{rules: [NP002], until: 2027-01-31, reason: x, namespace: [a]}")
            .unwrap_err()
            .contains("namespace")
    );
    assert!(
        read("{rules: [NP002], until: soon, reason: x}")
            .unwrap_err()
            .contains("no date")
    );
}
