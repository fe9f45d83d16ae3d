//! Tasks: the running side of a container, and further processes in it.
//!
//! Invariants: an exit code is read by waiting on the process, never from events, which may be
//! missed; a dead task keeps its exit code in its shim until it is deleted, so the code survives a
//! restart of the agent.

use containerd_client::{
    services::v1::{
        CloseIoRequest, CreateTaskRequest, DeleteProcessRequest, DeleteTaskRequest,
        ExecProcessRequest, GetRequest, KillRequest, ResizePtyRequest, StartRequest, WaitRequest,
        tasks_client::TasksClient,
    },
    types::{Mount, v1::Status as ProcessStatus},
};
use jiff::Timestamp;
use oci_spec::runtime::Process;
use prost_types::Any;

use super::{Containerd, PROCESS_TYPE, RuntimeError, call, containers::tolerate_missing};

/// Where the streams of a process lead: paths of FIFOs, a `binary:` URL, or empty for nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stdio {
    /// Standard input.
    pub(crate) stdin: String,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error; empty with a terminal.
    pub(crate) stderr: String,
    /// Whether the process has a terminal.
    pub(crate) terminal: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Its exit code; 128 + N after signal N.
    pub(crate) code: i32,
    /// When.
    pub(crate) at: Timestamp,
}

/// What containerd knows of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskState {
    /// Made but not started, or no such task.
    Absent,
    /// Alive.
    Running,
    /// Dead, its code still kept.
    Stopped(Exit),
}

/// A further process in a running container.
#[derive(Debug)]
pub(crate) struct ExecRequest<'a> {
    /// The container.
    pub(crate) container: &'a str,
    /// A name for the process, unique in the container.
    pub(crate) id: &'a str,
    /// What to run.
    pub(crate) process: &'a Process,
    /// Its streams.
    pub(crate) stdio: Stdio,
}

impl Containerd {
    fn tasks(&self) -> TasksClient<tonic::transport::Channel> {
        TasksClient::new(self.channel.clone())
    }

