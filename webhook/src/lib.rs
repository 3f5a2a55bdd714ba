//! The admission server: judges objects before the API server stores them.
//!
//! A request's way: [`server`] accepts it over TLS, [`routes`] reads its body within bounds
//! ([`intake`] says how much of all bodies there may be), [`envelope`] makes an admission
//! request of it, [`review`] judges, [`answer`] puts the findings into words, [`audit`] and [`metrics`] keep account.
//! Only `server` and `routes` know HTTP; `review` and what it calls are pure. [`scan`] looks beside all that at what is stored already.

pub mod answer;
pub mod audit;
pub mod envelope;
pub mod intake;
pub mod metrics;
pub mod places;
pub mod reload;
pub mod review;
pub mod routes;
pub mod scan;
pub mod server;
pub mod settings;
mod traced;
