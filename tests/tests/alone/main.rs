//! What needs a cluster to itself, since it stops a part of Ringfence or moves what every pod of the cluster uses: one test after the other.

#[path = "../system/fixture.rs"]
mod fixture;

mod dns;
mod first_packet;
mod gates;
mod outage;
mod stage;
mod traefik;
