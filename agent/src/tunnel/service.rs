//! The calls of the API server: exec, attach, logs, port-forward. Each is thin: find the run, hand
//! over to [`crate::streams`] or [`crate::log`], turn the outcome into frames.

use std::{io, path::PathBuf, pin::Pin, sync::Arc};

use jiff::Timestamp;
use proto::v1::{
    ClientFrame, Exit, ForwardFrame, LogChunk, LogsRequest, ServerFrame, Start, Target,
    client_frame, forward_frame, node_server::Node, server_frame,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::target::FoundPod;
use crate::{
    config::Config,
    log::{Chunk, ReadOptions, Stream, read_log},
    pod::STDIN_ONCE,
    runtime::Containerd,
    sandbox::on_host_network_record,
    spec::exec_process,
    streams::{
        attach::Attachment,
        exec::{Session, Wanted},
    },
};

type Frames<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

/// Serves the calls of the API server.
#[derive(Clone)]
pub(crate) struct NodeService {
    pub(crate) config: Arc<Config>,
    pub(crate) containerd: Containerd,
    pub(crate) host_net: PathBuf,
}

fn to_frame(chunk: Chunk) -> ServerFrame {
    let frame = match chunk.stream {
        Stream::Stdout => server_frame::Frame::Stdout(chunk.bytes),
        Stream::Stderr => server_frame::Frame::Stderr(chunk.bytes),
    };
    ServerFrame { frame: Some(frame) }
}

fn exit_frame(code: i32, error: String) -> ServerFrame {
    ServerFrame { frame: Some(server_frame::Frame::Exit(Exit { code, error })) }
}

/// The first frame says what is wanted.
async fn start_of(frames: &mut Streaming<ClientFrame>) -> Result<(Start, Target), Status> {
    let first = frames.message().await?.and_then(|first| first.frame);
    let Some(client_frame::Frame::Start(mut start)) = first else {
        return Err(Status::invalid_argument("the first frame must be `start`"));
    };
    let target = start.target.take();
    let target = target.ok_or_else(|| Status::invalid_argument("`start` has no target"))?;
    Ok((start, target))
}

#[tonic::async_trait]
impl Node for NodeService {
    type ExecStream = Frames<ServerFrame>;
    type AttachStream = Frames<ServerFrame>;
    type LogsStream = Frames<LogChunk>;
    type PortForwardStream = Frames<ForwardFrame>;

    async fn exec(
        &self,
        request: Request<Streaming<ClientFrame>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut input = request.into_inner();
        let (start, target) = start_of(&mut input).await?;
        let pod = FoundPod::find(&self.config, &target).await?;
        let run = pod.live_run(&self.config, &target.container)?;
        let (frames, output) = mpsc::channel(16);
        let service = self.clone();
        let io = pod.folder.file("io");
        tokio::spawn(async move {
            let last = match service.exec_session(&run.id, &start, io).await {
                Ok(session) => pump_exec(session, input, frames.clone()).await,
                Err(message) => exit_frame(start_error_code(&message), message),
            };
            // A client that is gone needs no last frame.
            let _ = frames.send(Ok(last)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(output))))
    }

    async fn attach(
        &self,
        request: Request<Streaming<ClientFrame>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut input = request.into_inner();
        let (start, target) = start_of(&mut input).await?;
        let pod = FoundPod::find(&self.config, &target).await?;
        let run = pod.live_run(&self.config, &target.container)?;
        let once = run.io.join(STDIN_ONCE).exists();
        let attachment =
            Attachment::join(&self.containerd, &run.id, &run.io, start.stdin, once).await;
        let attachment = attachment.map_err(|error| {
            if has_just_ended(&error) {
                return pod.not_running(&target.container);
            }
            Status::failed_precondition(format!("cannot attach to the container: {error}"))
        })?;
        let (frames, output) = mpsc::channel(16);
        tokio::spawn(async move {
            pump_attach(attachment, &start, input, &frames).await;
            // Attach ends well whatever the container's own exit code is: clients read that in the
            // pod's status. A client that is gone needs no last frame.
            let _ = frames.send(Ok(exit_frame(0, String::new()))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(output))))
    }

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let target = request.target.clone();
        let target = target.ok_or_else(|| Status::invalid_argument("`target` is missing"))?;
        let pod = FoundPod::find(&self.config, &target).await?;
        let run = pod.run(&self.config, &target.container, request.previous)?;
        let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let options = ReadOptions {
            follow: request.follow && run.running,
            timestamps: request.timestamps,
            tail_lines: positive(request.tail_lines),
            limit_bytes: positive(request.limit_bytes),
            since: request
                .since_unix_nanos
                .and_then(|nanos| Timestamp::from_nanosecond(i128::from(nanos)).ok()),
        };
        let (chunks, mut read) = mpsc::channel(4);
        let (frames, output) = mpsc::channel(4);
        tokio::spawn(async move {
            let forward = async {
                while let Some(data) = read.recv().await {
                    if frames.send(Ok(LogChunk { data })).await.is_err() {
                        break;
                    }
                }
                drop(read);
            };
            let (outcome, ()) = tokio::join!(read_log(run.log, run.io, options, chunks), forward);
            if let Err(error) = outcome {
                let status = Status::internal(format!("read the container's log: {error}"));
                let _ = frames.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(output))))
    }

    async fn port_forward(
        &self,
        request: Request<Streaming<ForwardFrame>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        let mut input = request.into_inner();
        let first = input.message().await?.and_then(|first| first.frame);
        let Some(forward_frame::Frame::Open(open)) = first else {
            return Err(Status::invalid_argument("the first frame must be `open`"));
        };
        let target = open.target.ok_or_else(|| Status::invalid_argument("no target"))?;
        let port = u16::try_from(open.port)
            .map_err(|_| Status::invalid_argument(format!("{} is no port", open.port)))?;
        let pod = FoundPod::find(&self.config, &target).await?;
        let net = match on_host_network_record(&pod.record) {
            true => self.host_net.clone(),
            false => pod.folder.net(),
        };
        let stream = connect_inside(net, port).await?;
        let (frames, output) = mpsc::channel(16);
        tokio::spawn(pump_forward(stream, input, frames));
        Ok(Response::new(Box::pin(ReceiverStream::new(output))))
    }
}

