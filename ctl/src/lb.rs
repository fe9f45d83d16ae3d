//! `minictl lb check`: every node asks its network who has an address; what they say is put
//! together here.
//!
//! Inputs: flags; the nodes' answers by way of the API server, or one netd's at its own socket.
//! Outputs: a table, a verdict in words with what to do, or the answers as JSON or YAML; an exit
//! code. What the answers mean is decided in [`verdict`].

mod verdict;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use proto::lb::load_balancer_client::LoadBalancerClient;
use proto::lb::{CheckReply, CheckRequest};
use serde_json::{Value, json};
use verbs::client::{self, Client};
use verbs::{Error, Globals, Io};

use crate::cli::lb::Check;
use crate::dataplane::{netd_at, nodes};
use verdict::{Cluster, Verdict, verdict};

/// What it exits with when the address is not served as it should be, and when it can't be told.
const TROUBLE: i32 = 1;
const FAILED: i32 = 2;

const SERVICES: &str = "/api/v1/services";
const POOLS: &str = "/apis/minictl.io/v1/addresspools";

/// What was heard.
#[derive(Default)]
struct Heard {
    replies: Vec<CheckReply>,
    /// Why nodes did not answer.
    silent: Vec<Error>,
    /// What the API server knows, if it was asked.
    cluster: Option<Cluster>,
}

/// Runs the verb; gives its exit code. `lab` is the running lab's kubeconfig.
///
/// # Errors
/// When standard output is of no use.
pub(crate) async fn check(
    globals: &Globals,
    verb: &Check,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let told = match ask(globals, verb, lab).await {
        Ok(heard) => tell(verb, &heard, io),
        Err(error) => Err(error),
    };
    match told {
        Err(error) if error.is_closed_pipe() => Ok(0),
        Err(error) => {
            io.warn(error.report());
            Ok(FAILED)
        }
        done => done,
    }
}

async fn ask(globals: &Globals, verb: &Check, lab: Option<PathBuf>) -> Result<Heard, Error> {
    match &verb.socket {
        Some(path) => at_socket(path, verb.address).await,
        None => by_api(globals, verb.address, lab).await,
    }
}

async fn at_socket(path: &Path, address: IpAddr) -> Result<Heard, Error> {
    let mut netd = LoadBalancerClient::new(netd_at(path).await?);
    let reply = netd.check(CheckRequest { address: address.to_string() }).await;
    let reply = reply.map_err(|status| Error::Refused(status.message().to_owned()))?.into_inner();
    Ok(Heard { replies: vec![reply], ..Heard::default() })
}

async fn by_api(globals: &Globals, address: IpAddr, lab: Option<PathBuf>) -> Result<Heard, Error> {
    let client = Client::connect(globals, lab).await?;
    let nodes = nodes(&client).await?;
    let cluster = Cluster::read(
        address,
        &items(client.get(SERVICES, &[]).await?),
        // A server of Kubernetes' own has none.
        &client.get(POOLS, &[]).await.map(items).unwrap_or_default(),
    );
    let text = address.to_string();
    let asked = nodes.iter().map(|node| async {
        let path = proto::load_balancer_path(node);
        let answer = client.get(&path, &[("address", &text)]).await?;
        serde_json::from_value(answer)
            .map_err(|error| Error::BadAnswer { what: path, detail: error.to_string() })
    });
    let mut heard = Heard { cluster: Some(cluster), ..Heard::default() };
    for answer in futures::future::join_all(asked).await {
        match answer {
            Ok(reply) => heard.replies.push(reply),
            Err(error) => heard.silent.push(error),
        }
    }
    Ok(heard)
}

fn items(mut list: Value) -> Vec<Value> {
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn tell(verb: &Check, heard: &Heard, io: &mut Io) -> Result<i32, Error> {
    let Verdict { table, good, bad } =
        verdict(verb.address, &heard.replies, heard.silent.len(), heard.cluster.as_ref());
    let problems: Vec<Value> =
        bad.iter().map(|bad| json!({"message": bad.what, "fix": bad.fix})).collect();
    let nodes = serde_json::to_value(&heard.replies)
        .map_err(|error| Error::Refused(format!("encode: {error}")))?;
    let document = json!({"address": verb.address, "served": bad.is_empty(), "problems": problems, "nodes": nodes});
    if let Some(text) = client::document(&verb.output, &document)? {
        io.print(&text)?;
    } else {
        if table.len() > 1 {
            io.print(&client::columns(&table))?;
        }
        for line in &good {
            io.say(line)?;
        }
        for bad in &bad {
            io.say(format!("Problem: {}", bad.what))?;
            io.say(format!("    Fix: {}", bad.fix))?;
        }
    }
    for error in &heard.silent {
        io.warn(error.report());
    }
    Ok(if bad.is_empty() { 0 } else { TROUBLE })
}
