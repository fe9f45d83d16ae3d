//! Measures Services: what a virtual address costs, and how fast the kernel follows the API.
//!
//! A real `minictl netd` against a real `minictl server`, on networks of namespaces made for it:
//! one with 10 Services, one with 10,000 of four endpoints each. Figures are ratios of runs that
//! take turns, or medians. Kubernetes' own proxy is measured beside netd where `KUBE_PROXY` names
//! it. `services FILE` writes the table there, too; `BENCH_PART=first` measures first packets alone,
//! `BENCH_PART=memory` memory alone.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

mod api;
mod first;
mod follow;
mod kernel;
mod load;
mod paths;

use std::path::PathBuf;

use e2e::bed::{Bed, POD_B, POD_C, Process};
use e2e::figure::table;

use api::Api;

/// How many Services the two networks have.
const FEW: u32 = 10;
const MANY: u32 = 10_000;

fn main() {
    let few = Cluster::start(FEW);
    let part = std::env::var("BENCH_PART").unwrap_or_default();
    if part == "memory" {
        let mut figures = follow::much_memory(&Cluster::start(MANY)).to_vec();
        figures.push(follow::little_memory(few));
        println!("{}", table(&figures));
        return;
    }
    let only_first = part == "first";
    let mut figures = Vec::new();
    if !only_first {
        figures = paths::by_address(&few);
        figures.extend(paths::second_opinion(&few));
    }
    let many = Cluster::start(MANY);
    let (few, first) = first::first_packets(few, &many);
    figures.extend(first);
    if only_first {
        println!("{}", table(&figures));
        return;
    }
    figures.extend(follow::many(many));
    figures.push(follow::little_memory(few));
    let text = table(&figures);
    println!("{text}");
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(&file, &text).expect("a writable file");
    }
}

/// A network with an API server and netd.
struct Cluster {
    services: u32,
    bed: Bed,
    /// Of an administrator, and of netd.
    admin: PathBuf,
    node: PathBuf,
    netd: Process,
    _server: Process,
}

impl Cluster {
    fn start(services: u32) -> Self {
        let bed = Bed::new();
        let server = bed.start_server();
        let admin = bed.kubeconfig("admin", "system:masters");
        let api = Api::new(&bed, &admin);
        api.register_nodes();
        api::load_service(&api, "near", paths::NEAR, POD_B, paths::NODE_PORT);
        api::load_service(&api, "far", paths::FAR, POD_C, paths::NODE_PORT + 10);
        api.fill(0, services);
        for pod in [&bed.pod_b, &bed.pod_c] {
            pod.run(load::serve);
        }
        let node = bed.kubeconfig("system:node:node-1", "system:nodes");
        let (netd, _) = follow::start(&bed, || bed.start_netd(&node));
        println!("{services} Services are served");
        Self { services, bed, admin, node, netd, _server: server }
    }

    fn api(&self) -> Api<'_> {
        Api::new(&self.bed, &self.admin)
    }
}