impl NodeService {
    async fn exec_session(&self, id: &str, start: &Start, io: PathBuf) -> Result<Session, String> {
        let spec = self.containerd.container_spec(id).await.map_err(|error| error.reason())?;
        let process = exec_process(&spec, &start.command, start.tty);
        let wanted = Wanted { stdin: start.stdin, tty: start.tty };
        Session::start(&self.containerd, id, &process, wanted, &io).await.map_err(|error| {
            match error {
                crate::streams::exec::ExecError::Runtime(error) => error.reason(),
                other => crate::error_chain(&other),
            }
        })
    }
}

/// Whether a container's streams cannot be joined because nobody holds their other ends: it has
/// ended, though the record does not tell yet.
fn has_just_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | NotFound | UnexpectedEof)
}

/// A shell's codes for a command that is missing (127) or cannot be run (126).
fn start_error_code(message: &str) -> i32 {
    let missing = ["executable file not found", "no such file or directory"]
        .iter()
        .any(|text| message.contains(text));
    if missing { 127 } else { 126 }
}

/// Input to the process, output from it, until it is over. A client that goes takes it along.
async fn pump_exec(
    mut session: Session,
    mut input: Streaming<ClientFrame>,
    frames: mpsc::Sender<Result<ServerFrame, Status>>,
) -> ServerFrame {
    let mut writer = session.input();
    let feed = tokio::spawn(async move {
        while let Ok(Some(frame)) = input.message().await {
            match frame.frame {
                Some(client_frame::Frame::Stdin(bytes)) => writer.write(&bytes).await,
                Some(client_frame::Frame::StdinClosed(_)) => writer.close().await,
                Some(client_frame::Frame::Resize(size)) => {
                    writer.resize(size.width, size.height).await;
                }
                Some(client_frame::Frame::Start(_)) | None => {}
            }
        }
        writer.close().await;
    });
    let killer = session.killer();
    let (sender, mut chunks) = mpsc::channel::<Chunk>(16);
    let run = tokio::spawn(session.finish(sender));
    loop {
        // Both arms are cancel-safe.
        let chunk = tokio::select! {
            chunk = chunks.recv() => chunk,
            () = frames.closed() => {
                killer.await;
                break;
            }
        };
        let Some(chunk) = chunk else { break };
        if frames.send(Ok(to_frame(chunk))).await.is_err() {
            killer.await;
            break;
        }
    }
    drop(chunks);
    let last = match run.await {
        Ok(Ok(exit)) => exit_frame(exit.code, String::new()),
        Ok(Err(error)) => exit_frame(1, crate::error_chain(&error)),
        Err(error) => exit_frame(1, error.to_string()),
    };
    feed.abort();
    last
}

