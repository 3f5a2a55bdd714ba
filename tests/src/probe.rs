//! Many connections between real pods at once.
//!
//! Running a client in a pod through the API server takes a tenth of a second a connection: too slow for thousands of verdicts, and
//! far too slow to see one that is wrong for a moment. A *prober* is a process in each node which opens sockets in the
//! network namespaces of the node's pods: for the kernel, connections of those pods like any other. It serves there too, so
//! that pods need nothing but an address.
//!
//! One request and one reply a line, as JSON; `src/bin/prober` is the other end.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::target::{Target, repository};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Question {
    /// The pod that connects, by its address.
    pub from: IpAddr,
    pub protocol: Wire,
    pub to: SocketAddr,
}

/// The protocols that a prober speaks. SCTP has no sockets in many kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Wire {
    Tcp,
    Udp,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Connected (TCP), or answered (UDP).
    Open,
    /// No answer in time.
    Closed,
    /// Something else, which says nothing of policy.
    Broken(String),
}

/// A line to a prober.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Serve at these ports of these pods, and no longer at any other pod's.
    Serve {
        pods: Vec<IpAddr>,
        ports: Vec<(Wire, u16)>,
    },
    Ask {
        questions: Vec<Question>,
        patience: Duration,
    },
}

/// A line from a prober.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    Serving,
    Answers(Vec<Answer>),
    /// The request could not be followed; nothing was measured.
    Failed(String),
}

/// The probers of a cluster, one a node.
pub struct Probers {
    probers: BTreeMap<String, Prober>,
}

struct Prober {
    // Killed with its handle.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// What was asked, with the answers.
#[derive(Debug)]
pub struct Measured {
    pub answers: Vec<(Question, Answer)>,
    /// From before the first packet to after the last answer.
    pub began: Instant,
    pub ended: Instant,
}

impl Probers {
    /// Starts a prober in each node of the project's own cluster.
    ///
    /// # Errors
    /// If the cluster is another's, whose nodes are not ours to enter, or a process cannot be started.
    pub async fn start(target: &Target, binary: &Path) -> anyhow::Result<Self> {
        ensure!(
            target.own,
            "the nodes of a cluster given by KUBECONFIG are not entered"
        );
        let mut probers = BTreeMap::new();
        for node in target.nodes().await? {
            let mut child = Command::new(repository().join("tests/cluster/node"))
                .arg(&node)
                .arg(binary)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let input = child.stdin.take().context("no way to the prober")?;
            let output = BufReader::new(child.stdout.take().context("no way from the prober")?).lines();
            let prober = Prober {
                _child: child,
                input,
                output,
            };
            probers.insert(node, prober);
        }
        Ok(Self { probers })
    }

    /// Has these pods, given with their nodes, serve at these ports; others serve no longer.
    ///
    /// # Errors
    /// If a pod is not on its node.
    pub async fn serve(&mut self, pods: &[(String, IpAddr)], ports: &[(Wire, u16)]) -> anyhow::Result<()> {
        let each = self.probers.iter_mut().map(|(node, prober)| {
            let here = pods.iter().filter(|(on, _)| on == node);
            let request = Request::Serve {
                pods: here.map(|(_, pod)| *pod).collect(),
                ports: ports.to_vec(),
            };
            async move {
                match prober.request(&request).await? {
                    Reply::Serving => Ok(()),
                    other => bail!("on {node}: {other:?}"),
                }
            }
        });
        try_join_all(each).await.map(drop)
    }

    /// Opens all these connections at once, each from the pod that is on the node given with it.
    ///
    /// # Errors
    /// If a prober fails, or a connection fails in a way that no policy explains.
    pub async fn ask(
        &mut self,
        questions: &[(String, Question)],
        patience: Duration,
    ) -> anyhow::Result<Measured> {
        let began = Instant::now();
        let each = self.probers.iter_mut().map(|(node, prober)| {
            let here: Vec<Question> = questions
                .iter()
                .filter(|(on, _)| on == node)
                .map(|(_, question)| *question)
                .collect();
            async move {
                let request = Request::Ask {
                    questions: here.clone(),
                    patience,
                };
                match prober.request(&request).await? {
                    Reply::Answers(answers) if answers.len() == here.len() => {
                        Ok(here.into_iter().zip(answers).collect::<Vec<_>>())
                    }
                    other => bail!("on {node}: {other:?}"),
                }
            }
        });
        let answers = try_join_all(each).await?.concat();
        for (question, answer) in &answers {
            if let Answer::Broken(reason) = answer {
                bail!("{question:?}: {reason}");
            }
        }
        Ok(Measured {
            answers,
            began,
            ended: Instant::now(),
        })
    }
}

impl Prober {
    async fn request(&mut self, request: &Request) -> anyhow::Result<Reply> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.input.write_all(line.as_bytes()).await?;
        let line = self.output.next_line().await?.context("the prober ended")?;
        Ok(serde_json::from_str(&line)?)
    }
}
