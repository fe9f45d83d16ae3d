//! Labs that several tests of a file share, and a room in one for each test: a namespace, a client,
//! and the few things that every test of Services does.
//!
//! A shared lab comes up when the first test enters and goes when the last one leaves. Which is
//! why the count and the lab are behind one lock: nobody enters while it goes.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::{Answer, Lab, can_run_labs, capable, finish, run, wait_for};

/// How long a lab may take to do what was asked of it.
const LIMIT: Duration = Duration::from_secs(60);

/// A lab for all tests of a file.
pub struct SharedLab {
    name: &'static str,
    network: &'static str,
    nodes: u32,
    flags: &'static [&'static str],
    inside: Mutex<(usize, Option<Arc<Lab>>)>,
}

impl SharedLab {
    /// A lab that is not up yet.
    #[must_use]
    pub const fn new(name: &'static str, network: &'static str, nodes: u32) -> Self {
        Self { name, network, nodes, flags: &[], inside: Mutex::new((0, None)) }
    }

    /// The same with more flags of `lab up`.
    #[must_use]
    pub const fn with(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = flags;
        self
    }

    /// Runs a test with minictl, and with kubectl where that is there, in a room each.
    pub fn with_each_client(&'static self, name: &str, test: impl Fn(&Room)) {
        if !can_run_labs() {
            return;
        }
        test(&self.room("minictl", &format!("{name}-minictl")));
        if capable("kubectl", run("which", &["kubectl"]).code == 0) {
            test(&self.room("kubectl", &format!("{name}-kubectl")));
        }
    }

    /// A room in the lab, which comes up if nobody is in it.
    ///
    /// # Panics
    /// When the lab does not come up, or the namespace is refused.
    #[must_use]
    pub fn room(&'static self, client: &'static str, namespace: &str) -> Room {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let (visitors, slot) = &mut *inside;
        let start = || Arc::new(Lab::start_with(self.name, self.network, self.nodes, self.flags));
        let lab = slot.get_or_insert_with(start).clone();
        *visitors += 1;
        drop(inside);
        let room = Room { lab: Some(lab), of: self, client, namespace: namespace.to_owned() };
        let _ = room.lab().minictl(&["create", "namespace", namespace]).ok();
        room
    }
}

/// A namespace of a shared lab, and the client (`minictl` or `kubectl`) that is used there.
pub struct Room {
    lab: Option<Arc<Lab>>,
    of: &'static SharedLab,
    client: &'static str,
    namespace: String,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut inside = self.of.inside.lock().unwrap_or_else(PoisonError::into_inner);
        self.lab = None;
        inside.0 -= 1;
        if inside.0 == 0 {
            inside.1 = None;
        }
    }
}

impl Deref for Room {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        self.lab()
    }
}

impl Room {
    fn lab(&self) -> &Lab {
        self.lab.as_deref().expect("a room has its lab until it is dropped")
    }

    /// The client's name.
    #[must_use]
    pub fn client(&self) -> &'static str {
        self.client
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs a line of the client; its words are split at spaces.
    #[must_use]
    pub fn types(&self, line: &str) -> Answer {
        let words: Vec<&str> = line.split_whitespace().collect();
        finish(self.lab().command(self.client, Some(&self.namespace)), &words, None)
    }

    /// Applies a manifest.
    #[must_use]
    pub fn tries(&self, manifest: &str) -> Answer {
        let command = self.lab().command(self.client, Some(&self.namespace));
        finish(command, &["apply", "-f", "-"], Some(manifest))
    }

    /// Applies a manifest that must be accepted.
    ///
    /// # Panics
    /// When it is refused.
    pub fn applies(&self, manifest: &str) {
        let _ = self.tries(manifest).ok();
    }

    /// Applies a merge patch to an object.
    ///
    /// # Panics
    /// When it is refused.
    pub fn patches(&self, object: &str, patch: &str) {
        let command = self.lab().command(self.client, Some(&self.namespace));
        let _ = finish(command, &["patch", object, "--type=merge", "-p", patch], None).ok();
    }

