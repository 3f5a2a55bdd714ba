//! The proof that what is loaded works.

use std::time::Instant;

use ringfence_enforcer::canary::{Error, prove};
use ringfence_enforcer::encode::state::Write;
use ringfence_enforcer::encode::tables::{EVERYTHING, RULESETS};
use ringfence_enforcer::sync::Store;

use super::harness::alone;
use super::packets::SYN;
use super::programs::{FRIEND, STRANGER, UPLINK, VETH, from_friend, in_from, kernel};

#[test]
fn a_proof_holds_again_and_again_and_leaves_no_trace() {
    alone(|| {
        let kernel = kernel(&[from_friend()]);
        let before = (kernel.maps.dump().unwrap(), kernel.maps.counts().unwrap());
        let endpoints = kernel.maps.endpoints().unwrap();
        for _ in 0..3 {
            let started = Instant::now();
            prove(&kernel.maps, &kernel.hooks).unwrap();
            println!("proved in {:?}", started.elapsed());
        }
        let mut counts = kernel.maps.counts().unwrap();
        // Flows are counted whosever they are.
        counts.truncate(ringfence_enforcer::datapath::REASONS.len());
        assert_eq!(
            (&kernel.maps.dump().unwrap(), &counts[..]),
            (&before.0, &before.1[..counts.len()])
        );
        assert_eq!(kernel.maps.endpoints().unwrap(), endpoints);
        let told = kernel.denials.wait(std::time::Duration::ZERO).unwrap();
        assert!(told.is_empty(), "{told:?}");
        assert!(kernel.passes_in(VETH, &in_from(FRIEND).tcp(1, 80, SYN), UPLINK));
        assert!(!kernel.passes_in(VETH, &in_from(STRANGER).tcp(1, 80, SYN), UPLINK));
    });
}

#[test]
fn a_kernel_side_that_does_not_deny_is_found_out() {
    alone(|| {
        let kernel = kernel(&[from_friend()]);
        kernel
            .maps
            .write(&[Write::Decision((RULESETS, 0), EVERYTHING)])
            .unwrap();
        let error = prove(&kernel.maps, &kernel.hooks).unwrap_err();
        assert!(matches!(error, Error::Passed(_)) && error.is_failure(), "{error}");
        kernel.maps.write(&[Write::DropDecision((RULESETS, 0))]).unwrap();
        prove(&kernel.maps, &kernel.hooks).unwrap();
    });
}
