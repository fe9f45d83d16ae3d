//! An API that fails at first, or changes its mind, on a paused clock.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use netmodel::address::{Frontend, Protocol};
use netmodel::problem::Cause as Why;
use netmodel::service::Owner;
use netmodel::snapshot::{Node as ModelNode, Service as ModelService, Settings};

use super::*;
use crate::inputs::{Change, Event};

#[derive(Clone, Default)]
struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Paths and bodies, as they came.
    sent: Vec<(String, Value)>,
    /// So many answers from now are failures …
    failures: u32,
    /// … with this code.
    code: StatusCode,
}

impl Script {
    fn failing(times: u32, code: StatusCode) -> Self {
        Self(Arc::new(Mutex::new(State { sent: Vec::new(), failures: times, code })))
    }

    fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let script = script.clone();
            async move { Ok::<_, Infallible>(script.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut state = self.0.lock().unwrap();
        state.sent.push((path, serde_json::from_slice(&body).unwrap()));
        let (code, answer) = match state.failures.checked_sub(1) {
            Some(left) => {
                state.failures = left;
                let code = state.code;
                (code, json!({"kind": "Status", "code": code.as_u16(), "message": "not now"}))
            }
            None => (StatusCode::OK, json!({"metadata": {"name": "x"}})),
        };
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = code;
        response
    }

    fn sent(&self, end: &str) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        let matching = state.sent.iter().filter(|(path, _)| path.ends_with(end));
        matching.map(|(_, body)| body.clone()).collect()
    }
}

fn inputs() -> Inputs {
    let settings = Settings {
        node_name: "node-1".into(),
        cluster_cidrs: vec![],
        service_cidrs: vec![],
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
        default_scheduler: "rr".into(),
    };
    let mut inputs = Inputs::new(settings, Timestamp::UNIX_EPOCH);
    let node = ServiceName::new("", "node-1");
    inputs.apply(Event::Node(Change::Set(node, (ModelNode::default(), None))));
    inputs.news.own_node = false;
    inputs
}

fn name() -> ServiceName {
    ServiceName::new("shop", "web")
}

/// The Service as the API tells it, with what stands in its condition.
fn see(inputs: &mut Inputs, version: &str, complaint: Option<&str>) {
    let facts = Facts {
        resource_version: version.into(),
        complaint: complaint.map(Into::into),
        ..Facts::default()
    };
    let object = (Some(ModelService::default()), facts);
    inputs.apply(Event::Service(Change::Set(name(), object)));
}

fn problem() -> Problem {
    let owner = |name| Owner { service: ServiceName::new("shop", name), port: "".into() };
    let frontend =
        Frontend { addr: "203.0.113.9".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
    Problem { owner: owner("web"), cause: Why::FrontendTaken { frontend, winner: owner("a") } }
}

/// Lets the clock run while the teller's task does.
async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_annotation_is_tried_until_the_node_is_there() {
    let script = Script::failing(5, StatusCode::NOT_FOUND);
    let (teller, telling) = Teller::new(&script.client(), "node-1");
    tokio::spawn(telling);
    teller.engine("nftables (as asked)".to_owned(), &mut inputs());
    after(300).await;
    assert_eq!(script.sent("/nodes/node-1").len(), 6);
    after(300).await;
    assert_eq!(script.sent("/nodes/node-1").len(), 6, "what is said is not said again");
}

#[tokio::test(start_paused = true)]
async fn the_last_word_counts_when_the_engine_changes_while_the_api_is_away() {
    let script = Script::failing(3, StatusCode::INTERNAL_SERVER_ERROR);
    let (teller, telling) = Teller::new(&script.client(), "node-1");
    tokio::spawn(telling);
    let mut inputs = inputs();
    teller.engine("ipvs (as asked)".to_owned(), &mut inputs);
    after(1).await;
    teller.engine("nftables (as asked)".to_owned(), &mut inputs);
    after(300).await;
    let sent = script.sent("/nodes/node-1");
    let last = &sent.last().unwrap()["metadata"]["annotations"][ENGINE_ANNOTATION];
    assert_eq!(last, "nftables (as asked)");
    assert_eq!(sent.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_another_hand_changed_is_put_right() {
    let script = Script::default();
    let (teller, telling) = Teller::new(&script.client(), "node-1");
    tokio::spawn(telling);
    let mut inputs = inputs();
    teller.engine("nftables (as asked)".to_owned(), &mut inputs);
    after(1).await;
    let own = crate::inputs::OwnNode { stated: Some("nonsense".to_owned()), ..Default::default() };
    let object = (ModelNode::default(), Some(Box::new(own)));
    inputs.apply(Event::Node(Change::Set(ServiceName::new("", "node-1"), object)));
    teller.engine("nftables (as asked)".to_owned(), &mut inputs);
    after(1).await;
    assert_eq!(script.sent("/nodes/node-1").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_condition_is_said_once_for_each_version_and_again_when_it_was_lost() {
    let script = Script::default();
    let (mut teller, telling) = Teller::new(&script.client(), "node-1");
    tokio::spawn(telling);
    let mut inputs = inputs();
    see(&mut inputs, "7", None);
    for _ in 0..10 {
        teller.problems(&inputs, vec![problem()], true);
        teller.news(&mut inputs);
    }
    after(1).await;
    let patches = script.sent("/services/web/status");
    assert_eq!(patches.len(), 1);
    let condition = &patches[0]["status"]["conditions"][0];
    let message = condition["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "node-1: 203.0.113.9 port 80/tcp belongs to Service shop/a");

    // Another version: the first patch was refused, as it named an old one.
    see(&mut inputs, "8", None);
    teller.news(&mut inputs);
    after(60).await;
    assert_eq!(script.sent("/services/web/status").len(), 2);
    teller.problems(&inputs, vec![problem()], true);
    after(1).await;
    assert_eq!(script.sent("/services/web/status").len(), 3, "nothing came of it for a minute");

    see(&mut inputs, "9", Some(&message));
    teller.news(&mut inputs);
    teller.problems(&inputs, vec![problem()], true);
    after(1).await;
    assert_eq!(script.sent("/services/web/status").len(), 3, "it is there");
    teller.problems(&inputs, Vec::new(), false);
    after(1).await;
    let solved = script.sent("/services/web/status").pop().unwrap();
    assert_eq!(solved["status"]["conditions"][0]["status"], "True");
    let events = script.sent("/namespaces/shop/events");
    assert_eq!(events.len(), 1, "one event for one cause: {events:#?}");
}
