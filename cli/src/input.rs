//! What every command that reads manifests is told about them.

use std::io::Write;

use ringfence_netpol::facts::Facts;

use crate::Error;
use crate::generate;
use crate::read::{self, Reading};

/// The part of a command's arguments that says how to read.
#[derive(Debug, Clone, clap::Args)]
pub struct Input {
    /// Look at a live cluster, through the kubeconfig, in place of files
    #[arg(long)]
    pub live: bool,
    /// The context of the kubeconfig to use with --live
    #[arg(long, value_name = "NAME", requires = "live")]
    pub context: Option<String>,
    /// Where objects are that name no namespace
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// Go on with what can be used, if some input cannot
    #[arg(short, long)]
    pub keep_going: bool,
    /// Add the policies that the generator would apply for the NamespaceBaselines of the input
    #[arg(long)]
    pub with_baselines: bool,
    /// Refuse files that are larger than this
    #[arg(long, default_value_t = 64, value_name = "MIB", hide_short_help = true)]
    pub max_file_size: u64,
}

impl Input {
    pub fn options(&self) -> read::Options {
        read::Options {
            namespace: self.namespace.clone(),
            max_file_size: self.max_file_size.saturating_mul(1 << 20),
            keep_refused: false,
        }
    }

    /// Reads the sources and tells what of them cannot be used.
    ///
    /// # Errors
    /// If something cannot, unless told to keep going; or if there is nothing at all.
    pub fn read(&self, sources: &[String], err: &mut dyn Write) -> Result<Reading, Error> {
        let reading = self.source(sources, &self.options())?;
        let reading = self.accept(reading, err)?;
        if reading.taken == 0 {
            return Err(Error::Usage(format!(
                "there is no object in {} that says who reaches whom (pods, workloads, policies)",
                if self.live {
                    "the cluster".to_owned()
                } else {
                    sources.join(", ")
                }
            )));
        }
        Ok(reading)
    }

    /// Reads the live cluster or the sources.
    ///
    /// # Errors
    /// If the cluster cannot be seen, or nothing is named.
    pub fn source(&self, sources: &[String], options: &read::Options) -> Result<Reading, Error> {
        match (self.live, sources) {
            (false, []) => Err(Error::Usage(
                "name what to read: folders, files, - for standard input, or --live".to_owned(),
            )),
            (false, sources) => Ok(read::read(sources, options)),
            (true, sources) => read::live::read(self.context.as_deref(), sources, options)
                .map_err(|error| Error::Usage(error.to_string())),
        }
    }

    /// Tells what cannot be used, and adds the baselines if asked for.
    ///
    /// # Errors
    /// If something cannot be used, unless told to keep going.
    pub fn accept(&self, mut reading: Reading, err: &mut dyn Write) -> Result<Reading, Error> {
        let mut problems: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
        if self.with_baselines && !reading.cluster.baselines.is_empty() {
            let (policies, remarks) = generate::policies(&reading.cluster, &[], &Facts::new())?;
            policies.iter().for_each(|policy| {
                reading.cluster.apply(policy);
            });
            for remark in remarks {
                if remark.fails {
                    problems.push(remark.text);
                } else {
                    writeln!(err, "{}", remark.text)?;
                }
            }
        }
        for problem in &problems {
            writeln!(err, "{problem}")?;
        }
        match problems.len() {
            0 => Ok(reading),
            count if self.keep_going => {
                writeln!(
                    err,
                    "going on without what is wrong in {count} place{}",
                    if count == 1 { "" } else { "s" }
                )?;
                Ok(reading)
            }
            _ => {
                writeln!(err, "nothing was done; --keep-going goes on with the rest")?;
                Err(Error::Input)
            }
        }
    }
}
