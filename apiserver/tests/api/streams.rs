//! Exec, attach and logs through a tunnel, with kube-rs as the client; kubectl's turn is in
//! `kubectl`.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams, TerminalSize};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Cluster, PATIENCE, message, pod};
use crate::{agent, harness};

/// A cluster with a running pod `a` on a connected node.
pub(crate) async fn with_running_pod() -> Cluster {
    let cluster = Cluster::start().await;
    running_pod(&cluster).await;
    agent::connect(&cluster, "n1").await;
    cluster
}

async fn running_pod(cluster: &Cluster) {
    let pods = "/api/v1/namespaces/default/pods";
    let mut object = pod("a");
    object["spec"]["nodeName"] = "n1".into();
    let (code, made) = cluster.post(pods, object).await;
    assert_eq!(code, 201, "{made}");
    let status = json!({ "status": {
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{
            "name": "c", "image": "nginx", "imageID": "x", "ready": true, "restartCount": 0,
            "state": { "running": {} }, "lastState": {},
        }],
    } });
    let (code, status) = cluster.merge(&format!("{pods}/a/status"), status).await;
    assert_eq!(code, 200, "{status}");
}

fn pods(client: kube::Client) -> kube::Api<Pod> {
    kube::Api::namespaced(client, "default")
}

#[tokio::test]
async fn exec_passes_streams_and_the_exit_code() {
    let cluster = with_running_pod().await;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(true);
    let mut process =
        pods(cluster.client().await).exec("a", ["sh", "-c", "x"], &params).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
    let status = process.take_status().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    let read = async {
        stdout.read_to_string(&mut out).await.unwrap();
        stderr.read_to_string(&mut err).await.unwrap();
        status.await.unwrap()
    };
    let status = tokio::time::timeout(PATIENCE, read).await.expect("the process ends");
    assert_eq!((out.as_str(), err.as_str()), ("sh -c x tty=false\nHELLO", "bye\n"));
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = status.details.unwrap().causes.unwrap();
    assert_eq!(causes[0].message.as_deref(), Some("7"));
}

/// By hand: a client that does not look at what comes back before it has sent everything.
#[tokio::test]
async fn a_client_that_goes_on_sending_is_not_cut_off_and_hears_how_the_process_ended() {
    const PIECE: usize = 32 * 1024;
    let cluster = with_running_pod().await;
    let path = "/api/v1/namespaces/default/pods/a/exec?command=true&stdin=1&stdout=1";
    let request = http::Request::get(path)
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
        .header("Sec-WebSocket-Protocol", "v5.channel.k8s.io");
    let connection = agent::switched(&cluster, "admin", &["system:masters"], request).await;
    let mut connection = hyper_util::rt::TokioIo::new(connection);
    // One binary message on channel 0, masked with zeros.
    let mut message = vec![0x82, 0x80 | 126];
    message.extend(u16::try_from(PIECE).unwrap().to_be_bytes());
    message.extend([0; 4 + PIECE]);
    let exchange = async {
        for _ in 0..10 * 1024 * 1024 / PIECE {
            connection.write_all(&message).await.expect("the server reads on");
        }
        let mut heard = Vec::new();
        while !heard.ends_with(&[0x88, 2, 0x03, 0xe8]) {
            assert_ne!(connection.read_buf(&mut heard).await.unwrap(), 0, "no close: {heard:?}");
        }
        heard
    };
    let heard = tokio::time::timeout(PATIENCE, exchange).await.expect("an end in time");
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.contains(r#""status":"Success""#), "{heard}");
    // Both have said goodbye: the server closes at once.
    connection.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut rest)).await;
    assert!(end.is_ok() && rest.is_empty(), "{end:?} {rest:?}");
}

#[tokio::test]
async fn a_terminal_is_resized() {
    let cluster = with_running_pod().await;
    let params = AttachParams::interactive_tty();
    let mut process = pods(cluster.client().await).exec("a", ["sh"], &params).await.unwrap();
    let mut size = process.terminal_size().unwrap();
    let mut stdout = process.stdout().unwrap();
    futures::SinkExt::send(&mut size, TerminalSize { width: 81, height: 25 }).await.unwrap();
    let mut seen = String::new();
    let read = async {
        let mut buffer = [0; 64];
        while !seen.contains("81x25") {
            let count = stdout.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "ended after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the size comes through");
}

#[tokio::test]
async fn logs_are_plain_text_with_their_options() {
    let cluster = with_running_pod().await;
    let params = LogParams { tail_lines: Some(5), ..LogParams::default() };
    let text = pods(cluster.client().await).logs("a", &params).await.unwrap();
    assert_eq!(text, "default/a c\ntail Some(5) follow false\n");
}

#[tokio::test]
async fn refusals_are_ordinary_answers() {
    let cluster = Cluster::start().await;
    running_pod(&cluster).await;
    let path = "/api/v1/namespaces/default/pods";
    let (code, status) = cluster.get(&format!("{path}/a/log")).await;
    assert_eq!(code, 500);
    assert!(message(&status).starts_with("node \"n1\" is not connected"), "{status}");
    let (code, status) = cluster.get(&format!("{path}/a/log?container=x")).await;
    assert_eq!((code, message(&status)), (400, "container x is not valid for pod a"));
    let (code, status) = cluster.get(&format!("{path}/b/log")).await;
    assert_eq!((code, message(&status)), (404, "pods \"b\" not found"));
    let (code, _) = cluster.get(&format!("{path}/a/exec?command=x&stdout=1")).await;
    assert_eq!(code, 400);
    agent::connect(&cluster, "n1").await;
    let refused =
        pods(cluster.client().await).exec("a", ["refuse"], &AttachParams::default()).await;
    assert!(refused.is_err(), "the agent refuses before the connection is switched");
    let other = cluster.client_as("system:node:n1", &["system:nodes"]).await;
    let (code, _) =
        harness::ask(&other, "GET", &format!("{path}/a/exec?command=x&stdout=1"), "", "").await;
    assert_eq!(code, 403, "nodes start nothing in containers");
}
