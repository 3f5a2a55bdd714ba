//! What a NetworkPolicy is and means.
//!
//! The webhook, the generator, the enforcer and the command line all judge by this crate, so that a policy
//! is refused, rendered, enforced and explained by one meaning. It is **pure**: no runtime, clock, environment,
//! file or socket; every function's result depends on its arguments only. A test and `clippy.toml` hold it so.
//!
//! Read in this order: [`selector`] and [`policy`] (the typed model), [`cluster`] (what is known of the cluster),
//! [`evaluate`] (the meaning, as the specification says it), [`compile`] (the same meaning in the form that the
//! kernel looks up), [`connections`] (the same for a whole cluster at once).

pub mod api;
pub mod baseline;
pub mod catalogue;
pub mod cluster;
pub mod compile;
pub mod connections;
pub mod evaluate;
pub mod explain;
pub mod facts;
pub mod finding;
pub mod guard;
pub mod key;
pub mod lint;
pub mod policy;
pub mod port;
pub mod requester;
pub mod rollout;
pub mod selector;
pub mod simulation;
pub mod standard;
pub mod syntax;
