//! Exec, attach, logs and port-forward through the tunnel.

use proto::v1::{
    ClientFrame, Exit, ForwardFrame, ForwardOpen, LogsRequest, Resize, ServerFrame, Start,
    client_frame::Frame as Client, forward_frame::Frame as Forward, node_client::NodeClient,
    server_frame::Frame as Server,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::bed::{Bed, on_a_node, wait_for};

fn frame(frame: Client) -> ClientFrame {
    ClientFrame { frame: Some(frame) }
}

fn start(pod: &str, command: &[&str], stdin: bool, tty: bool) -> ClientFrame {
    frame(Client::Start(Start {
        target: Some(Bed::target(pod)),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        tty,
        stdin,
        stdout: true,
        stderr: true,
    }))
}

#[derive(Default, Debug)]
struct Heard {
    stdout: String,
    stderr: String,
    exit: Option<Exit>,
}

impl Heard {
    /// Takes frames until `enough`, or to the end.
    async fn listen(
        &mut self,
        frames: &mut Streaming<ServerFrame>,
        enough: impl Fn(&Self) -> bool,
    ) {
        let listening = async {
            while !enough(self) {
                let Some(next) = frames.message().await.unwrap() else { break };
                match next.frame.unwrap() {
                    Server::Stdout(bytes) => self.stdout.push_str(&String::from_utf8_lossy(&bytes)),
                    Server::Stderr(bytes) => self.stderr.push_str(&String::from_utf8_lossy(&bytes)),
                    Server::Exit(exit) => self.exit = Some(exit),
                }
            }
        };
        let limit = std::time::Duration::from_secs(15);
        let outcome = tokio::time::timeout(limit, listening).await;
        assert!(outcome.is_ok(), "waited too long; heard {self:?}");
    }
}

async fn exec(node: &mut NodeClient<Channel>, frames: Vec<ClientFrame>) -> Heard {
    let (sender, receiver) = mpsc::channel(8);
    let answer = node.exec(ReceiverStream::new(receiver));
    for frame in frames {
        sender.send(frame).await.unwrap();
    }
    let mut output = answer.await.unwrap().into_inner();
    let mut heard = Heard::default();
    heard.listen(&mut output, |_| false).await;
    heard
}

#[test]
fn exec_carries_streams_codes_and_terminals() {
    on_a_node(async |bed| {
        bed.create_shell("web", "sleep 1000", "Always");
        bed.until_ready("web").await;
        let mut node = bed.node().await;
        let split = ["sh", "-c", "echo out; echo err >&2; exit 3"];
        let heard = exec(&mut node, vec![start("web", &split, false, false)]).await;
        assert_eq!((heard.stdout.as_str(), heard.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(heard.exit.unwrap().code, 3);

        let frames = vec![
            start("web", &["cat"], true, false),
            frame(Client::Stdin(b"hello".to_vec())),
            frame(Client::StdinClosed(true)),
        ];
        let heard = exec(&mut node, frames).await;
        assert_eq!(heard.stdout, "hello");
        assert_eq!(heard.exit.unwrap().code, 0);

        let frames = vec![
            start("web", &["sh"], true, true),
            frame(Client::Resize(Resize { width: 101, height: 41 })),
            frame(Client::Stdin(b"stty size; echo $TERM; exit 5\n".to_vec())),
        ];
        let heard = exec(&mut node, frames).await;
        assert!(heard.stdout.contains("41 101") && heard.stdout.contains("xterm"), "{heard:?}");
        assert_eq!(heard.exit.unwrap().code, 5);

        let heard = exec(&mut node, vec![start("web", &["nosuch"], false, false)]).await;
        let exit = heard.exit.unwrap();
        assert_eq!(exit.code, 127);
        assert!(exit.error.contains("executable file not found"), "{}", exit.error);

        let large = [
            "sh",
            "-c",
            "dd if=/dev/zero bs=64k count=64 2>/dev/null | wc -c; dd if=/dev/zero bs=64k count=64 2>/dev/null",
        ];
        let heard = exec(&mut node, vec![start("web", &large, false, false)]).await;
        assert_eq!(heard.stdout.len(), "4194304\n".len() + 4_194_304);
    });
}

#[test]
fn exec_into_what_is_not_there_is_refused() {
    on_a_node(async |bed| {
        let mut node = bed.node().await;
        let (sender, receiver) = mpsc::channel(1);
        sender.send(start("nope", &["true"], false, false)).await.unwrap();
        let status = node.exec(ReceiverStream::new(receiver)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
    });
}

/// Attaches to a container, with a terminal or without, before and after the agent's restart.
async fn attach_and_talk(bed: &mut Bed, tty: bool) {
    let script =
        "while read line; do echo \"got $line\"; [ \"$line\" = end ] && exit 9; done; exit 1";
    bed.create_pod("talk", json!({"restartPolicy": "Never", "containers": [{
        "name": "c", "image": "busybox", "command": ["sh", "-c", script], "stdin": true, "tty": tty,
    }]}));
    bed.until_ready("talk").await;
    let mut node = bed.node().await;
    for (say, expected) in [("one\n", "got one"), ("end\n", "got end")] {
        let (sender, receiver) = mpsc::channel(8);
        sender.send(start("talk", &[], true, tty)).await.unwrap();
        let mut frames = node.attach(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        sender.send(frame(Client::Stdin(say.as_bytes().to_vec()))).await.unwrap();
        let mut heard = Heard::default();
        heard.listen(&mut frames, |heard| heard.stdout.contains(expected)).await;
        if say == "end\n" {
            heard.listen(&mut frames, |heard| heard.exit.is_some()).await;
            assert_eq!(heard.exit.unwrap().code, 0, "the container's own code is in its status");
        } else {
            drop((sender, frames));
            bed.stop_agent().await;
            bed.start_agent().await;
            node = bed.node().await;
        }
    }
    let status = bed.until_phase("talk", "Failed").await;
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 9);
}

#[test]
fn attach_with_a_terminal_goes_on_after_a_restart_of_the_agent() {
    on_a_node(async |bed| attach_and_talk(bed, true).await);
}

#[test]
fn attach_without_a_terminal_goes_on_after_a_restart_of_the_agent() {
    on_a_node(async |bed| attach_and_talk(bed, false).await);
}

async fn logs(node: &mut NodeClient<Channel>, request: LogsRequest) -> String {
    let mut chunks = node.logs(request).await.unwrap().into_inner();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        text.extend(chunk.data);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn logs_are_read_followed_and_remembered() {
    on_a_node(async |bed| {
        let script = "echo one; echo two >&2; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo three; exit 1";
        bed.create_shell("talker", script, "OnFailure");
        bed.until_ready("talker").await;
        let mut node = bed.node().await;
        let request =
            || LogsRequest { target: Some(Bed::target("talker")), ..LogsRequest::default() };
        wait_for("two lines", async || {
            let text = logs(&mut node.clone(), request()).await;
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            if lines == ["one", "two"] { Ok(()) } else { Err(text) }
        })
        .await;
        let followed = LogsRequest { follow: true, ..request() };
        let mut chunks = node.logs(followed).await.unwrap().into_inner();
        let go = ["sh", "-c", "echo > /tmp/go"];
        exec(&mut node, vec![start("talker", &go, false, false)]).await;
        let mut text = String::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            text.push_str(std::str::from_utf8(&chunk.data).unwrap());
        }
        assert!(text.ends_with("three\n"), "following ends with the container: {text:?}");
        bed.api
            .until(&Bed::path("talker"), |pod| {
                let container = &pod?["status"]["containerStatuses"][0];
                (container["restartCount"] == 1).then_some(())
            })
            .await;
        let previous = LogsRequest { previous: true, tail_lines: Some(1), ..request() };
        assert_eq!(logs(&mut node, previous).await, "three\n");
    });
}

#[test]
fn a_port_is_forwarded_into_the_pod() {
    on_a_node(async |bed| {
        let script = "echo forwarded > /tmp/index.html; exec httpd -f -p 127.0.0.1:8080 -h /tmp";
        bed.create_shell("web", script, "Always");
        bed.until_ready("web").await;
        let mut node = bed.node().await;
        let open = |port| ForwardFrame {
            frame: Some(Forward::Open(ForwardOpen { target: Some(Bed::target("web")), port })),
        };
        wait_for("the forwarded answer", async || {
            let (sender, receiver) = mpsc::channel(4);
            sender.send(open(8080)).await.unwrap();
            let request = b"GET /index.html HTTP/1.0\r\n\r\n".to_vec();
            sender.send(ForwardFrame { frame: Some(Forward::Data(request)) }).await.unwrap();
            let answer = node.port_forward(ReceiverStream::new(receiver)).await;
            let mut frames = answer.map_err(|status| status.to_string())?.into_inner();
            let mut text = String::new();
            while let Ok(Some(frame)) = frames.message().await {
                if let Some(Forward::Data(bytes)) = frame.frame {
                    text.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
            if text.contains("forwarded") { Ok(()) } else { Err(text) }
        })
        .await;
        let (sender, receiver) = mpsc::channel(1);
        sender.send(open(9)).await.unwrap();
        let refused = node.port_forward(ReceiverStream::new(receiver)).await.unwrap_err();
        assert!(refused.message().contains("localhost:9"), "{refused}");
    });
}
