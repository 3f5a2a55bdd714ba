//! The command line, as the harness asks it: within this process, or the program itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use ringfence_cli::args::Args;
use ringfence_netpol::port::Transport;
use serde_json::{Value, json};

/// How `ringfence` is run.
#[derive(Debug, Clone)]
pub enum Ringfence {
    /// As the library that it is made of: a test's way, which costs no process.
    Here,
    /// The program.
    Program(PathBuf),
}

/// What it said.
#[derive(Debug)]
pub struct Ran {
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl Ringfence {
    /// The program that was built beside the one that asks.
    ///
    /// # Errors
    /// If it was not built.
    pub fn beside() -> anyhow::Result<Self> {
        let path = std::env::current_exe()?.with_file_name("ringfence");
        ensure!(
            path.exists(),
            "{} is not there; build it with: cargo build --package ringfence-cli",
            path.display()
        );
        Ok(Self::Program(path))
    }

    /// Runs a command.
    ///
    /// # Errors
    /// If it cannot be run; how it ended is in [`Ran`].
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        match self {
            Self::Here => {
                let args = Args::try_parse_from([&["ringfence"], arguments].concat())?;
                let (mut out, mut err) = (Vec::new(), Vec::new());
                let outcome = ringfence_cli::run(&args, &mut out, &mut err);
                let (out, err) = (String::from_utf8(out)?, String::from_utf8(err)?);
                Ok(Ran {
                    code: outcome.code(),
                    out,
                    err,
                })
            }
            Self::Program(path) => {
                let output = Command::new(path).args(arguments).output();
                let output = output.with_context(|| format!("{} cannot be run", path.display()))?;
                let Some(code) = output.status.code().and_then(|code| u8::try_from(code).ok()) else {
                    bail!("ringfence {}: {}", arguments.join(" "), output.status);
                };
                let (out, err) = (
                    String::from_utf8(output.stdout)?,
                    String::from_utf8(output.stderr)?,
                );
                Ok(Ran { code, out, err })
            }
        }
    }
}

/// Manifests in a folder that is gone when it is dropped.
///
/// # Errors
/// If it cannot be written.
pub fn folder<'a>(manifests: impl IntoIterator<Item = &'a Value>) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let items: Vec<&Value> = manifests.into_iter().collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(folder.path().join("manifests.json"), list.to_string())?;
    Ok(folder)
}

/// What `connlist` lists of manifests, by the meaning that blocks have to packets: as JSON, which knows ports, and as text, which
/// tells every port from everything.
#[derive(Debug)]
pub struct Listed {
    rows: BTreeMap<(String, String), Value>,
    everything: BTreeSet<(String, String)>,
}

impl Listed {
    /// # Errors
    /// If the command line cannot list them.
    pub fn of<'a>(
        manifests: impl IntoIterator<Item = &'a Value>,
        ringfence: &Ringfence,
    ) -> anyhow::Result<Self> {
        let folder = folder(manifests)?;
        let path = folder.path().to_string_lossy();
        let list = |form: &str| -> anyhow::Result<String> {
            let ran = ringfence.run(&["connlist", &path, "-o", form, "--ipblock-matches-pods"])?;
            ensure!(ran.code == 0, "connlist ended with {}: {}", ran.code, ran.err);
            Ok(ran.out)
        };
        let everything = list("text")?
            .lines()
            .filter_map(|line| {
                let (from, to) = line.strip_suffix(" : everything")?.split_once(" => ")?;
                Some((from.to_owned(), to.to_owned()))
            })
            .collect();
        let rows: Vec<Value> = serde_json::from_str(&list("json")?)?;
        let row = |row: Value| {
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            ((text("src"), text("dst")), row["conn"].clone())
        };
        let rows = rows.into_iter().map(row).collect();
        Ok(Self { rows, everything })
    }

    /// Whether a row whose ends are called so has it.
    pub fn has(&self, from: &str, to: &str, transport: Transport) -> bool {
        self.any(transport, |src, dst| src == from && dst == to)
    }

    /// Whether a row whose ends are recognised has it.
    pub fn any(&self, transport: Transport, recognised: impl Fn(&str, &str) -> bool) -> bool {
        let Transport::Port(protocol, port) = transport else {
            return self.everything.iter().any(|(from, to)| recognised(from, to));
        };
        let holds = |range: &Value| {
            let bound = |index: usize| range[index].as_u64().unwrap_or_default();
            (bound(0)..=bound(1)).contains(&u64::from(port))
        };
        let mut rows = self.rows.iter().filter(|((from, to), _)| recognised(from, to));
        rows.any(|(_, ports)| {
            let ranges = ports[protocol.to_string()].as_array();
            ranges.is_some_and(|ranges| ranges.iter().any(holds))
        })
    }

    /// Whether ranges of IPv6 are listed, which they are if some policy has one.
    pub fn has_ipv6(&self) -> bool {
        self.rows
            .keys()
            .any(|(from, to)| from.contains("::") || to.contains("::"))
    }
}
