//! What rules weigh: severities, modes, exemptions, a namespace's own.

use super::*;

#[test]
fn severities_are_the_platform_teams() {
    let request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
    for (level, expected) in [(Level::Warn, "+ NP002"), (Level::Off, "+")] {
        let settings = Review {
            severities: Severities::default().with("NP002", level),
            ..Review::default()
        };
        assert_eq!(
            verdict(&review(&request, &settings, Some(&Seen::of(&cluster())), NOW)),
            expected
        );
    }
}

#[test]
fn what_the_platform_team_says_of_a_namespace_must_be_understood() {
    let ask = Ask {
        resource: "namespaces",
        object: Some("{metadata: {name: shop, annotations: {ringfence.dev/severities: 'NP002: off'}}}"),
        old: Some("{metadata: {name: shop}}"),
        group: "system:masters",
        ..Ask::default()
    };
    let settings = Review {
        guard: serde_yaml_ng::from_str("{breakGlass: {groups: []}}").unwrap(),
        ..Review::default()
    };
    assert_eq!(verdict(&asked(ask, &settings)), "- BG009!");
}

#[test]
fn modes_and_exemptions_lower_what_is_found_and_the_rest_is_kept_account_of() {
    let with = |yaml: &str| serde_yaml_ng::from_str::<Review>(yaml).unwrap();
    let of = |settings: &Review| {
        let request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
        let decision = review(&request, settings, Some(&Seen::of(&cluster())), NOW);
        let silent: Vec<&str> = decision.silent.iter().map(|silent| silent.finding.code).collect();
        (verdict(&decision), silent.contains(&"NP002"))
    };
    assert_eq!(of(&with("{mode: warn}")), ("+ NP002".to_owned(), false));
    assert_eq!(of(&with("{mode: audit}")), ("+".to_owned(), true));
    assert_eq!(of(&with("{modes: {NP002: audit}}")), ("+".to_owned(), true));
    assert_eq!(
        of(&with(
            "{exemptions: [{rules: [NP002], until: 2027-01-15, reason: x}]}"
        )),
        ("+".to_owned(), true)
    );
    assert_eq!(
        of(&with(
            "{exemptions: [{rules: [NP002], until: 2027-01-14, reason: x}]}"
        )),
        ("- NP002!".to_owned(), false)
    );
    let broken = open(&body("networkpolicies", "{metadata: {name: web}, spec: 7}", None)).unwrap();
    assert!(review(&broken, &with("{mode: audit}"), None, NOW).allowed());
}

#[test]
fn the_platform_team_says_in_an_annotation_what_rules_weigh_in_a_namespace() {
    let mut cluster = cluster();
    let key = Key::cluster("shop");
    let mut namespace = cluster.namespaces.get(&key).unwrap().clone();
    let severities = "NP002=warn".to_owned();
    namespace
        .annotations
        .insert("ringfence.dev/severities".to_owned(), severities);
    cluster.namespaces.apply(key, namespace);
    let request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
    let decision = review(&request, &Review::default(), Some(&Seen::of(&cluster)), NOW);
    assert_eq!(verdict(&decision), "+ NP002");
}
