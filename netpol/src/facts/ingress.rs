//! Where the cluster's ingress controllers really run: IngressClass or GatewayClass → controller → pods.
//!
//! Who can label a pod must not be able to become an ingress controller, since its peers may reach every namespace. So the labels
//! of well-known controllers count only in namespaces that vouch for it: the one that Helm noted on the class (which only
//! an administrator can write), and for a class without such a note the one in which the controller's own instructions install it. Pods elsewhere
//! that look like a controller are named in the status, to be pinned if they are one.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::baseline::FactRule;
use crate::cluster::{Cluster, Pod};
use crate::selector::Selector;

use super::{Finding, Findings, peers, pods_of};

/// A well-known controller.
struct Known {
    /// What IngressClasses and GatewayClasses name it by; what follows a further slash is the instance.
    controllers: &'static [&'static str],
    /// The labels of its pods, one entry for each way to install it.
    pods: &'static [&'static [(&'static str, &'static str)]],
    /// Where its instructions install it.
    namespaces: &'static [&'static str],
}

const NAME: &str = "app.kubernetes.io/name";
const COMPONENT: &str = "app.kubernetes.io/component";

static KNOWN: [Known; 10] = [
    Known {
        controllers: &["k8s.io/ingress-nginx"],
        pods: &[
            &[(NAME, "ingress-nginx"), (COMPONENT, "controller")],
            &[(NAME, "rke2-ingress-nginx"), (COMPONENT, "controller")],
            &[("name", "nginx-ingress-microk8s")],
        ],
        namespaces: &["ingress-nginx", "kube-system", "ingress"],
    },
    Known {
        controllers: &["traefik.io/ingress-controller", "traefik.io/gateway-controller"],
        pods: &[&[(NAME, "traefik")]],
        namespaces: &["traefik", "traefik-system", "kube-system"],
    },
    Known {
        controllers: &["nginx.org/ingress-controller"],
        pods: &[&[(NAME, "nginx-ingress")], &[("app", "nginx-ingress")]],
        namespaces: &["nginx-ingress"],
    },
    Known {
        controllers: &["haproxy.org/ingress-controller", "haproxy.org/gateway-controller"],
        pods: &[&[(NAME, "kubernetes-ingress")], &[("run", "haproxy-ingress")]],
        namespaces: &["haproxy-controller"],
    },
    Known {
        controllers: &["haproxy-ingress.github.io/controller"],
        pods: &[&[(NAME, "haproxy-ingress")]],
        namespaces: &["ingress-controller", "haproxy-ingress"],
    },
    Known {
        // Contour is the control plane; connections come from its Envoys.
        controllers: &["projectcontour.io"],
        pods: &[&[(NAME, "contour"), (COMPONENT, "envoy")], &[("app", "envoy")]],
        namespaces: &["projectcontour"],
    },
    Known {
        controllers: &[
            "ingress-controllers.konghq.com/kong",
            "konghq.com/kic-gateway-controller",
        ],
        pods: &[
            &[(NAME, "kong"), (COMPONENT, "app")],
            &[(NAME, "gateway"), (COMPONENT, "app")],
        ],
        namespaces: &["kong"],
    },
    Known {
        controllers: &["istio.io/ingress-controller", "istio.io/gateway-controller"],
        pods: &[
            &[("istio", "ingressgateway")],
            &[("istio", "ingress")],
            // Of a Gateway in these namespaces.
            &[("gateway.istio.io/managed", "istio.io-gateway-controller")],
        ],
        namespaces: &["istio-system", "istio-ingress"],
    },
    Known {
        controllers: &["gateway.envoyproxy.io/gatewayclass-controller"],
        pods: &[&[
            ("app.kubernetes.io/managed-by", "envoy-gateway"),
            (COMPONENT, "proxy"),
        ]],
        namespaces: &["envoy-gateway-system"],
    },
    Known {
        controllers: &["gateway.nginx.org/nginx-gateway-controller"],
        pods: &[&[(NAME, "nginx-gateway-fabric")], &[(NAME, "nginx-gateway")]],
        namespaces: &["nginx-gateway"],
    },
];

impl Known {
    fn serves(&self, controller: &str) -> bool {
        let names = |name: &str| {
            controller
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.controllers.iter().any(|name| names(name))
    }

    fn labels(&self) -> impl Iterator<Item = Vec<(String, String)>> {
        self.pods.iter().map(|labels| {
            labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        })
    }
}

/// The namespaces that a controller may run in, and the classes that it serves.
type Served<'a> = (BTreeSet<&'a str>, Vec<&'a str>);

pub(super) fn find(cluster: &Cluster) -> Findings {
    let mut found = Findings {
        forget_gone: true,
        ..Findings::default()
    };
    let ingress = cluster.ingress_classes.iter().map(|(key, class)| {
        let release = class.release_namespace.as_deref();
        (
            ("IngressClass", class.controller.as_str()),
            release,
            key.name.as_str(),
        )
    });
    let gateway = cluster.gateway_classes.iter().map(|(key, class)| {
        let release = class.release_namespace.as_deref();
        (
            ("GatewayClass", class.controller.as_str()),
            release,
            key.name.as_str(),
        )
    });
    // Several classes may be served by one controller.
    let mut controllers: BTreeMap<(&str, &str), Served<'_>> = BTreeMap::new();
    for (controller, release, class) in ingress.chain(gateway) {
        let (namespaces, classes) = controllers.entry(controller).or_default();
        match release {
            Some(namespace) => namespaces.extend([namespace]),
            None => namespaces.extend(known(controller.1).iter().flat_map(|known| known.namespaces)),
        }
        classes.push(class);
    }
    for ((kind, controller), (vouched, classes)) in controllers {
        let origin = format!("{kind} {} ({controller})", classes.join(", "));
        let result = match known(controller) {
            None => Err(
                "not a controller that is known here; pin its pods or addresses in \
                 spec.facts.ingressControllers.rules"
                    .to_owned(),
            ),
            Some(known) => controller_rule(cluster, known, &vouched),
        };
        found.findings.push(Finding {
            origin,
            found: result,
        });
    }
    if found.findings.is_empty() {
        found
            .remarks
            .push("the cluster has no IngressClass and no GatewayClass".to_owned());
    }
    found
}

fn known(controller: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.serves(controller))
}

fn controller_rule(cluster: &Cluster, known: &Known, vouched: &BTreeSet<&str>) -> Result<FactRule, String> {
    let mut rule = FactRule::default();
    for namespace in vouched {
        for labels in known.labels() {
            let selector: Selector = labels.iter().cloned().collect();
            let pods: Vec<&Pod> = pods_of(cluster, namespace, &selector).collect();
            if !pods.is_empty() {
                rule.peers.extend(peers(namespace, &labels, pods.into_iter()));
            }
        }
    }
    if !rule.peers.is_empty() {
        return Ok(rule);
    }
    let looked = vouched.iter().copied().collect::<Vec<_>>().join(", ");
    let mut elsewhere: BTreeSet<&str> = BTreeSet::new();
    for selector in known.labels().map(Selector::from_iter) {
        let alike = cluster
            .pods
            .iter()
            .filter(|(_, pod)| selector.matches(&pod.labels));
        elsewhere.extend(alike.map(|(key, _)| key.namespace.as_str()));
    }
    Err(if elsewhere.is_empty() {
        format!("none of its pods is in {looked}")
    } else {
        let named: Vec<_> = elsewhere.into_iter().take(5).collect();
        format!(
            "none of its pods is in {looked}; pods that look like it are in {}: if they are it, pin them in \
             spec.facts.ingressControllers.rules",
            named.join(", ")
        )
    })
}