    /// An object as JSON.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn object(&self, kind: &str, name: &str) -> Value {
        self.types(&format!("get {kind} {name} -o json")).json()
    }

    /// The cells of the row of a table that begins with `name`.
    ///
    /// # Panics
    /// When the command fails or has no such row.
    #[must_use]
    pub fn row(&self, line: &str, name: &str) -> Vec<String> {
        let table = self.types(line).ok();
        table
            .lines()
            .map(|line| {
                let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
                cells.map(str::to_owned).collect::<Vec<String>>()
            })
            .find(|cells| cells.first().is_some_and(|cell| cell == name))
            .unwrap_or_else(|| panic!("no {name} in\n{table}"))
    }

    /// Runs a program of this machine in the network of a pod, where it is that pod to everybody.
    ///
    /// # Panics
    /// When there is no such pod.
    #[must_use]
    pub fn in_network_of(&self, pod: &str, command: &[&str]) -> Answer {
        let object = self.object("pod", pod);
        let node = text(&object["spec"]["nodeName"]);
        let nodes = self.state().join("labs").join(&self.lab().name).join("nodes");
        let pin = nodes.join(node).join("pods").join(text(&object["metadata"]["uid"])).join("net");
        let network = format!("--net={}", pin.display());
        run("nsenter", &[&[network.as_str()], command].concat())
    }

    /// A Deployment of `dalgudcks/http-go`, which says `Welcome! POD` at port 8080, of pods with
    /// the label `app: NAME`.
    ///
    /// # Panics
    /// When it is refused.
    pub fn deploys(&self, name: &str, replicas: u32) {
        let ports = "ports: [{name: web, containerPort: 8080}]";
        self.runs(name, replicas, &format!("image: dalgudcks/http-go, {ports}"));
    }

    /// A Deployment of pods with one container and the label `app: NAME`; `container` is what there
    /// is to say of it, in one line of YAML.
    ///
    /// # Panics
    /// When it is refused.
    pub fn runs(&self, name: &str, replicas: u32, container: &str) {
        self.applies(&format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: web, imagePullPolicy: IfNotPresent, {container}}}
"
        ));
    }

    /// The names of pods with a label, once so many are ready.
    ///
    /// # Panics
    /// When that takes too long.
    #[must_use]
    pub fn ready_pods(&self, label: &str, count: usize) -> BTreeSet<String> {
        wait_for(&format!("{count} ready pods with {label}"), LIMIT, || {
            let pods = self.types(&format!("get pods -l {label} -o json")).json();
            let ready: BTreeSet<String> = items(&pods)
                .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod))
                .map(|pod| text(&pod["metadata"]["name"]))
                .collect();
            if ready.len() == count { Ok(ready) } else { Err(format!("{ready:?}")) }
        })
    }

    /// Who answers `GET URL` of a host: the pod's name, or why there is no answer.
    pub fn asks(&self, host: &str, url: &str) -> Result<String, CurlError> {
        welcome(&self.on(host, &["curl", "-gsS", "-m", "3", url]))
    }

    /// The same from inside a pod.
    pub fn asks_from_pod(&self, pod: &str, url: &str) -> Result<String, CurlError> {
        welcome(&self.types(&format!("exec {pod} -- curl -gsS -m 3 {url}")))
    }

    /// Everyone who answers a host's calls to a URL, once that is exactly `wanted`.
    ///
    /// # Panics
    /// When it never is.
    pub fn is_served(&self, host: &str, url: &str, wanted: &BTreeSet<String>) {
        let calls = (wanted.len() * 12).to_string();
        let each = format!("for i in $(seq {calls}); do curl -gsS -m 3 {url} || echo; done");
        wait_for(&format!("{host} to be served at {url} by {wanted:?}"), LIMIT, || {
            let answer = self.on(host, &["sh", "-c", &each]);
            let seen: BTreeSet<String> = answer
                .out
                .lines()
                .map(|line| line.strip_prefix("Welcome! ").unwrap_or("nobody").to_owned())
                .collect();
            if seen == *wanted { Ok(()) } else { Err(format!("{seen:?}\n{}", answer.err)) }
        });
    }
}

/// What curl exits with where nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurlError {
    /// Told at once that nobody is there, or that there is no way.
    Refused,
    /// Told nothing.
    TimedOut,
    /// Something else.
    Other(i32),
}

fn welcome(answer: &Answer) -> Result<String, CurlError> {
    match answer.code {
        0 => Ok(answer.out.trim().trim_start_matches("Welcome! ").to_owned()),
        7 => Err(CurlError::Refused),
        28 => Err(CurlError::TimedOut),
        other => Err(CurlError::Other(other)),
    }
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The objects of a list.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// The text of a JSON string, empty if it is none.
#[must_use]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
