//! What the end-to-end tests share: a lab of their own, commands with a time limit, loud skips.
//!
//! Tests look at the product from outside: they run the binary, kubectl, and second tools (`ip -j`,
//! `nft -j`, `curl`) and know no private types. A lab of a test lives in a state folder, a network
//! and namespaces of its own, and is removed when the test ends, however it ends.

#![expect(clippy::print_stdout, reason = "the output of a test is where a skip must be loud")]

pub mod bed;
pub mod figure;
pub mod room;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

/// How long a single command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(90);
/// Pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A limit as it is on this machine: so many times longer as `MINICTL_TEST_SLOWNESS` says, which
/// only an emulated machine has set.
///
/// # Panics
/// When that is no number.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    let slowness = std::env::var("MINICTL_TEST_SLOWNESS");
    limit * slowness.map_or(1, |times| times.parse().expect("MINICTL_TEST_SLOWNESS is a number"))
}

/// A limit as the flag of commands that wait by themselves.
#[must_use]
pub fn timeout(limit: Duration) -> String {
    format!("--timeout={}s", patient(limit).as_secs())
}

/// What a command answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The command as typed.
    pub command: String,
    /// Exit code; 124 after the time limit, as `timeout(1)` has it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// The output of a command that must succeed.
    ///
    /// # Panics
    /// When it failed, with all that it printed.
    #[must_use]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "{self}");
        self.out
    }

    /// What a command printed to standard error that must fail.
    ///
    /// # Panics
    /// When it succeeded.
    #[must_use]
    pub fn refused(self) -> String {
        assert!(self.code != 0, "expected a failure of {self}");
        self.err
    }

    /// The output as JSON.
    ///
    /// # Panics
    /// When the command failed or its output is no JSON.
    #[must_use]
    pub fn json(self) -> serde_json::Value {
        let command = self.command.clone();
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{command}: {error}\n{out}"))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "$ {}\n{}{}(exit code {})", self.command, self.out, self.err, self.code)
    }
}

/// The program under test: `MINICTL_BIN`, or the one built beside the test.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn minictl() -> PathBuf {
    let built = || {
        let test = std::env::current_exe().expect("the test's own path");
        test.ancestors().nth(2).expect("target/PROFILE").join("minictl")
    };
    let path = std::env::var_os("MINICTL_BIN").map_or_else(built, PathBuf::from);
    assert!(path.is_file(), "{} is missing: cargo build -p minictl", path.display());
    path
}

/// Runs a command to its end, at most [`COMMAND_LIMIT`] long.
///
/// # Panics
/// When the program cannot be started.
#[must_use]
pub fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Answer {
    finish(Command::new(program.as_ref()), args, None)
}

