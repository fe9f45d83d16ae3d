//! What surrounds a run: waiting for its end, probes, hooks, stopping it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use tokio::sync::mpsc;

use super::{News, Worker, execute::HOOK_LIMIT, probe_guard};
use crate::{
    pod::{
        observe,
        start::STOP_SIGNAL_LABEL,
        stop::{Stop, signal_number, stop},
    },
    probe::{self, Handler, Kind, Outcome, Place},
    recorder::Severity,
};

impl Worker {
    /// Listens for the end of a run and begins its probes.
    pub(super) fn watch_run(&mut self, container: &Container, id: &str) {
        let containerd = self.host.containerd.clone();
        let (name, id) = (container.name.clone(), id.to_owned());
        tokio::spawn(observe::watch_run(containerd, name, id, self.teller.clone()));
        let live = self.live.entry(container.name.clone()).or_default();
        live.started |= container.startup_probe.is_none();
        live.ready |= container.readiness_probe.is_none();
        self.start_probes(container);
    }

    /// The startup probe alone until it has succeeded, then the others.
    pub(super) fn start_probes(&mut self, container: &Container) {
        let started = self.live.get(&container.name).is_some_and(|live| live.started);
        let kinds: &[Kind] =
            if started { &[Kind::Readiness, Kind::Liveness] } else { &[Kind::Startup] };
        let Some(place) = self.place(container) else { return };
        let mut guards = Vec::new();
        for kind in kinds {
            let Some(probe) = kind.of(container).cloned() else { continue };
            let (token, guard) = probe_guard();
            guards.push((*kind, guard));
            let (findings, mut found) = mpsc::channel(8);
            let watching =
                probe::watch(*kind, probe, place.clone(), self.folder.file("io"), findings);
            let teller = self.teller.clone();
            let (name, id) = (container.name.clone(), place.id.clone());
            tokio::spawn(async move {
                let tell = async {
                    while let Some(finding) = found.recv().await {
                        let (container, id) = (name.clone(), id.clone());
                        let news = News::Probed { container, id, finding };
                        if teller.send(news).await.is_err() {
                            break;
                        }
                    }
                };
                token.run_until_cancelled(async { tokio::join!(watching, tell) }).await;
            });
        }
        self.probes.insert(container.name.clone(), guards);
    }

    fn place(&self, container: &Container) -> Option<Place> {
        let run = self.record.container(&container.name).current()?;
        let own = self.record.sandbox.as_ref().and_then(|sandbox| sandbox.ips.first().copied());
        Some(Place {
            containerd: self.host.containerd.clone(),
            id: run.id.clone(),
            container: container.clone(),
            address: own.unwrap_or(self.host.config.node_ip()),
        })
    }

    pub(super) async fn post_start(&mut self, container: &Container) {
        let hook = container.lifecycle.as_ref().and_then(|hooks| hooks.post_start.as_ref());
        let Some(handler) = hook.and_then(Handler::of_hook) else { return };
        let Some(place) = self.place(container) else { return };
        let outcome = probe::run(&handler, &place, &self.folder.file("io"), HOOK_LIMIT).await;
        if let Outcome::Failure(text) = outcome {
            let message = format!("PostStartHook failed: {text}");
            self.event(&container.name, Severity::Warning, "FailedPostStartHook", message);
            self.stop(&container.name, Duration::from_secs(1), "FailedPostStartHook").await;
        }
    }

    pub(super) async fn stop(&mut self, name: &str, grace: Duration, message: &str) {
        let spec = self.spec_or_name(name);
        let Some(place) = self.place(&spec) else { return };
        self.event(name, Severity::Normal, "Killing", message);
        // Until its end a container serves: it is as ready as its readiness probe says, and without
        // one it is ready. Upstream: `prober/prober_manager.go` (`StopLivenessAndStartup`).
        let probes = self.probes.get_mut(name);
        probes.into_iter().for_each(|probes| probes.retain(|(kind, _)| *kind == Kind::Readiness));
        let live = self.live.entry(name.to_owned()).or_default();
        let again = live.stopping.replace(grace).is_some();
        let hooks = spec.lifecycle.clone().unwrap_or_default();
        let signal = self.stop_signal(hooks.stop_signal.as_deref(), &place.id).await;
        let (recorder, pod) = (self.host.recorder.clone(), self.pod.clone());
        // A second, shorter stop does not run the hook again.
        let hook = if again { None } else { hooks.pre_stop };
        let stopping = Stop { place, io: self.folder.file("io"), hook, signal, grace };
        tokio::spawn(async move {
            if let Some(complaint) = stop(stopping).await {
                let message = format!("PreStopHook failed: {complaint}");
                let container = Some(spec.name.as_str());
                recorder.record(&pod, container, Severity::Warning, "FailedPreStopHook", message);
            }
        });
    }

    /// The container's spec; of a pod that the API has forgotten only the name is known.
    pub(super) fn spec_or_name(&self, name: &str) -> Container {
        let known = self.container_spec(name).cloned();
        known.unwrap_or_else(|| Container { name: name.to_owned(), ..Container::default() })
    }

    /// The signal of the pod, else of the image, else SIGTERM.
    async fn stop_signal(&self, wanted: Option<&str>, id: &str) -> i32 {
        if let Some(signal) = wanted.and_then(signal_number) {
            return signal;
        }
        let labels = self.host.containerd.container_labels(id).await.unwrap_or_default();
        let of_image = labels.get(STOP_SIGNAL_LABEL);
        of_image.and_then(|name| signal_number(name)).unwrap_or(libc::SIGTERM)
    }
}
