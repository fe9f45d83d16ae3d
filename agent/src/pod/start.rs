//! Starting a container: image, variables, spec, streams, task.
//!
//! Every failure says which status the pod shows ([`StartFailure`]); nothing of a container that
//! failed to start is left in containerd. Upstream for events and reasons:
//! `kuberuntime_container.go` (`startContainer`), `images/image_manager.go`.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio as ProcessStdio,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    host::Host,
    observe,
    record::{Ended, Run, RunState},
};
use crate::{
    env::{References, container_env},
    image::{self, Image},
    log::{HelperConfig, log_path},
    recorder::Severity,
    runtime::{NewContainer, RuntimeError, Stdio},
    sandbox::{PodFolder, host_name},
    spec::{BindMount, SpecInput, container_spec, user},
    streams::{make_fifo, release_readers},
    volumes::bind_mounts,
};

/// The container label with the stop signal of its image.
pub(super) const STOP_SIGNAL_LABEL: &str = "minictl.io/stop-signal";

/// The file that marks a container whose input ends with its first client's.
pub(crate) const STDIN_ONCE: &str = "stdin-once";

/// What keeps a container from starting: the reason and message of its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StartFailure {
    /// It cannot be made yet; look again later.
    Waiting {
        /// The reason in the status.
        reason: &'static str,
        /// The message in the status.
        message: String,
    },
    /// It was made, but its process could not be started: that is an end like others.
    Ended(Box<Run>),
}

fn config_error(error: &dyn std::error::Error) -> StartFailure {
    let message = crate::error_chain(error);
    StartFailure::Waiting { reason: "CreateContainerConfigError", message }
}

fn create_error(error: &dyn std::error::Error) -> StartFailure {
    let message = crate::error_chain(error);
    StartFailure::Waiting { reason: "CreateContainerError", message }
}

/// One container to be started.
pub(super) struct Starter<'a> {
    pub(super) host: &'a Host,
    pub(super) folder: &'a PodFolder,
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    pub(super) attempt: u32,
    pub(super) references: &'a References,
}

