//! `minictl`: one binary that is the whole cluster and its client.
//!
//! This crate is the composition root: it reads the command line, connects the crates, prints, and
//! turns results into exit codes. It decides nothing about clusters.

mod cli;
mod clusters;
mod dataplane;
mod dns;
mod footprint;
mod lb;
mod node;
mod server;
mod terminal;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use tokio_util::sync::CancellationToken;

use cli::{Cli, Command, NodeCommand, NodeVerb};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // Started by containerd for each container: no runtime, no certificates, as little memory as
    // can be.
    if args.next().is_some_and(|first| first == "pod-log") {
        return match agent::pod_log(args.map(|arg| arg.to_string_lossy().into_owned())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => terminal::fail(&error.into()),
        };
    }
    // One TLS provider for everything; a second install could only come from a second main.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            terminal::note(&verbs::usage::complaint(&error));
            return ExitCode::FAILURE;
        }
        // Help and version were asked for; a closed pipe is no reason to complain.
        Err(asked_for) => {
            let _ = asked_for.print();
            return ExitCode::SUCCESS;
        }
    };
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => return terminal::fail(&error.into()),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => terminal::fail(&error),
    }
}

/// The parts of a cluster work on all cores; a client waits for one request at a time.
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    match command {
        Command::Server(_) | Command::Node(_) | Command::Netd(_) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()
        }
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build(),
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let state = cli.state_dir;
    let kubeconfig = cli.globals.kubeconfig.as_deref();
    match cli.command {
        Command::Server(options) => {
            terminal::log();
            server::run(options, terminal::stop_signal()?).await?;
        }
        Command::Node(NodeCommand::Run(options)) => {
            terminal::log();
            node::run(*options, kubeconfig, terminal::stop_signal()?).await?;
        }
        Command::Node(NodeCommand::Verb(NodeVerb::Shell { node, command })) => {
            return clusters::shell(&state, &node, &command);
        }
        Command::Netd(options) => {
            terminal::log();
            node::run_netd(options, kubeconfig, terminal::stop_signal()?).await?;
        }
        Command::Kubeconfig(options) => {
            let server = cli.globals.server.as_deref();
            terminal::say(server::kubeconfig(&options, server)?.trim_end());
        }
        Command::Supervise { dir } => {
            terminal::log();
            let stop: CancellationToken = terminal::stop_signal()?;
            lab::up::supervise_folder(&dir, stop).await?;
        }
        Command::LabInternet { address, forward, .. } => {
            terminal::log();
            lab::internet::run(&address, forward, terminal::stop_signal()?).await?;
        }
        Command::Up(options) => clusters::up(&state, options).await?,
        Command::Down => clusters::down(&state).await?,
        Command::Lab(command) => return clusters::lab(&state, command).await,
        Command::Image(command) => clusters::image(&state, command).await?,
        Command::Completion { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "minictl", &mut std::io::stdout());
        }
        Command::Dataplane(command) => {
            let mut io = verbs::Io::standard();
            let code = dataplane::run(&cli.globals, command, &state, &mut io).await;
            return Ok(terminal::exit(code));
        }
        Command::Dns(command) => {
            let found = lab::status::default_kubeconfig(&state);
            let mut io = verbs::Io::standard();
            let code = dns::run(&cli.globals, command, found, &mut io).await;
            return Ok(terminal::exit(code));
        }
        Command::Lb(cli::lb::LbCommand::Check(verb)) => {
            let found = lab::status::default_kubeconfig(&state);
            let mut io = verbs::Io::standard();
            let code = lb::check(&cli.globals, &verb, found, &mut io).await;
            return Ok(terminal::exit(code));
        }
        Command::Client(verb) => {
            let found = lab::status::default_kubeconfig(&state);
            let mut io = verbs::Io::standard();
            let code = verbs::run(&cli.globals, *verb, found, &mut io).await;
            return Ok(terminal::exit(code));
        }
    }
    Ok(ExitCode::SUCCESS)
}
