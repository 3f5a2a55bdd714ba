//! Ringfence's own certificates: a CA, a serving certificate that it signs, and the API server's trust in it.
//!
//! [`authority`] issues and reads certificates, [`plan`] decides from the time and what is stored what is to be done;
//! both are pure. [`serve`] holds the pair that TLS serves, exchangeable at any time. [`keeper`] is the shell: Secrets,
//! webhook configurations, and the loop that keeps all of them right. [`mounted`] is for whoever has certificates from elsewhere, as from
//! cert-manager.
//!
//! # Rotation, and why nobody ever sees a certificate that it does not trust
//!
//! The CA's Secret holds a bundle: the newest CA first, then older ones that have not expired. Everyone trusts the whole
//! bundle. A new CA is put into the bundle long before the old one expires, and signs nothing until it has been there
//! for [`plan::Lifetimes::settle`], so that every API server has it by then. Serving certificates live much
//! shorter than CAs: by the time that the old CA leaves the bundle, nothing that it signed is served any more.

pub mod authority;
pub mod keeper;
pub mod mounted;
pub mod plan;
pub mod serve;
mod store;

pub use keeper::{Keeper, Settings, Status};
pub use mounted::{Mounted, MountedClients};
pub use serve::{Clients, Oldest, Served, Tls};