impl Starter<'_> {
    fn event(&self, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let container = Some(self.container.name.as_str());
        self.host.recorder.record(self.pod, container, severity, reason, message);
    }

    /// The container's id: the same for the same run, so that a second try finds the first.
    fn id(&self) -> String {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let text = format!("{uid}/{}/{}", self.container.name, self.attempt);
        image::digest(text.as_bytes())["sha256:".len()..].to_owned()
    }

    /// Starts the container; answers its run.
    pub(super) async fn start(&self) -> Result<Run, StartFailure> {
        let image = self.image().await?;
        let id = self.id();
        let cgroup = self.cgroup(&id);
        let stdio = self.prepare_streams().map_err(|error| create_error(&error))?;
        let mounts = self.create(&id, &image, &cgroup).await?;
        self.event(Severity::Normal, "Created", "Container created");
        let run = |state| Run {
            id: id.clone(),
            attempt: self.attempt,
            image: image.name.clone(),
            image_id: image_id(&image),
            state,
        };
        match self.launch(&id, mounts, stdio).await {
            Ok(()) => {
                self.event(Severity::Normal, "Started", "Container started");
                Ok(run(RunState::Running { since: Timestamp::now() }))
            }
            Err(error) => {
                let message = error.reason();
                self.event(Severity::Warning, "Failed", format!("Error: {message}"));
                self.discard(&id).await;
                Err(StartFailure::Ended(Box::new(run(RunState::Ended(Ended {
                    started: None,
                    finished: Timestamp::now(),
                    code: 128,
                    reason: "StartError".to_owned(),
                    message: Some(message),
                })))))
            }
        }
    }

    /// The image, unpacked. There is no registry: an image has to have been imported, also where
    /// the policy is to pull always.
    async fn image(&self) -> Result<Image, StartFailure> {
        let written = self.container.image.as_deref().unwrap_or_default();
        let waiting = |reason, message| StartFailure::Waiting { reason, message };
        let name = image::normalize(written).map_err(|error| {
            let message = format!("Failed to apply default image tag {written:?}: {error}");
            self.event(Severity::Warning, "InspectFailed", message.clone());
            waiting("InvalidImageName", message)
        })?;
        match image::lookup(&self.host.containerd, &name).await {
            Ok(Some(found)) => {
                let message = format!(
                    "Container image {written:?} already present on machine and can be accessed \
                     by the pod"
                );
                self.event(Severity::Normal, "Pulled", message);
                Ok(found)
            }
            Ok(None) if self.container.image_pull_policy.as_deref() == Some("Never") => {
                let message =
                    format!("Container image {written:?} is not present with pull policy of Never");
                self.event(Severity::Warning, "ErrImageNeverPull", message.clone());
                Err(waiting("ErrImageNeverPull", message))
            }
            Ok(None) => {
                let message = format!(
                    "image {name:?} is not on this node, and minictl does not pull from \
                     registries yet; import it with: minictl image import ARCHIVE"
                );
                let failed = format!("Failed to pull image {written:?}: {message}");
                self.event(Severity::Warning, "Failed", failed);
                self.event(Severity::Warning, "Failed", "Error: ErrImagePull");
                Err(waiting("ErrImagePull", message))
            }
            Err(error) => {
                let message = crate::error_chain(&error);
                self.event(Severity::Warning, "Failed", format!("Error: {message}"));
                Err(waiting("ImageInspectError", message))
            }
        }
    }

    /// Makes the container; answers the mounts of its root.
    async fn create(
        &self,
        id: &str,
        image: &Image,
        cgroup: &Path,
    ) -> Result<Vec<containerd_client::types::Mount>, StartFailure> {
        let (pod, container) = (self.pod, self.container);
        let failed = |failure: StartFailure| {
            if let StartFailure::Waiting { message, .. } = &failure {
                self.event(Severity::Warning, "Failed", format!("Error: {message}"));
            }
            failure
        };
        let env = container_env(pod, container, self.references, &self.host.node)
            .map_err(|error| failed(config_error(&error)))?;
        let mut mounts = self.pod_files();
        let volumes = bind_mounts(self.folder, pod, container, &env)
            .map_err(|error| failed(config_error(&error)))?;
        mounts.retain(|file| !volumes.iter().any(|volume| volume.target == file.target));
        mounts.extend(volumes);
        let image_user = image.config.user().clone().unwrap_or_default();
        let accounts = self.accounts(id, image, &image_user).await.map_err(|e| create_error(&e))?;
        let user = user::resolve(pod, container, &image_user, || accounts)
            .map_err(|error| failed(config_error(&error)))?;
        let hostname = host_name(pod, &self.host.config.node_name);
        let spec = container_spec(SpecInput {
            pod,
            container,
            image: &image.config,
            env,
            user,
            hostname: &hostname,
            mounts,
            namespaces: &self.folder.namespaces(pod, &self.host.host_net),
            cgroup,
            oom: self.host.machine.oom(),
            cgroup2: self.host.machine.cgroup2,
        })
        .map_err(|error| failed(create_error(&error)))?;
        let new = NewContainer {
            id,
            image: &image.name,
            chain_id: &image.chain_id,
            spec: &spec,
            labels: self.labels(image),
        };
        match self.host.containerd.create_container(&new).await {
            // Left by an agent that died at this very place.
            Err(error) if error.is_already_there() => {
                self.discard(id).await;
                self.host.containerd.create_container(&new).await
            }
            other => other,
        }
        .map_err(|error| failed(create_error(&error)))
    }

    /// Names of users are read from the image's files; most images need none of this.
    async fn accounts(
        &self,
        id: &str,
        image: &Image,
        image_user: &str,
    ) -> Result<user::Accounts, RuntimeError> {
        let security = self.container.security_context.as_ref();
        let pod_security = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let numeric =
            security.and_then(|s| s.run_as_user).or(pod_security.and_then(|s| s.run_as_user));
        if numeric.unwrap_or(0) == 0 && matches!(image_user, "" | "0" | "root") {
            return Ok(user::Accounts::default());
        }
        let mounts =
            self.host.containerd.view_mounts(&format!("{id}-view"), &image.chain_id).await?;
        Ok(user::read_accounts(&mounts))
    }

    fn labels(&self, image: &Image) -> HashMap<String, String> {
        let metadata = &self.pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        // The names that other tools know from kubelet.
        HashMap::from([
            ("io.kubernetes.pod.namespace".to_owned(), text(&metadata.namespace)),
            ("io.kubernetes.pod.name".to_owned(), text(&metadata.name)),
            ("io.kubernetes.pod.uid".to_owned(), text(&metadata.uid)),
            ("io.kubernetes.container.name".to_owned(), self.container.name.clone()),
            (STOP_SIGNAL_LABEL.to_owned(), text(image.config.stop_signal())),
        ])
    }

    fn cgroup(&self, id: &str) -> PathBuf {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        observe::pod_cgroup(&self.host.config.cgroup_parent, uid).join(id)
    }

    /// The files that every container of the pod shares, and its termination message.
    fn pod_files(&self) -> Vec<BindMount> {
        let bind = |source: PathBuf, target: &str| BindMount {
            source,
            target: PathBuf::from(target),
            read_only: false,
            propagation: "rprivate",
        };
        let message = self.container.termination_message_path.as_deref();
        vec![
            bind(self.folder.file("hosts"), "/etc/hosts"),
            bind(self.folder.file("hostname"), "/etc/hostname"),
            bind(self.folder.file("resolv.conf"), "/etc/resolv.conf"),
            bind(self.folder.shm(), "/dev/shm"),
            bind(
                self.folder.termination_log(&self.container.name, self.attempt),
                message.filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log"),
            ),
        ]
    }

    /// Where the container's streams lead: a log helper that containerd starts; with a standard
    /// input but no terminal, FIFOs, because containerd 1.6 gives such a helper no input.
    fn prepare_streams(&self) -> io::Result<Stdio> {
        let io = self.folder.io(&self.container.name, self.attempt);
        let logs = self.host.logs(self.pod);
        let log = log_path(&logs, &self.container.name, self.attempt);
        fs::create_dir_all(&io)?;
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        drop_old_logs(&logs, &self.container.name, self.attempt);
        fs::write(self.folder.termination_log(&self.container.name, self.attempt), [])?;
        let terminal = self.container.tty == Some(true);
        let stdin = self.container.stdin == Some(true);
        let config = HelperConfig {
            log,
            io: io.clone(),
            fifos: stdin && !terminal,
            hold_stdin: stdin && self.container.stdin_once != Some(true),
        };
        let helper = io.join("logger.json");
        fs::write(&helper, serde_json::to_vec(&config)?)?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut stdio = Stdio { terminal, ..Stdio::default() };
        if stdin {
            make_fifo(&io.join("stdin"))?;
            stdio.stdin = text(io.join("stdin"));
            if self.container.stdin_once == Some(true) {
                fs::write(io.join(STDIN_ONCE), [])?;
            }
        }
        if config.fifos {
            make_fifo(&io.join("stdout"))?;
            make_fifo(&io.join("stderr"))?;
            (stdio.stdout, stdio.stderr) = (text(io.join("stdout")), text(io.join("stderr")));
            self.spawn_helper(&helper)?;
        } else {
            let url = helper_url(&self.host.config.logger, &helper);
            stdio.stdout.clone_from(&url);
            if !terminal {
                stdio.stderr = url;
            }
        }
        Ok(stdio)
    }

    /// The helper must not end with the agent: it gets a process group of its own.
    fn spawn_helper(&self, config: &Path) -> io::Result<()> {
        tokio::process::Command::new(&self.host.config.logger)
            .arg("pod-log")
            .arg(config)
            .stdin(ProcessStdio::null())
            .stdout(ProcessStdio::null())
            .stderr(ProcessStdio::null())
            .process_group(0)
            .spawn()
            .map(drop)
    }

    async fn launch(
        &self,
        id: &str,
        mounts: Vec<containerd_client::types::Mount>,
        stdio: Stdio,
    ) -> Result<(), RuntimeError> {
        self.host.containerd.create_task(id, mounts, stdio).await?;
        self.host.containerd.start_process(id, "").await.map(|_| ())
    }

    /// Removes what a failed start left.
    async fn discard(&self, id: &str) {
        let io = self.folder.io(&self.container.name, self.attempt);
        for fifo in ["stdout", "stderr"] {
            release_readers(&io.join(fifo));
        }
        remove_container(&self.host.containerd, id).await;
    }
}

