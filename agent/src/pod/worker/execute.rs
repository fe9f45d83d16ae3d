//! Executing a plan's steps. No step decides anything; each leaves the record as things are.

use std::{io, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodIP};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};

use super::{Progress, Step, Worker};
use crate::{
    env::References,
    pod::{
        backoff,
        facts::Trouble,
        observe,
        record::{Run, RunState, SandboxRecord},
        report::Reporter,
        start::{StartFailure, Starter, remove_container},
    },
    recorder::Severity,
    sandbox::{self, SandboxError, on_host_network},
    volumes::{self, PayloadInput},
};

/// Seconds until a container whose objects are missing is tried again.
const CONFIG_RETRY: i64 = 3;

/// Seconds until a failed sandbox is tried again, by the number of failures.
const SANDBOX_RETRY: [i64; 5] = [0, 1, 2, 5, 10];

impl Worker {
    pub(super) async fn execute(&mut self, step: &Step) -> Progress {
        match step {
            Step::CreateSandbox => self.create_sandbox().await,
            Step::Start { container } => {
                if self.record.sandbox.is_some() {
                    self.start(container).await;
                }
            }
            Step::Stop { container, grace, message } => {
                self.stop(container, *grace, message).await;
            }
            Step::TearDown => self.tear_down().await,
            Step::Finish => return self.finish().await,
            Step::Forget => {
                self.remove_files();
                return Progress::Over;
            }
        }
        Progress::Done
    }

    async fn create_sandbox(&mut self) {
        match self.try_create_sandbox().await {
            Ok(record) => {
                self.record.sandbox = Some(record);
                self.sandbox_trouble = None;
                self.save();
            }
            Err(error) => {
                let failures = self.sandbox_trouble.as_ref().map_or(0, |t| t.failures) + 1;
                let cause = crate::error_chain(&error);
                let message = format!("Failed to create pod sandbox: {cause}");
                let reason = "FailedCreatePodSandBox";
                let recorder = &self.host.recorder;
                recorder.record(&self.pod, None, Severity::Warning, reason, message.clone());
                self.sandbox_trouble = Some(Trouble {
                    reason: reason.to_owned(),
                    message,
                    failures,
                    retry_at: after(SANDBOX_RETRY[failures.min(4) as usize]),
                });
            }
        }
    }

    async fn try_create_sandbox(&self) -> Result<SandboxRecord, SandboxError> {
        let root = self.folder.root();
        std::fs::create_dir_all(root).map_err(sandbox::file_error("create", root))?;
        let host = &self.host;
        let ips = if on_host_network(&self.pod) { Vec::new() } else { host.allocate()? };
        let made = sandbox::create(&self.folder, &self.pod, &ips, &host.network, &host.dns()).await;
        if made.is_err() {
            let uid = &self.record.uid;
            for left in sandbox::remove(&self.folder, uid, Some(&host.network)).await {
                tracing::warn!(error = crate::error_chain(&left), "left by a failed sandbox");
            }
            host.release(&ips);
        }
        made.map(|()| SandboxRecord { ips })
    }

    /// The pod with its addresses, which the API may not have heard of yet.
    fn pod_with_addresses(&self) -> Pod {
        let mut pod = self.pod.clone();
        let own = self.record.sandbox.as_ref().map(|sandbox| sandbox.ips.as_slice());
        let own = own.filter(|own| !own.is_empty()).unwrap_or(&self.host.config.node_ips);
        let status = pod.status.get_or_insert_default();
        status.pod_ip = own.first().map(ToString::to_string);
        status.pod_ips = Some(own.iter().map(|ip| PodIP { ip: ip.to_string() }).collect());
        pod
    }

