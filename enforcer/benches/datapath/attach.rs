//! How long it takes to put filters at a pod's veth, which holds up whoever else changes interfaces at that moment.

use std::time::Instant;

use ringfence_bench::{Figure, Report, percentile};

use crate::harness::{Kernel, interface, run};

const PODS: usize = 250;

pub fn measure(report: &mut Report) {
    report.title(format_args!("Filters at {PODS} veths, one after the other"));
    run("mount -t sysfs sys /sys");
    run("mount -t bpf bpf /sys/fs/bpf");
    run("mount -t tmpfs run /run");
    run("ip netns add pods");
    for pod in 0..PODS {
        run(&format!(
            "ip link add veth{pod} type veth peer name eth{pod} netns pods"
        ));
    }
    let kernel = Kernel::load();
    let mut attach = Vec::new();
    let mut again = Vec::new();
    for times in [&mut attach, &mut again] {
        for pod in 0..PODS {
            let veth = interface(&format!("veth{pod}"));
            let start = Instant::now();
            kernel.hooks.attach(veth).unwrap();
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    // Each attachment is three requests, and the kernel holds RTNL at most while it answers one.
    for (what, times) in [
        ("a veth without any", attach),
        ("a veth that has them, replaced at once", again),
    ] {
        let figure = Figure::new(format!("attach at {what}, p99"), percentile(&times, 99.0), "ms");
        report
            .say(
                figure
                    .at_most(1.0)
                    .beside("p50", percentile(&times, 50.0))
                    .beside("longest", percentile(&times, 100.0)),
            )
            .unwrap();
    }
}