/// Kills and removes a container, whatever state it is in. Errors are logged; the next pass over
/// containers that belong to nobody finds what stays.
pub(crate) async fn remove_container(containerd: &crate::runtime::Containerd, id: &str) {
    let failed = |error: RuntimeError| {
        tracing::warn!(id, error = crate::error_chain(&error), "a container stays");
    };
    match containerd.task_state(id).await {
        Ok(crate::runtime::TaskState::Running) => {
            if let Err(error) = containerd.signal(id, libc::SIGKILL, true).await {
                failed(error);
            }
            // A task that is gone already cannot be waited for.
            let _ = containerd.wait(id, "").await;
        }
        Ok(_) => {}
        Err(error) => failed(error),
    }
    if let Err(error) = containerd.delete_task(id).await {
        failed(error);
    }
    if let Err(error) = containerd.delete_container(id).await {
        failed(error);
    }
}

/// Logs of the previous run stay, older ones go; as kubelet keeps one dead container.
fn drop_old_logs(logs: &Path, container: &str, attempt: u32) {
    let Some(oldest) = attempt.checked_sub(1) else { return };
    for entry in fs::read_dir(logs.join(container)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_string_lossy().split('.').next().and_then(|n| n.parse::<u32>().ok());
        if number.is_some_and(|number| number < oldest)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(path = %entry.path().display(), %error, "an old log stays");
        }
    }
}

