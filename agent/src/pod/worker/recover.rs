//! Picking up a pod where an earlier agent left it: containers that still run go on running, those
//! that ended meanwhile have their exit codes read, and what a reboot took away is noted as gone.

use super::{News, Worker};
use crate::{
    pod::{facts::is_sidecar, observe::look_again, start::remove_container},
    runtime::TaskState,
    sandbox,
};

impl Worker {
    pub(super) async fn recover(&mut self) {
        self.recover_sandbox().await;
        let running: Vec<(String, String)> = self
            .record
            .containers
            .iter()
            .filter(|(_, record)| record.is_running())
            .filter_map(|(name, record)| Some((name.clone(), record.current()?.id.clone())))
            .collect();
        for (container, id) in running {
            match look_again(&self.host.containerd, &id).await {
                TaskState::Running => self.go_on(&container, &id),
                TaskState::Stopped(exit) => {
                    self.hear(News::Exited { container, id, exit: Some(exit) });
                }
                TaskState::Absent => self.hear(News::Exited { container, id, exit: None }),
            }
        }
    }

    /// Without namespaces nothing of the pod can go on.
    async fn recover_sandbox(&mut self) {
        let Some(sandbox) = &self.record.sandbox else { return };
        let addresses = sandbox.ips.clone();
        if sandbox::stands(&self.folder, addresses.is_empty()) {
            return;
        }
        tracing::info!(pod = self.record.name, "the pod's sandbox is gone, as after a reboot");
        for record in self.record.containers.values() {
            for run in &record.runs {
                remove_container(&self.host.containerd, &run.id).await;
            }
        }
        self.host.release(&addresses);
        self.record.sandbox = None;
        // Init containers prepare a sandbox: a new one needs them again.
        let init = self.pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        for container in init.filter(|container| !is_sidecar(container)) {
            self.record.containers.remove(&container.name);
        }
        self.save();
    }

    fn go_on(&mut self, container: &str, id: &str) {
        // What the API has been told of this very run still holds until a probe says otherwise.
        let full_id = format!("containerd://{id}");
        let statuses = self.pod.status.iter().flat_map(|status| {
            let main = status.container_statuses.iter().flatten();
            main.chain(status.init_container_statuses.iter().flatten())
        });
        let known = statuses.into_iter().find(|s| s.container_id.as_ref() == Some(&full_id));
        let (started, ready) =
            known.map_or((false, false), |known| (known.started == Some(true), known.ready));
        let live = self.live.entry(container.to_owned()).or_default();
        (live.started, live.ready) = (started, ready);
        let spec = self.spec_or_name(container);
        self.watch_run(&spec, id);
    }
}
