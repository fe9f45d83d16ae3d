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

/// Time between two tries.
const RETRY: Duration = Duration::from_millis(500);

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

    /// Waits until the last status is written.
    pub(crate) async fn flush(self) {
        drop(self.newest);
        // The writer cannot panic; a status that is not written any more is no harm.
        let _ = self.task.await;
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
        loop {
            let Some(status) = statuses.borrow_and_update().clone() else { break };
            match write(&pods, &name, &uid, &status).await {
                Ok(()) => break,
                Err(error) => {
                    let error = crate::error_chain(&error);
                    tracing::warn!(pod = name, error, "cannot write the pod's status yet");
                    tokio::time::sleep(RETRY).await;
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
        // The pod is gone, or another one has its name: nobody waits for this status.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409 | 422) => {
            tracing::debug!(pod = name, code = answer.code, "a status came too late");
            Ok(())
        }
        other => other.map(|_| ()),
    }
}