/// containerd passes a URL's query to the helper as arguments.
fn helper_url(logger: &Path, config: &Path) -> String {
    let encode = |path: &Path| -> String {
        let mut text = String::new();
        for byte in path.as_os_str().as_encoded_bytes() {
            if byte.is_ascii_alphanumeric() || b"/._-~".contains(byte) {
                text.push(char::from(*byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        text
    };
    format!("binary://{}?pod-log={}", encode(logger), encode(config))
}

/// `NAME@DIGEST`, as other runtimes report images.
fn image_id(image: &Image) -> String {
    let base = image.name.split('@').next().unwrap_or_default();
    // A colon after the last slash begins a tag; one before it, a port.
    let slash = base.rfind('/').map_or(0, |slash| slash + 1);
    let end = base[slash..].find(':').map_or(base.len(), |colon| slash + colon);
    format!("{}@{}", &base[..end], image.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helpers_url_keeps_odd_paths_whole() {
        let url = helper_url(Path::new("/opt/m c/minictl"), Path::new("/s/a&b=c.json"));
        assert_eq!(url, "binary:///opt/m%20c/minictl?pod-log=/s/a%26b%3Dc.json");
    }

    #[test]
    fn an_image_id_has_the_name_without_its_tag() {
        let image = |name: &str| Image {
            name: name.to_owned(),
            digest: "sha256:1".to_owned(),
            chain_id: String::new(),
            config: oci_spec::image::Config::default(),
        };
        for (name, id) in [
            ("docker.io/library/nginx:latest", "docker.io/library/nginx@sha256:1"),
            ("host:5000/a", "host:5000/a@sha256:1"),
            ("host:5000/a:v1", "host:5000/a@sha256:1"),
            ("host/a@sha256:9", "host/a@sha256:1"),
        ] {
            assert_eq!(image_id(&image(name)), id);
        }
    }

    #[test]
    fn logs_older_than_the_previous_run_go() {
        let logs = tempfile::tempdir().unwrap();
        let folder = logs.path().join("c");
        fs::create_dir(&folder).unwrap();
        for name in ["0.log", "0.log.20261120-1", "1.log", "2.log"] {
            fs::write(folder.join(name), []).unwrap();
        }
        drop_old_logs(logs.path(), "c", 2);
        let mut left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1.log", "2.log"]);
    }
}
