//! Clients in pods: every connection of a request at once.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringfence_tests::probe::{Answer, Question, Wire};
use socket2::{Domain, Socket, Type};

use crate::namespaces::{Namespaces, within};

/// A datagram that gets lost is sent again: one lost is not a closed door.
const SENDS: u32 = 3;

/// The answers, in the order of the questions.
pub fn ask(
    namespaces: &mut Namespaces,
    questions: &[Question],
    patience: Duration,
) -> anyhow::Result<Vec<Answer>> {
    let mut by_pod: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
    for (index, question) in questions.iter().enumerate() {
        by_pod.entry(question.from).or_default().push(index);
    }
    let mut attempts = Vec::new();
    for (pod, indices) in by_pod {
        let namespace = namespaces.of(pod)?;
        let asked: Vec<(usize, Question)> = indices
            .into_iter()
            .map(|index| (index, questions[index]))
            .collect();
        attempts.extend(within(&namespace, move || {
            Ok(asked
                .into_iter()
                .map(|(index, question)| Attempt::begin(index, question))
                .collect::<Vec<_>>())
        })?);
    }
    wait(&mut attempts, patience)?;
    attempts.sort_by_key(|attempt| attempt.index);
    Ok(attempts
        .into_iter()
        .map(|attempt| attempt.answer.unwrap_or(Answer::Closed))
        .collect())
}

struct Attempt {
    index: usize,
    wire: Wire,
    socket: Option<Socket>,
    answer: Option<Answer>,
}

impl Attempt {
    fn begin(index: usize, question: Question) -> Self {
        let Question {
            from,
            protocol: wire,
            to,
        } = question;
        let (socket, answer) = match connect(wire, from, to) {
            Ok(socket) => (Some(socket), None),
            Err(error) => (None, Some(verdict(&error))),
        };
        Self {
            index,
            wire,
            socket,
            answer,
        }
    }

    fn send_again(&mut self) {
        if let (Wire::Udp, None, Some(socket)) = (self.wire, &self.answer, &self.socket)
            && let Err(error) = socket.send(b"?")
            && error.kind() != ErrorKind::WouldBlock
        {
            self.answer = Some(verdict(&error));
        }
    }

    fn look(&mut self) {
        let Some(socket) = &self.socket else { return };
        let result = match self.wire {
            Wire::Tcp => match socket.take_error() {
                Ok(None) => Ok(()),
                Ok(Some(error)) | Err(error) => Err(error),
            },
            Wire::Udp => socket.recv(&mut [std::mem::MaybeUninit::uninit(); 64]).map(drop),
        };
        self.answer = match result {
            Ok(()) => Some(Answer::Open),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(verdict(&error)),
        };
    }
}

fn connect(wire: Wire, from: IpAddr, to: SocketAddr) -> std::io::Result<Socket> {
    let kind = match wire {
        Wire::Tcp => Type::STREAM,
        Wire::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(to), kind, None)?;
    socket.set_nonblocking(true)?;
    if from.is_ipv4() == to.is_ipv4() {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    if wire == Wire::Tcp {
        // Ports are not to be kept for minutes after thousands of connections.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket),
    }
}

fn verdict(error: &std::io::Error) -> Answer {
    match error.kind() {
        ErrorKind::TimedOut => Answer::Closed,
        // A netfilter verdict of "drop" in the sender's own path is told to it as an error of its socket.
        ErrorKind::PermissionDenied => Answer::Closed,
        _ => Answer::Broken(error.to_string()),
    }
}

fn wait(attempts: &mut [Attempt], patience: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    for send in 0..SENDS {
        attempts.iter_mut().for_each(Attempt::send_again);
        let until = start + patience * (send + 1) / SENDS;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut open: Vec<&mut Attempt> = attempts
                .iter_mut()
                .filter(|attempt| attempt.answer.is_none())
                .collect();
            if open.is_empty() {
                return Ok(());
            }
            let flags = |wire| match wire {
                Wire::Tcp => PollFlags::POLLOUT,
                Wire::Udp => PollFlags::POLLIN,
            };
            let ready: Vec<bool> = {
                let mut sockets: Vec<PollFd<'_>> = open
                    .iter()
                    .filter_map(|attempt| {
                        Some(PollFd::new(attempt.socket.as_ref()?.as_fd(), flags(attempt.wire)))
                    })
                    .collect();
                // A part of a millisecond is waited for as a whole one.
                let whole = match left.is_zero() {
                    true => Duration::ZERO,
                    false => left + Duration::from_millis(1),
                };
                poll(&mut sockets, PollTimeout::try_from(whole)?)?;
                sockets
                    .iter()
                    .map(|socket| socket.revents().is_some_and(|events| !events.is_empty()))
                    .collect()
            };
            for (attempt, ready) in open.iter_mut().zip(ready) {
                if ready {
                    attempt.look();
                }
            }
            // Only now: where other tests had the processors meanwhile, the answers are there and nobody has looked yet.
            if left.is_zero() {
                break;
            }
        }
    }
    Ok(())
}
