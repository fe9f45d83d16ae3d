//! Pods and facts for the tests of plan and status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    drain::Drain,
    facts::{Live, PodFacts, Trouble},
    record::{Ended, PodRecord, Run, RunState, SandboxRecord},
};

/// A pod with its facts, to be bent by tests.
pub(crate) struct Fixture {
    pub(crate) pod: Pod,
    pub(crate) record: PodRecord,
    pub(crate) live: BTreeMap<String, Live>,
    pub(crate) gone: bool,
    pub(crate) sandbox_trouble: Option<Trouble>,
    pub(crate) drain: Option<Drain>,
    pub(crate) now: Timestamp,
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

impl Fixture {
    pub(crate) fn new(spec: Value) -> Self {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 1},
            "spec": spec,
        });
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            record: PodRecord { uid: "u1".to_owned(), ..PodRecord::default() },
            live: BTreeMap::new(),
            gone: false,
            sandbox_trouble: None,
            drain: None,
            now: at(1000),
        }
    }

    /// One main container `c`.
    pub(crate) fn single(policy: &str) -> Self {
        Self::new(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "x"}]}))
    }

    pub(crate) fn with_sandbox(mut self) -> Self {
        self.record.sandbox = Some(SandboxRecord { ips: vec!["10.244.1.2".parse().unwrap()] });
        self
    }

    fn push(&mut self, container: &str, state: RunState) {
        let record = self.record.containers.entry(container.to_owned()).or_default();
        let attempt = record.next_attempt();
        record.push(Run {
            id: format!("{container}-{attempt}"),
            attempt,
            image: "docker.io/library/x:latest".to_owned(),
            image_id: "docker.io/library/x@sha256:1".to_owned(),
            state,
        });
    }

    pub(crate) fn running(mut self, container: &str) -> Self {
        self.push(container, RunState::Running { since: at(900) });
        let live = self.live.entry(container.to_owned()).or_default();
        (live.started, live.ready) = (true, true);
        self
    }

    pub(crate) fn ended(mut self, container: &str, code: i32, second: i64) -> Self {
        let ended = Ended {
            started: Some(at(second - 1)),
            finished: at(second),
            code,
            reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
            message: None,
        };
        self.push(container, RunState::Ended(ended));
        self
    }

    pub(crate) fn deleted(mut self, grace: i64) -> Self {
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1000));
        self.pod.metadata.deletion_timestamp = Some(time);
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self
    }

    pub(crate) fn live(&mut self, container: &str) -> &mut Live {
        self.live.entry(container.to_owned()).or_default()
    }

    pub(crate) fn facts(&self) -> PodFacts<'_> {
        PodFacts {
            pod: &self.pod,
            gone: self.gone,
            record: &self.record,
            live: &self.live,
            sandbox_trouble: self.sandbox_trouble.as_ref(),
            drain: self.drain,
            now: self.now,
        }
    }
}