/// Runs a prepared command with more arguments, and with `input` if there is any.
///
/// # Panics
/// When the program cannot be started.
#[must_use]
pub fn finish<S: AsRef<OsStr>>(mut command: Command, args: &[S], input: Option<&str>) -> Answer {
    command.args(args);
    let text = format!("{command:?}").replace('"', "");
    let mut limited = Command::new("timeout");
    limited.arg(patient(COMMAND_LIMIT).as_secs().to_string()).arg(command.get_program());
    limited.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    let output = match input {
        None => limited.stdin(Stdio::null()).output(),
        Some(input) => feed(&mut limited, input),
    };
    let output = output.unwrap_or_else(|error| panic!("{text}: {error}"));
    Answer {
        command: text,
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn feed(command: &mut Command, input: &str) -> std::io::Result<Output> {
    use std::io::Write;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything is no error of the test.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

/// Waits until `look` answers a value, and panics with its last complaint after [`patient`]
/// `limit`.
///
/// # Panics
/// After the time limit.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let limit = patient(limit);
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => {
                assert!(Instant::now() < end, "{what} did not happen in {limit:?}:\n{seen}")
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether a capability is there. Without it the test is skipped: loudly, and not at all in CI,
/// where it is a failure.
///
/// # Panics
/// In CI, when the capability is missing.
#[must_use]
pub fn capable(what: &str, there: bool) -> bool {
    if there {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{what} is missing, and in CI nothing is skipped");
    println!("SKIPPED: {what} is missing");
    false
}

/// Root, containerd and runc: what a lab needs.
#[must_use]
pub fn can_run_labs() -> bool {
    let root = run("id", &["-u"]).out.trim() == "0";
    let programs = ["containerd", "runc", "nft"].iter().all(|p| run("which", &[p]).code == 0);
    capable("root with containerd, runc and nft", root && programs)
}

/// A lab of a test.
pub struct Lab {
    /// Its name.
    pub name: String,
    state: TempDir,
    minictl: PathBuf,
}

impl Lab {
    /// Starts a lab with `nodes` nodes on its own network.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(name: &str, network: &str, nodes: u32) -> Self {
        Self::start_with(name, network, nodes, &[])
    }

    /// The same with more flags of `lab up`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_with(name: &str, network: &str, nodes: u32, flags: &[&str]) -> Self {
        let lab = Self {
            name: name.to_owned(),
            state: tempfile::Builder::new().prefix("mini").tempdir().expect("a folder"),
            minictl: minictl(),
        };
        let nodes = nodes.to_string();
        let mut args = vec!["lab", "up", name, "--nodes", &nodes, "--network", network];
        // A machine that has both engines runs the same tests on either; where all is emulated,
        // nodes get only the images that a test wants.
        let engine = std::env::var("MINICTL_TEST_ENGINE");
        if let Ok(engine) = &engine {
            args.extend(["--dataplane", engine]);
        }
        let images = std::env::var("MINICTL_TEST_IMAGES");
        if images.is_ok() {
            args.push("--no-images");
        }
        let answer = lab.minictl(&[&args[..], flags].concat());
        if answer.code != 0 {
            panic!("{answer}\n{}", lab.logs());
        }
        for archive in images.iter().flat_map(|images| images.split_whitespace()) {
            let _ = lab.minictl(&["image", "import", archive]).ok();
        }
        if let Ok(engine) = &engine {
            lab.runs_on(engine);
        }
        lab
    }

    /// Every node says that this engine serves it.
    fn runs_on(&self, engine: &str) {
        wait_for(&format!("{engine} on every node"), Duration::from_secs(20), || {
            let told = self.minictl(&["dataplane", "status"]);
            let of_node = |line: &&str| line.starts_with("node-");
            let is_it = |line: &str| line.split_whitespace().nth(1) == Some(engine);
            let mut lines = told.out.lines().filter(of_node).peekable();
            let good = lines.peek().is_some() && lines.all(is_it);
            if good { Ok(()) } else { Err(told.to_string()) }
        });
    }

    /// The folder that holds all state of the lab.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Runs minictl against this lab.
    #[must_use]
    pub fn minictl<S: AsRef<OsStr>>(&self, args: &[S]) -> Answer {
        finish(self.command("minictl", None), args, None)
    }

    /// Runs kubectl against this lab.
    #[must_use]
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: &[S]) -> Answer {
        finish(self.command("kubectl", None), args, None)
    }

    /// A command of `client` (`minictl` or `kubectl`), with a namespace as its default.
    #[must_use]
    pub fn command(&self, client: &str, namespace: Option<&str>) -> Command {
        let mut command =
            if client == "minictl" { Command::new(&self.minictl) } else { Command::new(client) };
        command.env("MINICTL_STATE_DIR", self.state.path());
        command.env("KUBECONFIG", self.kubeconfig(namespace));
        command
    }

    /// The kubeconfig of the lab, or a copy with a default namespace.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn kubeconfig(&self, namespace: Option<&str>) -> PathBuf {
        let original = self.state.path().join("labs").join(&self.name).join("kubeconfig");
        let Some(namespace) = namespace else { return original };
        let copy = self.state.path().join(format!("kubeconfig-{namespace}"));
        if !copy.exists() {
            let text = std::fs::read_to_string(&original).expect("the lab's kubeconfig");
            let with_namespace =
                text.replace("  context:\n", &format!("  context:\n    namespace: {namespace}\n"));
            assert_ne!(text, with_namespace, "no context in {text}");
            std::fs::write(&copy, with_namespace).expect("a copy of the kubeconfig");
        }
        copy
    }

    /// Runs a command on a host of the lab.
    #[must_use]
    pub fn on<S: AsRef<OsStr>>(&self, host: &str, command: &[S]) -> Answer {
        let host = format!("{}/{host}", self.name);
        let mut args: Vec<&OsStr> = ["lab", "exec", &host, "--"].map(OsStr::new).to_vec();
        args.extend(command.iter().map(AsRef::as_ref));
        self.minictl(&args)
    }

    /// Does something of this test's own on a host of the lab: sockets that it opens are that
    /// host's, also after it.
    ///
    /// # Panics
    /// When there is no such host, or when `work` panics.
    pub fn inside<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        let pin = Path::new("/run/netns").join(format!("{}-{host}", self.name));
        let enter = || {
            let namespace = std::fs::File::open(&pin).expect("a host has a namespace");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter the host's network");
            work()
        };
        // Of its own: a thread stays in the network that it entered.
        std::thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The end of every log, for failures.
    #[must_use]
    pub fn logs(&self) -> String {
        let folder = self.state.path().join("labs").join(&self.name).join("log");
        let pattern = format!("tail -n 20 {}/*.log", folder.display());
        run("sh", &["-c", &pattern]).out
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.logs());
        }
        let down = self.minictl(&["lab", "down", &self.name]);
        if down.code != 0 && !std::thread::panicking() {
            panic!("{down}");
        }
    }
}
