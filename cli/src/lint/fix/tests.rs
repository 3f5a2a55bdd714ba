//! Files, mended.

use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use ringfence_netpol::lint::Severities;

use super::*;
use crate::lint::findings;
use crate::read::{self, read_texts};

fn judge(texts: &[Text]) -> Result<Vec<Located>, Error> {
    let options = read::Options {
        keep_refused: true,
        ..read::Options::default()
    };
    let reading = read_texts(
        texts.iter().map(|(file, text)| (file.as_str(), text.as_str())),
        &options,
    );
    assert_eq!(reading.problems, []);
    Ok(findings(reading, &Severities::default(), false))
}

fn fixed(text: &str) -> Fixed {
    fix(vec![("a.yaml".to_owned(), text.to_owned())], judge).unwrap()
}

const SHOP: &str = "\
# shop's own
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector:
        matchLabels:
          name: kube-system   # the usual mistake
    ports:
    - {port: 123, portocol: UDP}   # and a slip
  - to:
    - ipBlock: {cidr: '10.1.2.3/8'}
    ports: [{port: 443}]
---
{\"apiVersion\": \"networking.k8s.io/v1\", \"kind\": \"NetworkPolicy\", \"metadata\": {\"name\": \"web\", \"namespace\": \"shop\"},
 \"spec\": {\"podSelector\": {\"matchLabel\": {\"app\": \"web\"}}, \"policyTypes\": [\"Ingress\"], \"ingress\": []}}
";

#[test]
fn sure_mends_are_made_where_they_stand() {
    // What else is wrong with it is the matter of other rules.
    let judge = |texts: &[Text]| {
        let mut found = judge(texts)?;
        found.retain(|located| ["NP002", "NP008", "NP009"].contains(&located.finding.code));
        Ok(found)
    };
    let fixed = fix(vec![("a.yaml".to_owned(), SHOP.to_owned())], judge).unwrap();
    assert_eq!((fixed.mended, fixed.left.as_slice()), (4, &[][..]));
    let mut out = Vec::new();
    diff("a.yaml", SHOP, &fixed.texts[0].1, &mut out).unwrap();
    let shown = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
    insta::assert_snapshot!(shown);
    let codes: Vec<&str> = fixed
        .findings
        .iter()
        .map(|located| located.finding.code)
        .collect();
    assert!(
        !codes.contains(&"NP008") && !codes.contains(&"NP009"),
        "{codes:?}"
    );
}

#[test]
fn what_is_mended_needs_no_mending_again() {
    let once = fixed(SHOP);
    let twice = fixed_again(&once);
    assert_eq!((twice.mended, &twice.texts), (0, &once.texts));
}

fn fixed_again(before: &Fixed) -> Fixed {
    fix(before.texts.clone(), judge).unwrap()
}

#[test]
fn what_comes_from_an_anchor_is_left_to_its_writer() {
    let text = "
x: &p [{port: 123, portocol: UDP}]
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: shop}
spec: {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: *p}]}
";
    let fixed = fixed(text);
    assert_eq!(fixed.mended, 0, "{}", fixed.texts[0].1);
    assert_eq!(fixed.texts[0].1, text);
    assert!(
        fixed
            .left
            .iter()
            .any(|line| line.contains("has to be mended by hand")),
        "{:?}",
        fixed.left
    );
}

#[test]
fn a_file_is_replaced_at_once_and_keeps_its_mode_and_its_link() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("real")).unwrap();
    fs::write(path("real/a.yaml"), "old").unwrap();
    fs::set_permissions(path("real/a.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real/a.yaml", path("link.yaml")).unwrap();
    write(&path("link.yaml"), "old", "new").unwrap();
    assert!(fs::symlink_metadata(path("link.yaml")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(path("real/a.yaml")).unwrap(), "new");
    let mode = fs::metadata(path("real/a.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(fs::read_dir(path("real")).unwrap().count(), 1);

    let changed = write(&path("link.yaml"), "old", "newer").unwrap_err();
    assert!(changed.contains("changed by someone else"), "{changed}");
    fs::set_permissions(path("real/a.yaml"), fs::Permissions::from_mode(0o440)).unwrap();
    let refused = write(&path("link.yaml"), "new", "newer").unwrap_err();
    assert!(refused.contains("read-only"), "{refused}");
    assert_eq!(fs::read_to_string(path("real/a.yaml")).unwrap(), "new");
}

/// Policies with slips that are sure to be such, in several forms of text.
fn slips() -> impl Strategy<Value = String> {
    let peer = prop_oneof![
        Just(r#"{"namespaceSelector": {"matchLabels": {"name": "kube-system"}}}"#),
        Just(r#"{"podSelector": {"matchLabel": {"app": "a"}}}"#),
        Just(r#"{"ipBlock": {"cidr": "10.1.2.3/8", "except": ["10.2.3.4/16"]}}"#),
        Just(r#"{"podSelector": {"matchLabels": {"app": "a"}}}"#),
    ];
    let port = prop_oneof![
        Just(r#"{"port": 53, "portocol": "UDP"}"#),
        Just(r#"{"prot": 53}"#),
        Just(r#"{"port": 1, "endport": 2}"#),
        Just(r#"{"port": 1}"#),
    ];
    let rule = (
        prop::collection::vec(peer, 1..3),
        prop::collection::vec(port, 0..3),
        prop_oneof![Just("to"), Just("too")],
    );
    let policy = (prop::collection::vec(rule, 1..4), 0..3_u8);
    prop::collection::vec(policy, 1..4).prop_map(|policies| {
        let written = policies.into_iter().enumerate().map(|(index, (rules, form))| {
            let rules: Vec<String> = rules
                .into_iter()
                .map(|(peers, ports, to)| format!(r#"{{"{to}": [{}], "ports": [{}]}}"#, peers.join(", "), ports.join(", ")))
                .collect();
            let json = format!(
                r#"{{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {{"name": "p{index}", "namespace": "shop"}},
                "spec": {{"podSelector": {{}}, "policyTypes": ["Egress"], "egress": [{}]}}}}"#,
                rules.join(", ")
            );
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            match form {
                0 => json + "\n",
                1 => serde_json::to_string_pretty(&value).unwrap() + "\n",
                _ => serde_yaml_ng::to_string(&value).unwrap().replace("\n  - ", "  # why\n  - "),
            }
        });
        written.collect::<Vec<_>>().join("---\n")
    })
}

fn sure(findings: &[Located]) -> Vec<(String, String)> {
    let sure = findings.iter().filter(|located| {
        let mend = located.finding.mend.as_ref();
        mend.is_some_and(|mend| !mend.fixes.is_empty())
    });
    sure.map(|located| (located.finding.code.to_owned(), located.finding.field.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_sure_is_mended_and_found_no_more(text in slips()) {
        let before = judge(&[("a.yaml".to_owned(), text.clone())]).unwrap();
        let after = fixed(&text);
        prop_assert_eq!(after.left.as_slice(), &[][..] as &[String], "{}", text);
        prop_assert_eq!(sure(&after.findings), vec![], "{}\n{}", text, after.texts[0].1);
        prop_assert!(after.mended >= usize::from(!sure(&before).is_empty()));
        prop_assert_eq!(text.matches("# why").count(), after.texts[0].1.matches("# why").count());
        let again = fixed_again(&after);
        prop_assert_eq!((again.mended, &again.texts), (0, &after.texts));
    }
}
