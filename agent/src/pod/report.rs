//! Writing a pod's status to the API: one writer task per pod.
//!
//! A worker says what the status is and goes on; the writer sends the newest and skips what is
//! overtaken. Errors are retried until the pod is gone.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use tokio::{sync::watch, task::JoinHandle};

use super::status::status_patch;

/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the last status may take: a pod's end must not hang on it.
const FLUSH: Duration = Duration::from_secs(10);

/// The worker's end.
pub(crate) struct Reporter {
    newest: watch::Sender<Option<PodStatus>>,
    task: JoinHandle<()>,
}

impl Reporter {
    /// Starts the writer of a pod's status.
    pub(crate) fn start(client: Client, namespace: &str, name: &str, uid: &str) -> Self {
        let (newest, statuses) = watch::channel(None);
        let api = Api::namespaced(client, namespace);
        let task = tokio::spawn(write_all(api, name.to_owned(), uid.to_owned(), statuses));
        Self { newest, task }
    }

    /// The status is now this.
    pub(crate) fn report(&self, status: PodStatus) {
        self.newest.send_replace(Some(status));
    }

    /// Waits until the last status is written, though not for ever.
    pub(crate) async fn flush(mut self) {
        drop(self.newest);
        if tokio::time::timeout(FLUSH, &mut self.task).await.is_err() {
            tracing::warn!("a pod's last status is given up");
            self.task.abort();
        }
    }
}

async fn write_all(
    pods: Api<Pod>,
    name: String,
    uid: String,
    mut statuses: watch::Receiver<Option<PodStatus>>,
) {
    // The sender may be gone with a last status unread: `changed` then still answers once.
    while statuses.changed().await.is_ok() {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(status) = statuses.borrow_and_update().clone() else { break };
            match write(&pods, &name, &uid, &status).await {
                Ok(()) => break,
                Err(error) => {
                    let error = crate::error_chain(&error);
                    tracing::warn!(pod = name, error, "cannot write the pod's status yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

async fn write(
    pods: &Api<Pod>,
    name: &str,
    uid: &str,
    status: &PodStatus,
) -> Result<(), kube::Error> {
    let patch = status_patch(uid, status).map_err(kube::Error::SerdeError)?;
    match pods.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        // Another pod may have the name by now: nobody waits for this one's status then.
        Err(error @ kube::Error::Api(_)) => match pods.get_metadata_opt(name).await? {
            Some(found) if found.metadata.uid.as_deref() == Some(uid) => Err(error),
            _ => Ok(()),
        },
        other => other.map(|_| ()),
    }
}