    /// Makes the container's first process, without letting it run yet.
    pub(crate) async fn create_task(
        &self,
        id: &str,
        rootfs: Vec<Mount>,
        stdio: Stdio,
    ) -> Result<u32, RuntimeError> {
        let create = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: stdio.terminal,
            ..CreateTaskRequest::default()
        };
        let answer = self.tasks().create(self.request(create)).await;
        Ok(answer.map_err(call("create the task of", id))?.into_inner().pid)
    }

    /// Lets a made process run; `exec` is empty for the container's first one.
    pub(crate) async fn start_process(&self, id: &str, exec: &str) -> Result<u32, RuntimeError> {
        let start = StartRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        let answer = self.tasks().start(self.request(start)).await;
        Ok(answer.map_err(call("start", id))?.into_inner().pid)
    }

    /// Waits for the end of a process.
    pub(crate) async fn wait(&self, id: &str, exec: &str) -> Result<Exit, RuntimeError> {
        let wait = WaitRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        let answer =
            self.tasks().wait(self.request(wait)).await.map_err(call("wait for", id))?.into_inner();
        Ok(exit(answer.exit_status, answer.exited_at))
    }

    /// What containerd knows of the container's task.
    pub(crate) async fn task_state(&self, id: &str) -> Result<TaskState, RuntimeError> {
        let get = GetRequest { container_id: id.to_owned(), exec_id: String::new() };
        let answer = match self.tasks().get(self.request(get)).await.map_err(call("look at", id)) {
            Err(error) if error.is_not_found() => return Ok(TaskState::Absent),
            other => other?.into_inner(),
        };
        Ok(answer.process.map_or(TaskState::Absent, |process| match process.status() {
            ProcessStatus::Stopped => {
                TaskState::Stopped(exit(process.exit_status, process.exited_at))
            }
            ProcessStatus::Created | ProcessStatus::Unknown => TaskState::Absent,
            ProcessStatus::Running | ProcessStatus::Paused | ProcessStatus::Pausing => {
                TaskState::Running
            }
        }))
    }

    /// Sends a signal to the container's first process (`all`: to every process in it).
    pub(crate) async fn signal(
        &self,
        id: &str,
        signal: i32,
        all: bool,
    ) -> Result<(), RuntimeError> {
        let kill = KillRequest {
            container_id: id.to_owned(),
            exec_id: String::new(),
            signal: signal.unsigned_abs(),
            all,
        };
        let answer = self.tasks().kill(self.request(kill)).await;
        tolerate_missing(answer.map(|_| ()).map_err(call("signal", id)))
    }

    /// Sends a signal to a further process.
    pub(crate) async fn signal_exec(
        &self,
        id: &str,
        exec: &str,
        signal: i32,
    ) -> Result<(), RuntimeError> {
        let kill = KillRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            signal: signal.unsigned_abs(),
            all: false,
        };
        let answer = self.tasks().kill(self.request(kill)).await;
        tolerate_missing(answer.map(|_| ()).map_err(call("signal", exec)))
    }

    /// Forgets a dead task.
    pub(crate) async fn delete_task(&self, id: &str) -> Result<(), RuntimeError> {
        let delete = DeleteTaskRequest { container_id: id.to_owned() };
        let answer = self.tasks().delete(self.request(delete)).await;
        tolerate_missing(answer.map(|_| ()).map_err(call("delete the task of", id)))
    }

    /// Makes a further process; [`Self::start_process`] lets it run.
    pub(crate) async fn create_exec(&self, exec: ExecRequest<'_>) -> Result<(), RuntimeError> {
        let spec = serde_json::to_vec(exec.process)
            .map_err(|source| RuntimeError::Spec { subject: exec.id.to_owned(), source })?;
        let request = ExecProcessRequest {
            container_id: exec.container.to_owned(),
            exec_id: exec.id.to_owned(),
            stdin: exec.stdio.stdin,
            stdout: exec.stdio.stdout,
            stderr: exec.stdio.stderr,
            terminal: exec.stdio.terminal,
            spec: Some(Any { type_url: PROCESS_TYPE.to_owned(), value: spec }),
        };
        let answer = self.tasks().exec(self.request(request)).await;
        answer.map(|_| ()).map_err(call("make a process in", exec.container))
    }

    /// Forgets a dead further process.
    pub(crate) async fn delete_exec(&self, id: &str, exec: &str) -> Result<(), RuntimeError> {
        let delete = DeleteProcessRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        let answer = self.tasks().delete_process(self.request(delete)).await;
        tolerate_missing(answer.map(|_| ()).map_err(call("delete process", exec)))
    }

    /// Tells the size of the terminal; `exec` is empty for the first process.
    pub(crate) async fn resize(
        &self,
        id: &str,
        exec: &str,
        width: u32,
        height: u32,
    ) -> Result<(), RuntimeError> {
        let resize = ResizePtyRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            width,
            height,
        };
        let answer = self.tasks().resize_pty(self.request(resize)).await;
        answer.map(|_| ()).map_err(call("resize the terminal of", id))
    }

    /// Ends the standard input; `exec` is empty for the first process.
    pub(crate) async fn close_stdin(&self, id: &str, exec: &str) -> Result<(), RuntimeError> {
        let close =
            CloseIoRequest { container_id: id.to_owned(), exec_id: exec.to_owned(), stdin: true };
        let answer = self.tasks().close_io(self.request(close)).await;
        answer.map(|_| ()).map_err(call("close the input of", id))
    }
}

fn exit(status: u32, at: Option<prost_types::Timestamp>) -> Exit {
    let at = at
        .and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
        .filter(|at| at.as_second() > 0)
        .unwrap_or_else(Timestamp::now);
    Exit { code: i32::try_from(status).unwrap_or(255), at }
}
