//! What one side says otherwise after than before: the peers, and the ports for them, that it has only once.
//!
//! It may name more than really differs, and never less. So what it leaves out need not be looked at.

use super::side::{is_of, listed};
use crate::policy::{Peer, Peers, Port, Ports, Rule};
use crate::selector::{Labels, Selector};

/// How many comparisons are made to find out what two policies have in common. What is larger is taken to differ as a whole.
const COMPARED: usize = 16_384;

/// What differs towards pods. Blocks of addresses are about what is outside.
#[derive(Debug)]
pub(super) enum Delta<'a> {
    /// Pods become isolated, or no longer are: towards anyone, on any port.
    Everything,
    These(Vec<Piece<'a>>),
}

/// Ports that are open to peers only before, or only after.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece<'a> {
    /// `None`: anyone.
    peers: Option<&'a [Peer]>,
    /// `None`: all ports.
    pub ports: Option<Vec<&'a Port>>,
}

/// A piece, as far as it is about the pods of one namespace.
pub(super) struct Here<'a, 'b> {
    /// No selectors: all of them.
    pub pods: Option<Vec<&'a Selector>>,
    pub ports: Option<&'b [&'a Port]>,
}

impl<'a> Delta<'a> {
    /// Between the rules of one policy, beside the rules of others that say the same before and after.
    pub fn between(before: &'a [Rule], after: &'a [Rule], others: &[&Rule]) -> Self {
        let compared = before.iter().map(size).sum::<usize>().saturating_mul(after.len());
        let (before, after) = if compared > COMPARED {
            (before.iter().collect(), after.iter().collect())
        } else {
            (beside(before, after), beside(after, before))
        };
        let (Some(atoms), Some(more)) = (atoms(&before), atoms(&after)) else {
            return Self::These(before.into_iter().chain(after).map(Piece::whole).collect());
        };
        let weight: usize = others.iter().map(|rule| weight(rule)).sum();
        let both = atoms.len() + more.len();
        let asked = if both.saturating_mul(weight) > COMPARED {
            &[]
        } else {
            others
        };
        let once = atoms.iter().filter(|atom| !more.contains(atom));
        let once = once.chain(more.iter().filter(|atom| !atoms.contains(atom)));
        let mut pieces: Vec<Piece<'a>> = Vec::new();
        for atom in once.filter(|atom| !asked.iter().any(|rule| atom.is_in(rule))) {
            let peers = atom.peer.map(std::slice::from_ref);
            match pieces.iter_mut().find(|piece| piece.peers == peers) {
                Some(piece) => match (&mut piece.ports, atom.port) {
                    (Some(ports), Some(port)) => ports.push(port),
                    (ports, _) => *ports = None,
                },
                None => pieces.push(Piece {
                    peers,
                    ports: atom.port.map(|port| vec![port]),
                }),
            }
        }
        Self::These(pieces)
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::These(pieces) if pieces.is_empty())
    }

    /// How much there is to look through.
    pub fn size(&self) -> usize {
        match self {
            Self::Everything => 1,
            Self::These(pieces) => {
                1 + pieces
                    .iter()
                    .map(|piece| piece.peers.map_or(1, <[_]>::len))
                    .sum::<usize>()
            }
        }
    }

    /// The ports of what is about pods of a namespace, as [`Self::towards`] has them.
    pub fn ports_towards<'b>(
        &'b self,
        namespace: &'b str,
        labels: Option<&'b Labels>,
    ) -> impl Iterator<Item = Option<&'b [&'a Port]>> + 'b {
        let (all, pieces) = match self {
            Self::Everything => (Some(None), [].as_slice()),
            Self::These(pieces) => (None, pieces.as_slice()),
        };
        let here = move |piece: &&Piece<'a>| {
            let looks = |peer: &Peer| match peer {
                Peer::Pods { namespaces, .. } => is_of(namespaces, namespace, labels),
                Peer::Block(_) => false,
            };
            piece.peers.is_none_or(|peers| peers.iter().any(looks))
        };
        let some = pieces.iter().filter(here).map(|piece| piece.ports.as_deref());
        all.into_iter().chain(some)
    }

    /// What is about the pods of a namespace; `labels` are the namespace's, `None` while it is not known.
    pub fn towards(&self, namespace: &str, labels: Option<&Labels>) -> Vec<Here<'a, '_>> {
        let Self::These(pieces) = self else {
            return vec![Here {
                pods: None,
                ports: None,
            }];
        };
        let here = pieces.iter().filter_map(|piece| {
            let selectors = |peers: &'a [Peer]| -> Vec<&'a Selector> {
                let of = peers.iter().filter_map(|peer| match peer {
                    Peer::Pods { namespaces, pods } => is_of(namespaces, namespace, labels).then_some(pods),
                    Peer::Block(_) => None,
                });
                of.collect()
            };
            let pods = piece.peers.map(selectors);
            if pods.as_ref().is_some_and(Vec::is_empty) {
                return None;
            }
            let everyone = |selectors: &Vec<&Selector>| selectors.iter().any(|pods| pods.is_everything());
            Some(Here {
                pods: pods.filter(|selectors| !everyone(selectors)),
                ports: piece.ports.as_deref(),
            })
        });
        here.collect()
    }
}

impl Here<'_, '_> {
    /// How much there is to look through for each pod.
    pub fn size(&self) -> usize {
        self.pods.as_ref().map_or(1, Vec::len)
    }

