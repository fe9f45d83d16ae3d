//! The content store: blobs in, blobs out.
//!
//! Invariants: a blob that containerd has (in any namespace) is not sent again, not even by imports
//! into several namespaces at once; labels that guard a blob's children from the garbage collector
//! are set even then.

use std::{collections::HashMap, io::Read};

use containerd_client::services::v1::{
    Info, InfoRequest, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest,
    content_client::ContentClient,
};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::runtime::{Containerd, RuntimeError};

/// How much of a blob goes into one message.
const FRAME: usize = 1 << 20;

/// A blob to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    /// `sha256:…`
    pub(crate) digest: String,
    /// Length in bytes.
    pub(crate) size: i64,
    /// Labels, among them the references that the garbage collector follows.
    pub(crate) labels: HashMap<String, String>,
}

fn client(containerd: &Containerd) -> ContentClient<tonic::transport::Channel> {
    ContentClient::new(containerd.channel.clone()).max_decoding_message_size(64 << 20)
}

/// Reads a whole blob; meant for manifests and configs.
pub(crate) async fn read(containerd: &Containerd, digest: &str) -> Result<Vec<u8>, RuntimeError> {
    let op = "read blob";
    let failed = |source| crate::runtime::call(op, digest)(source);
    let request = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
    let mut stream =
        client(containerd).read(containerd.request(request)).await.map_err(failed)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = stream.message().await.map_err(failed)? {
        bytes.extend(part.data);
    }
    Ok(bytes)
}

/// Whose turn it is to write a blob. containerd shares finished blobs between namespaces, but two
/// writers of one blob at the same time would each send all of it, and in one namespace the second
/// would be refused.
static TURNS: [Mutex<()>; 256] = [const { Mutex::const_new(()) }; 256];

/// The turn of a digest, by its last byte: that two digests share one costs a short wait.
fn turn(digest: &str) -> &'static Mutex<()> {
    let last = digest.get(digest.len().saturating_sub(2)..).unwrap_or_default();
    &TURNS[usize::from(u8::from_str_radix(last, 16).unwrap_or_default())]
}

/// Stores a blob. `source` opens it at an offset; it is read on a thread for blocking work, and only
/// if it is needed.
pub(crate) async fn write<R>(
    containerd: &Containerd,
    blob: Blob,
    source: impl FnOnce(u64) -> std::io::Result<R> + Send + 'static,
) -> Result<(), RuntimeError>
where
    R: Read + Send + 'static,
{
    let _turn = turn(&blob.digest).lock().await;
    let info = InfoRequest { digest: blob.digest.clone() };
    if client(containerd).info(containerd.request(info)).await.is_ok() {
        return label(containerd, blob).await;
    }
    let (frames, receiver) = mpsc::channel(4);
    let digest = blob.digest.clone();
    let (known, offset) = tokio::sync::oneshot::channel();
    let sender = tokio::task::spawn_blocking(move || send(blob, offset, source, &frames));
    let outcome = receive(containerd, &digest, receiver, known).await;
    match (outcome, sender.await) {
        (Ok(()), Ok(Err(error))) => {
            let status = tonic::Status::aborted(format!("read the blob's source: {error}"));
            Err(crate::runtime::call("write blob", &digest)(status))
        }
        (outcome, _) => outcome,
    }
}

/// Takes containerd's answers: the first says how much of the blob it has already.
async fn receive(
    containerd: &Containerd,
    digest: &str,
    frames: mpsc::Receiver<WriteContentRequest>,
    known: tokio::sync::oneshot::Sender<u64>,
) -> Result<(), RuntimeError> {
    let mut known = Some(known);
    let outcome = async {
        let request = containerd.request(ReceiverStream::new(frames));
        let mut answers = client(containerd).write(request).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if let Some(known) = known.take() {
                // The sender is gone only if reading failed, which is reported there.
                let _ = known.send(u64::try_from(answer.offset).unwrap_or_default());
            }
        }
        Ok(())
    };
    match outcome.await {
        Err::<(), tonic::Status>(status) if status.code() == Code::AlreadyExists => Ok(()),
        other => other.map_err(|status| crate::runtime::call("write blob", digest)(status)),
    }
}

fn send<R: Read>(
    blob: Blob,
    known: tokio::sync::oneshot::Receiver<u64>,
    source: impl FnOnce(u64) -> std::io::Result<R>,
    frames: &mpsc::Sender<WriteContentRequest>,
) -> std::io::Result<()> {
    let frame = |action: WriteAction, offset: u64, data: Vec<u8>| WriteContentRequest {
        action: action as i32,
        r#ref: format!("minictl-{}", blob.digest),
        total: blob.size,
        expected: blob.digest.clone(),
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        data,
        labels: if action == WriteAction::Commit { blob.labels.clone() } else { HashMap::new() },
    };
    // A closed channel means that containerd has ended the call: its answer tells why.
    let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    frames.blocking_send(frame(WriteAction::Stat, 0, Vec::new())).map_err(gone)?;
    let Ok(mut offset) = known.blocking_recv() else { return Ok(()) };
    let mut reader = source(offset)?;
    loop {
        let mut data = Vec::with_capacity(FRAME);
        (&mut reader).take(FRAME as u64).read_to_end(&mut data)?;
        let length = data.len() as u64;
        if length == 0 {
            break;
        }
        if frames.blocking_send(frame(WriteAction::Write, offset, data)).is_err() {
            return Ok(());
        }
        offset += length;
    }
    let _ = frames.blocking_send(frame(WriteAction::Commit, offset, Vec::new()));
    Ok(())
}

async fn label(containerd: &Containerd, blob: Blob) -> Result<(), RuntimeError> {
    if blob.labels.is_empty() {
        return Ok(());
    }
    let paths = blob.labels.keys().map(|key| format!("labels.{key}")).collect();
    let info = Info { digest: blob.digest.clone(), labels: blob.labels.clone(), ..Info::default() };
    let update =
        UpdateRequest { info: Some(info), update_mask: Some(prost_types::FieldMask { paths }) };
    client(containerd)
        .update(containerd.request(update))
        .await
        .map_err(crate::runtime::call("label blob", &blob.digest))?;
    Ok(())
}
