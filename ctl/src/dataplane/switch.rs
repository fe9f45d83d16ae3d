//! `minictl dataplane use`: writes the wish on Nodes, and waits for what becomes of it.
//!
//! The wish and the answer are annotations of the Node, so that it works with any agent and any API
//! server, and whoever reads the Node sees both.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use verbs::client::{self, Client};
use verbs::{Error, Globals, Io};

use super::ask;
use crate::cli::Dataplane;
use crate::cli::dataplane::Use;

/// The pause between two looks at a Node.
const PAUSE: Duration = Duration::from_millis(100);

/// What a Node says about a wish.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Done.
    Serves,
    /// It cannot be.
    Refuses,
    /// It has not come to it.
    Waits,
}

/// Switches the nodes; the exit code is 1 when one of them does not.
pub(super) async fn run(
    globals: &Globals,
    verb: &Use,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let limit = client::timeout(&verb.timeout)?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    let client = Client::connect(globals, lab).await?;
    let nodes = match &verb.node {
        Some(node) => vec![node.clone()],
        None => ask::nodes(&client).await?,
    };
    let wanted = name(verb.engine);
    let wish = json!({"metadata": {"annotations": {netd::WANTED_ANNOTATION: wanted}}});
    for node in &nodes {
        client.merge(&path(node), &wish).await?;
    }
    let mut code = 0;
    for node in &nodes {
        let (answer, says) = wait(&client, node, verb.engine, deadline).await?;
        match answer {
            Answer::Serves => io.say(format_args!("node/{node} {says}"))?,
            Answer::Refuses => {
                io.warn(format_args!("error: node/{node} goes on with {says}"));
                code = 1;
            }
            Answer::Waits => {
                let says = if says.is_empty() { "nothing" } else { says.as_str() };
                io.warn(format_args!(
                    "error: timed out waiting for node/{node} to use {wanted}; it says: {says}"
                ));
                code = 1;
            }
        }
    }
    Ok(code)
}

async fn wait(
    client: &Client,
    node: &str,
    wanted: Dataplane,
    deadline: Option<Instant>,
) -> Result<(Answer, String), Error> {
    loop {
        let object = client.get(&path(node), &[]).await?;
        let annotations = object.pointer("/metadata/annotations");
        let says = annotations.and_then(|a| a.get(netd::ENGINE_ANNOTATION)).and_then(Value::as_str);
        let says = says.unwrap_or_default().to_owned();
        let answer = answer(wanted, &says);
        if answer != Answer::Waits || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok((answer, says));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What an annotation such as `nftables (as asked)` says about a wish.
fn answer(wanted: Dataplane, says: &str) -> Answer {
    let (engine, reason) = says.split_once(" (").unwrap_or((says, ""));
    let refused = |name: &str| reason.starts_with(&format!("{name} can't be used"));
    let refused_any = refused("ipvs") || refused("nftables");
    match wanted {
        // Nothing but the wish for a certain engine is answered so.
        Dataplane::Auto if reason.starts_with("as asked") => Answer::Waits,
        // An older wish was answered so.
        Dataplane::Auto if refused_any || engine.is_empty() => Answer::Waits,
        other if engine == name(other) && refused_any => Answer::Waits,
        Dataplane::Auto => Answer::Serves,
        other if engine == name(other) => Answer::Serves,
        other if refused(name(other)) => Answer::Refuses,
        _ => Answer::Waits,
    }
}

fn name(engine: Dataplane) -> &'static str {
    netd::Mode::from(engine).name()
}

fn path(node: &str) -> String {
    format!("/api/v1/nodes/{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_about_a_wish() {
        use Dataplane::{Auto, Ipvs, Nftables};
        let impossible = "nftables (ipvs can't be used: find IPVS in the kernel: No such file)";
        let cases = [
            (Ipvs, "ipvs (as asked)", Answer::Serves),
            (Ipvs, "ipvs (kernel has ip_vs)", Answer::Serves),
            (Ipvs, "nftables (as asked)", Answer::Waits),
            (Ipvs, "nftables (kernel has no ip_vs)", Answer::Waits),
            (Ipvs, impossible, Answer::Refuses),
            (Nftables, impossible, Answer::Waits),
            (Nftables, "nftables (kernel has no ip_vs)", Answer::Serves),
            (Auto, "nftables (kernel has no ip_vs)", Answer::Serves),
            (Auto, "ipvs (as asked)", Answer::Waits),
            (Auto, impossible, Answer::Waits),
            (Auto, "", Answer::Waits),
            (Ipvs, "", Answer::Waits),
        ];
        for (wanted, says, expected) in cases {
            assert_eq!(answer(wanted, says), expected, "{wanted:?}: {says}");
        }
    }
}