/// Input to the container, output from it, until either side ends. The container runs on.
async fn pump_attach(
    attachment: Attachment,
    start: &Start,
    mut input: Streaming<ClientFrame>,
    frames: &mpsc::Sender<Result<ServerFrame, Status>>,
) {
    let Attachment { mut feed, input: mut writer } = attachment;
    let feeder = tokio::spawn(async move {
        while let Ok(Some(frame)) = input.message().await {
            match frame.frame {
                Some(client_frame::Frame::Stdin(bytes)) => writer.write(&bytes).await,
                Some(client_frame::Frame::StdinClosed(_)) => writer.close().await,
                Some(client_frame::Frame::Resize(size)) => {
                    writer.resize(size.width, size.height).await;
                }
                Some(client_frame::Frame::Start(_)) | None => {}
            }
        }
        writer.close().await;
    });
    loop {
        let chunk = tokio::select! {
            chunk = feed.next() => chunk,
            () = frames.closed() => break,
        };
        let Some(chunk) = chunk else { break };
        let wanted = match chunk.stream {
            Stream::Stdout => start.stdout,
            Stream::Stderr => start.stderr,
        };
        if wanted && frames.send(Ok(to_frame(chunk))).await.is_err() {
            break;
        }
    }
    if !frames.is_closed() {
        feeder.abort();
    }
}

/// Connects to a port of the pod's own loopback, as kubelet does.
async fn connect_inside(net: PathBuf, port: u16) -> Result<TcpStream, Status> {
    let connect = move || -> Result<std::net::TcpStream, Status> {
        let failed = |error: &dyn std::error::Error| {
            let text = crate::error_chain(error);
            Status::unavailable(format!(
                "failed to connect to localhost:{port} inside the pod: {text}"
            ))
        };
        let namespace = netns::Namespace::open(&net).map_err(|error| failed(&error))?;
        let loopbacks: [std::net::IpAddr; 2] =
            [std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()];
        let dial = || {
            let mut tries =
                loopbacks.iter().map(|address| std::net::TcpStream::connect((*address, port)));
            match (tries.next(), tries) {
                (Some(Err(first)), mut rest) => rest.next().and_then(Result::ok).ok_or(first),
                (Some(connected), _) => connected,
                (None, _) => Err(std::io::ErrorKind::AddrNotAvailable.into()),
            }
        };
        let stream = namespace.run(dial).map_err(|error| failed(&error))?;
        let stream = stream.map_err(|error| failed(&error))?;
        stream.set_nonblocking(true).map_err(|error| failed(&error))?;
        Ok(stream)
    };
    let connected = tokio::task::spawn_blocking(connect).await;
    let stream = connected.map_err(|error| Status::internal(error.to_string()))??;
    TcpStream::from_std(stream).map_err(|error| Status::internal(error.to_string()))
}

async fn pump_forward(
    stream: TcpStream,
    mut input: Streaming<ForwardFrame>,
    frames: mpsc::Sender<Result<ForwardFrame, Status>>,
) {
    let frame = |frame| Ok(ForwardFrame { frame: Some(frame) });
    // An empty frame says that the connection stands.
    let mut alive = frames.send(frame(forward_frame::Frame::Data(Vec::new()))).await.is_ok();
    let (mut reader, mut writer) = stream.into_split();
    let inward = async move {
        while let Ok(Some(message)) = input.message().await {
            match message.frame {
                Some(forward_frame::Frame::Data(bytes)) => {
                    if writer.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                Some(forward_frame::Frame::Closed(_)) => {
                    // The other half goes on.
                    let _ = writer.shutdown().await;
                }
                Some(forward_frame::Frame::Open(_)) | None => {}
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; 32 * 1024];
        while alive {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    let data = forward_frame::Frame::Data(buffer[..length].to_vec());
                    alive = frames.send(frame(data)).await.is_ok();
                }
            }
        }
        let _ = frames.send(frame(forward_frame::Frame::Closed(true))).await;
    };
    let inward = tokio::spawn(inward);
    outward.await;
    // The pod's side is over; whatever the client still sends would reach nobody.
    inward.abort();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Feed;

    #[tokio::test]
    async fn a_feed_that_nobody_serves_any_more_is_the_end_of_its_container() {
        let io = tempfile::tempdir().unwrap();
        assert!(has_just_ended(&Feed::connect(io.path()).await.unwrap_err()), "no socket");
        let listener = std::os::unix::net::UnixListener::bind(io.path().join("feed.sock")).unwrap();
        let ending = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(has_just_ended(&Feed::connect(io.path()).await.unwrap_err()), "hung up");
        ending.join().unwrap();
        assert!(has_just_ended(&Feed::connect(io.path()).await.unwrap_err()), "nobody listens");
        assert!(!has_just_ended(&io::ErrorKind::PermissionDenied.into()));
    }
}