    /// Whether it is about pods with these labels.
    pub fn is_about(&self, labels: &Labels) -> bool {
        let selectors = self.pods.as_ref();
        selectors.is_none_or(|selectors| selectors.iter().any(|pods| pods.matches(labels)))
    }
}

impl<'a> Piece<'a> {
    fn whole(rule: &'a Rule) -> Self {
        Self {
            peers: match &rule.peers {
                Peers::Any => None,
                Peers::Of(peers) => Some(peers),
            },
            ports: match &rule.ports {
                Ports::Any => None,
                Ports::Of(ports) => Some(ports.iter().collect()),
            },
        }
    }
}

/// One port for one peer; `None` stands for any.
#[derive(Debug, PartialEq)]
struct Atom<'a> {
    peer: Option<&'a Peer>,
    port: Option<&'a Port>,
}

impl Atom<'_> {
    /// Whether a rule says that too.
    fn is_in(&self, rule: &Rule) -> bool {
        let peer = match &rule.peers {
            Peers::Any => true,
            Peers::Of(peers) => self.peer.is_some_and(|peer| peers.contains(peer)),
        };
        peer && match &rule.ports {
            Ports::Any => true,
            Ports::Of(ports) => self.port.is_some_and(|port| ports.contains(port)),
        }
    }
}

/// The rules that are not among the others.
fn beside<'a>(rules: &'a [Rule], others: &[Rule]) -> Vec<&'a Rule> {
    rules.iter().filter(|rule| !others.contains(rule)).collect()
}

/// What rules say, in the smallest pieces; `None` if these are too many.
fn atoms<'a>(rules: &[&'a Rule]) -> Option<Vec<Atom<'a>>> {
    const MOST: usize = 64; // each is compared with each
    if rules.iter().map(|rule| weight(rule)).sum::<usize>() > MOST {
        return None;
    }
    let mut atoms = Vec::new();
    for rule in rules {
        let peers: Vec<Option<&Peer>> = match &rule.peers {
            Peers::Any => vec![None],
            Peers::Of(peers) => {
                let pods = peers.iter().filter(|peer| matches!(peer, Peer::Pods { .. }));
                pods.map(Some).collect()
            }
        };
        for peer in peers {
            match &rule.ports {
                Ports::Any => atoms.push(Atom { peer, port: None }),
                Ports::Of(ports) => atoms.extend(ports.iter().map(|port| Atom {
                    peer,
                    port: Some(port),
                })),
            }
        }
    }
    Some(atoms)
}

/// How much of a rule there is to compare.
fn size(rule: &Rule) -> usize {
    let peers = match &rule.peers {
        Peers::Any => 1,
        Peers::Of(peers) => peers.len(),
    };
    1 + peers + listed(&rule.ports)
}

/// How many pieces a rule has.
fn weight(rule: &Rule) -> usize {
    let peers = match &rule.peers {
        Peers::Any => 1,
        Peers::Of(peers) => peers.len(),
    };
    peers.saturating_mul(match &rule.ports {
        Ports::Any => 1,
        Ports::Of(ports) => ports.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn rules(yaml: &str) -> Vec<Rule> {
        let object = format!(
            "{{metadata: {{name: x, namespace: shop}}, spec: {{podSelector: {{}}, ingress: {yaml}}}}}"
        );
        Policy::parse(&serde_yaml_ng::from_str(&object).unwrap())
            .ingress
            .unwrap()
    }

    /// How many peers differ, each with its ports.
    fn differing(before: &str, after: &str, others: &str) -> Vec<String> {
        let (before, after, others) = (rules(before), rules(after), rules(others));
        let Delta::These(pieces) = Delta::between(&before, &after, &others.iter().collect::<Vec<_>>()) else {
            return vec!["everything".to_owned()];
        };
        let shown = |piece: &Piece<'_>| {
            let peers = piece
                .peers
                .map_or("anyone".to_owned(), |peers| format!("{} peer", peers.len()));
            let ports = piece.ports.as_ref();
            format!(
                "{peers}, {}",
                ports.map_or("any port".to_owned(), |ports| format!("{} ports", ports.len()))
            )
        };
        pieces.iter().map(shown).collect()
    }

    #[test]
    fn only_what_is_there_once_and_nowhere_else_differs() {
        const WEB: &str = "{podSelector: {matchLabels: {app: web}}}";
        let of =
            |ports: &str| format!("[{{from: [{WEB}, {{ipBlock: {{cidr: 10.0.0.0/8}}}}], ports: [{ports}]}}]");
        let both = of("{port: 80}, {port: 443}");
        assert_eq!(
            differing(&both, &of("{port: 80}, {port: 444}"), "[]"),
            ["1 peer, 2 ports"]
        );
        assert_eq!(differing("[]", &both, &both), [""; 0]);
        assert_eq!(differing("[]", &both, &of("{port: 443}")), ["1 peer, 1 ports"]);
        assert_eq!(differing("[]", &both, "[{}]"), [""; 0]);
        assert_eq!(differing("[{}]", "[]", &both), ["anyone, any port"]);
        assert_eq!(
            differing("[]", "[{from: [], ports: []}]", "[]"),
            ["anyone, any port"],
            "as empty lists mean"
        );
        let many = format!("[{{from: [{}]}}]", vec![WEB; 5_000].join(", "));
        assert_eq!(
            differing("[]", &many, "[]"),
            ["5000 peer, any port"],
            "too large to be taken apart"
        );
    }
}