    /// Makes or renews the pod's volumes; the error is for people.
    pub(super) async fn set_up_volumes(&self) -> Result<References, String> {
        let references = self.host.references(&self.pod).await;
        let references = references.map_err(|error| crate::error_chain(&error))?;
        let (folder, pod) = (self.folder.clone(), self.pod_with_addresses());
        let node = self.host.node.clone();
        let work = move || {
            let input = PayloadInput { pod: &pod, references: &references, node: &node };
            let outcome = volumes::set_up(&folder, &input);
            outcome.map(|()| references).map_err(|error| crate::error_chain(&error))
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
    }

    async fn start(&mut self, name: &str) {
        let Some(container) = self.container_spec(name).cloned() else { return };
        let references = match self.set_up_volumes().await {
            Ok(references) => references,
            Err(message) => {
                let recorder = &self.host.recorder;
                recorder.record(&self.pod, None, Severity::Warning, "FailedMount", &message);
                return self.note_trouble(name, "ContainerCreating", message);
            }
        };
        let (host, pod) = (self.host.clone(), self.pod_with_addresses());
        let starter = Starter {
            host: &host,
            folder: &self.folder,
            pod: &pod,
            container: &container,
            attempt: self.record.container(name).next_attempt(),
            references: &references,
        };
        let run = match starter.start().await {
            Ok(run) => run,
            Err(StartFailure::Ended(run)) => *run,
            Err(StartFailure::Waiting { reason, message }) => {
                return self.note_trouble(name, reason, message);
            }
        };
        let is_running = matches!(run.state, RunState::Running { .. });
        let id = run.id.clone();
        self.remember(name, run).await;
        if is_running {
            self.watch_run(&container, &id);
            self.post_start(&container).await;
        }
    }

    /// Adds a run to the record, and removes what the record no longer needs.
    async fn remember(&mut self, name: &str, run: Run) {
        let record = self.record.containers.entry(name.to_owned()).or_default();
        if let Some(ended) = record.ended().cloned() {
            record.backoff = Some(backoff::after_restart(record.backoff, &ended, Timestamp::now()));
        }
        let before = record.current().map(|run| run.id.clone());
        record.push(run);
        self.live.remove(name);
        self.save();
        // Only now: the shim of a pod ends with its last task, and starting one takes time.
        if let Some(id) = before {
            remove_container(&self.host.containerd, &id).await;
        }
    }

    fn note_trouble(&mut self, name: &str, reason: &str, message: String) {
        let live = self.live.entry(name.to_owned()).or_default();
        let failures = live.trouble.as_ref().map_or(0, |trouble| trouble.failures) + 1;
        let pause = match reason {
            "ErrImagePull" => backoff::retry_seconds(failures),
            _ => CONFIG_RETRY,
        };
        live.trouble =
            Some(Trouble { reason: reason.to_owned(), message, failures, retry_at: after(pause) });
    }

    async fn tear_down(&mut self) {
        self.probes.clear();
        let runs = self.record.containers.values().flat_map(|container| &container.runs);
        let ids: Vec<String> = runs.map(|run| run.id.clone()).collect();
        for id in ids {
            remove_container(&self.host.containerd, &id).await;
        }
        let (folder, uid) = (&self.folder, &self.record.uid);
        for error in sandbox::remove(folder, uid, Some(&self.host.network)).await {
            tracing::warn!(pod = uid, error = crate::error_chain(&error), "a sandbox's part stays");
        }
        for error in volumes::tear_down(folder) {
            tracing::warn!(pod = uid, error, "a volume stays");
        }
        if let Some(sandbox) = self.record.sandbox.take() {
            self.host.release(&sandbox.ips);
        }
        observe::remove_cgroup(&observe::pod_cgroup(&self.host.config.cgroup_parent, uid));
        self.save();
    }

    /// Writes the last status, then lets the API forget the pod.
    async fn finish(&mut self) -> Progress {
        self.report();
        let (client, record) = (self.host.client.clone(), &self.record);
        let fresh = Reporter::start(client.clone(), &record.namespace, &record.name, &record.uid);
        std::mem::replace(&mut self.reporter, fresh).flush().await;
        let pods: Api<Pod> = Api::namespaced(client, &self.record.namespace);
        let uid = Some(self.record.uid.clone());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        match pods.delete(&self.record.name, &params).await {
            Ok(_) => {}
            // Gone already, or another pod has its name by now.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
            Err(error) => {
                let pod = &self.record.name;
                tracing::warn!(pod, error = crate::error_chain(&error), "cannot finish a pod yet");
                return Progress::Later;
            }
        }
        self.remove_files();
        Progress::Over
    }

    /// The pod's folder and logs go last.
    fn remove_files(&self) {
        for folder in [self.folder.root().to_owned(), self.host.logs(&self.pod)] {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %folder.display(), %error, "a folder stays");
                }
                _ => {}
            }
        }
    }
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

/// The longest that a postStart hook may take.
pub(super) const HOOK_LIMIT: Duration = Duration::from_secs(300);
