//! Sessions in containers: exec and run, over the WebSocket protocol.

use serde_json::{Value, json};

use super::fake::Fake;
use crate::Io;

/// Far more than any of these sessions takes; without a limit, one that hangs would not fail.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(phase: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "b", "namespace": "default", "resourceVersion": "5"},
        "spec": {"containers": [{"name": "b"}]},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "b", "ready": true, "restartCount": 0, "image": "",
                "imageID": "", "state": {"terminated": {"exitCode": 7, "reason": "Error"}}}]}})
}

#[tokio::test]
async fn exec_keeps_outputs_apart_ends_its_input_and_gives_the_exit_code() {
    let fake = Fake::start().await.on(&format!("GET {PODS}/b"), pod("Running"));
    let done = fake.run_with("exec -i b -- cat", "hello").await;
    assert_eq!((done.code, done.out.as_str()), (7, "out\nhello"));
    assert_eq!(done.err, "err\ncommand terminated with exit code 7\n");
    let line = fake.lines().pop().unwrap();
    for part in ["/exec?", "command=cat", "container=b", "stdin=true", "stdout=true", "stderr=true"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[tokio::test]
async fn exec_ends_with_its_command_though_input_is_left() {
    let fake = Fake::start().await.on(&format!("GET {PODS}/b"), pod("Running"));
    let input = "x".repeat(20_000_000);
    let done = fake.run_with("exec -i b -- deaf", &input);
    let done = tokio::time::timeout(LIMIT, done).await.expect("exec waits for its input's reader");
    assert_eq!((done.code, done.out.len(), done.err.as_str()), (0, 20_000_000, ""));
}

/// An output whose reader has left.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn exec_ends_when_the_reader_of_its_output_leaves() {
    let fake = Fake::start().await.on(&format!("GET {PODS}/b"), pod("Running"));
    let mut io = Io {
        out: Box::new(Closed),
        err: Box::new(std::io::sink()),
        input: Box::new(tokio::io::empty()),
        interactive: false,
    };
    let done = tokio::time::timeout(LIMIT, fake.run_on("exec b -- yes", &mut io)).await;
    assert_eq!(done.expect("exec waits for its other output").unwrap(), 0);
}

#[tokio::test]
async fn a_terminal_is_not_asked_for_without_one() {
    let fake = Fake::start().await.on(&format!("GET {PODS}/b"), pod("Running"));
    let done = fake.run_with("exec -it b -- cat", "").await;
    assert!(done.err.starts_with("Unable to use a TTY - input is not a terminal"), "{}", done.err);
    assert!(!fake.lines().pop().unwrap().contains("tty=true"));
}

#[tokio::test]
async fn exec_without_dashes_says_where_the_command_belongs() {
    let fake = Fake::start().await;
    let done = fake.run("exec b ls").await;
    assert_eq!(
        done.err,
        "error: exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead\n"
    );
}

#[tokio::test]
async fn run_rm_attaches_gives_the_exit_code_and_deletes() {
    let query = "fieldSelector=metadata.name%3Db";
    let list = |pod: Value| {
        json!({"kind": "PodList", "metadata": {"resourceVersion": "5"},
                                   "items": [pod]})
    };
    let fake = Fake::start()
        .await
        .on(&format!("POST {PODS}?fieldManager=kubectl-run"), pod("Pending"))
        .on(&format!("GET {PODS}?{query}"), list(pod("Running")))
        .on(&format!("GET {PODS}?{query}"), list(pod("Failed")))
        .on(&format!("DELETE {PODS}/b"), json!({"kind": "Status", "status": "Success"}));
    let done = fake.run_with("run b --rm -i --image=busybox --restart=Never -- cat", "hello").await;
    assert_eq!(done.code, 7, "{}", done.err);
    assert_eq!(done.out, "out\nhellopod \"b\" deleted from default namespace\n");
    assert!(done.err.contains("If you don't see a command prompt, try pressing enter."));
    assert!(done.err.ends_with("\npod default/b terminated (Error)\n"), "{}", done.err);
    assert!(fake.lines().iter().any(|l| l.contains("/attach?")));
}

#[tokio::test]
async fn run_rm_deletes_also_when_the_pod_never_starts() {
    let query = "fieldSelector=metadata.name%3Db";
    let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "5"},
                      "items": [pod("Pending")]});
    let fake = Fake::start()
        .await
        .on(&format!("POST {PODS}?fieldManager=kubectl-run"), pod("Pending"))
        .on(&format!("GET {PODS}?{query}"), list)
        .raw(&format!("GET {PODS}?{query}&watch=true&resourceVersion=5"), 200, &[], "")
        .on(&format!("DELETE {PODS}/b"), json!({"kind": "Status", "status": "Success"}));
    let done = fake.run("run b --rm -i --image=x --pod-running-timeout=100ms").await;
    assert_eq!(done.code, 1);
    assert!(done.err.contains("error: timed out waiting for the condition"), "{}", done.err);
    assert!(fake.lines().iter().any(|l| l.starts_with("DELETE")));
}
