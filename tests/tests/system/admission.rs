//! What the API server accepts, refuses, drops and fills in, and that lint and parser say the same.
//!
//! Everything is a dry run, in a namespace that no webhook of ours looks into: the API server is asked alone, and stores nothing.

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use ringfence_fuzz::draw::Draw;
use ringfence_fuzz::policy::draw_policy;
use ringfence_fuzz::reference;
use ringfence_netpol::policy::Policy;
use ringfence_tests::admission::{Case, Cases, DROPPED, REFUSED, agree, lint, manifest};
use ringfence_tests::command::Ringfence;
use ringfence_tests::target::{Target, repository};
use serde_json::Value;

/// Left out by the webhook, by its configuration.
const NAMESPACE: &str = "kube-public";
/// How many random policies are compared.
const RANDOM: usize = 600;

/// What the API server says.
#[derive(Debug)]
enum Said {
    /// With the specification as it would be stored.
    Accepted(Value),
    /// With the fields that it names; none if it could not even read the object.
    Refused(Vec<String>),
}

impl Said {
    fn fields(&self) -> Vec<&str> {
        match self {
            Self::Accepted(_) => Vec::new(),
            Self::Refused(fields) => fields.iter().map(String::as_str).collect(),
        }
    }
}

/// Asks the API server; a strict one also refuses what it would drop.
async fn ask(target: &Target, spec: &Value, strict: bool) -> anyhow::Result<Said> {
    let validation = if strict { "Strict" } else { "Ignore" };
    let path = format!(
        "/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies?dryRun=All&fieldValidation={validation}"
    );
    let body = manifest("ringfence-asks", NAMESPACE, spec).to_string();
    let request = http::Request::post(path)
        .header("Content-Type", "application/json")
        .body(body.into_bytes())?;
    match target.client.request::<Value>(request).await {
        Ok(stored) => Ok(Said::Accepted(stored["spec"].clone())),
        Err(kube::Error::Api(status)) if status.code == 422 => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            Ok(Said::Refused(causes.map(|cause| cause.field.clone()).collect()))
        }
        // `strict decoding error: unknown field "spec.a", unknown field "spec.b"`
        Err(kube::Error::Api(status)) if status.code == 400 => {
            let named = status.message.split("unknown field \"").skip(1);
            Ok(Said::Refused(
                named
                    .filter_map(|rest| rest.split('"').next())
                    .map(str::to_owned)
                    .collect(),
            ))
        }
        Err(error) => Err(error).with_context(|| spec.to_string()),
    }
}

/// Asks about many at once.
async fn ask_all(target: &Target, specs: &[&Value], strict: bool) -> anyhow::Result<Vec<Said>> {
    let asking = specs.iter().map(|spec| ask(target, spec, strict));
    stream::iter(asking).buffered(8).try_collect().await
}

/// Whether the API server is of that version or a later one.
async fn is_since(target: &Target, version: Option<&str>) -> anyhow::Result<bool> {
    let Some(version) = version else { return Ok(true) };
    let number = |text: &str| {
        text.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse::<u32>()
    };
    let minor = version.split_once('.').and_then(|(_, minor)| number(minor).ok());
    let server = target.client.apiserver_version().await?;
    Ok(number(&server.minor)? >= minor.context("no version")?)
}

fn of<'a>(found: &'a [(String, String)], codes: &[&str]) -> Vec<&'a str> {
    let found = found.iter().filter(|(code, _)| codes.contains(&code.as_str()));
    found.map(|(_, field)| field.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lint_and_api_server_agree_about_what_is_accepted_refused_and_dropped() -> anyhow::Result<()> {
    let target = Target::connect().await?;
    let cases = Cases::read(&repository().join("tests/corpus/admission"))?;
    let (_, wrong) = cases.judge(&Ringfence::Here)?;
    ensure!(wrong.is_empty(), "by lint: {}", wrong.join("\n"));
    let mut wrong = Vec::new();
    let mut differ =
        |case: &Case, said: &Said| wrong.push(format!("{}: the API server says {said:?}", case.name));
    let specs = |list: &'_ [Case]| -> Vec<Value> { list.iter().map(|case| case.spec.clone()).collect() };

    let accepted = specs(&cases.accepted);
    let answers = ask_all(&target, &accepted.iter().collect::<Vec<_>>(), true).await?;
    for (case, said) in cases.accepted.iter().zip(&answers) {
        let stored = match said {
            Said::Accepted(stored) => stored,
            Said::Refused(_) => {
                differ(case, said);
                continue;
            }
        };
        let types: Vec<&str> = stored["policyTypes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let expected: Vec<&str> = case.policy_types.iter().flatten().map(String::as_str).collect();
        let ours = Policy::parse(&serde_json::from_value(manifest("p", "x", &case.spec))?);
        let isolates = |name: &str| types.contains(&name);
        if types != expected
            || (isolates("Ingress"), isolates("Egress")) != (ours.ingress.is_some(), ours.egress.is_some())
        {
            differ(case, said);
        }
    }

    let refused = specs(&cases.refused);
    let answers = ask_all(&target, &refused.iter().collect::<Vec<_>>(), false).await?;
    for (case, said) in cases.refused.iter().zip(&answers) {
        let named = said
            .fields()
            .iter()
            .any(|field| Some(*field) == case.field.as_deref());
        if named != is_since(&target, case.since.as_deref()).await? {
            differ(case, said);
        }
    }

    let dropped = specs(&cases.dropped);
    let answers = ask_all(&target, &dropped.iter().collect::<Vec<_>>(), true).await?;
    let stored = ask_all(&target, &dropped.iter().collect::<Vec<_>>(), false).await?;
    for ((case, strict), lenient) in cases.dropped.iter().zip(&answers).zip(&stored) {
        let expected: Vec<&str> = case.field.iter().map(String::as_str).collect();
        if strict.fields() != expected || !matches!(lenient, Said::Accepted(_)) {
            differ(case, strict);
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The same numbers in every run, so that a difference comes again.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lint_reference_and_api_server_agree_about_random_policies() -> anyhow::Result<()> {
    let target = Target::connect().await?;
    let specs: Vec<Value> = (0..RANDOM)
        .map(|seed| draw_policy(&mut Draw::new(&noise(seed, 40 + seed % 200)))["spec"].clone())
        .collect();
    let specs: Vec<&Value> = specs.iter().collect();
    let found = lint(&Ringfence::Here, &specs)?;
    let strict_blocks = is_since(&target, Some("1.36")).await?;
    let (mut accepted, mut wrong) = (0, Vec::new());
    for ((spec, said), found) in specs
        .iter()
        .zip(ask_all(&target, &specs, false).await?)
        .zip(&found)
    {
        let theirs = said.fields();
        let codes = if strict_blocks {
            &REFUSED[..]
        } else {
            &REFUSED[..1]
        };
        let ours = of(found, codes);
        let is_refused = matches!(said, Said::Refused(_));
        accepted += usize::from(!is_refused);
        let reference = reference::refused(&serde_json::from_value(manifest("p", "x", spec))?);
        let reference: Vec<&str> = reference.iter().map(String::as_str).collect();
        let holds = agree(&ours, &theirs)
            && is_refused != ours.is_empty()
            && (!strict_blocks || agree(&reference, &theirs));
        if !holds || !of(found, &[DROPPED]).is_empty() {
            wrong.push(format!(
                "{spec}: lint {ours:?}, reference {reference:?}, API server {said:?}"
            ));
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {RANDOM} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    ensure!(
        accepted > RANDOM / 20 && accepted < RANDOM * 19 / 20,
        "{accepted} of {RANDOM} were accepted"
    );
    Ok(())
}
