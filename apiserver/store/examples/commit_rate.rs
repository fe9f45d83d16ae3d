//! Prints commits per second, each durable, for 1, 16 and 128 clients that write 2 KB objects, then
//! what opening costs and how much memory all of it takes. Usage: `commit_rate [SECONDS] [FOLDER]`.
#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::{Config, Op, Store, Txn};

const OBJECTS: usize = 1000;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(3);
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let dir = args.next().map_or_else(|| temporary.path().to_owned(), Into::into);
    let store = open(&dir, "empty").await;
    for clients in [1, 16, 128] {
        measure(&store, clients, Duration::from_secs(seconds)).await;
    }
    println!("{:?}", store.report());
    store.close().await;
    open(&dir, "written").await.close().await;
}

async fn open(dir: &Path, what: &str) -> Store {
    let start = Instant::now();
    let config = Config { dir: dir.to_owned(), history: 10_000 };
    let store = Store::open(config).await.expect("it opens");
    println!("open {what}: {:.1} ms, RSS {}", start.elapsed().as_secs_f64() * 1e3, resident());
    store
}

async fn measure(store: &Store, clients: usize, time: Duration) {
    let start = Instant::now();
    let tasks = (0..clients).map(|client| {
        let store = store.clone();
        tokio::spawn(async move {
            let value = Bytes::from(vec![b'x'; 2000]);
            let (mut commits, mut worst) = (0u64, Duration::ZERO);
            while start.elapsed() < time {
                let key = format!("/objects/{}", (client * 7919 + commits as usize) % OBJECTS);
                let op = Op::Put { key, value: value.clone(), stamp: Some(1000) };
                let sent = Instant::now();
                let txn = Txn { checks: vec![], ops: vec![op] };
                store.commit(txn).await.expect("it commits");
                worst = worst.max(sent.elapsed());
                commits += 1;
            }
            (commits, worst)
        })
    });
    let (mut commits, mut worst) = (0, Duration::ZERO);
    for task in tasks.collect::<Vec<_>>() {
        let (of_one, worst_of_one) = task.await.expect("no panic");
        commits += of_one;
        worst = worst.max(worst_of_one);
    }
    let rate = commits as f64 / start.elapsed().as_secs_f64();
    println!("{clients:4} clients: {rate:8.0} commits/s, worst {worst:?}, RSS {}", resident());
}

/// The process's memory, as the kernel prints it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
}
