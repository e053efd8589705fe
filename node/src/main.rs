//! `vmthunder`: node, gateway and tools in one program. This file parses the command line and calls the rest.
#![forbid(unsafe_code)]

mod args;
mod attach;
mod attached;
mod claim;
mod config;
mod conformance;
mod consent;
mod control;
mod demo;
mod export;
mod files;
mod gateway;
mod image;
mod images;
mod instances;
mod iscsi;
mod known;
mod local;
mod login;
mod lun;
mod members;
mod mode;
mod names;
mod node;
mod observe;
mod origin;
mod portals;
mod secrets;
mod serve;
mod simulate;
mod status;
mod switch;
mod ties;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::args::{Cli, Command, NodeArgs, StatusArgs};
use crate::config::Config;
use crate::control::{Request, ask};
use crate::status::{Status, print_json};

/// Exit code: something differs, or failed.
const DIFFERS: u8 = 1;

/// Exit code: the command could not run.
const CANNOT: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    observe::start(&cli.log);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::from(CANNOT);
        }
    };
    let done = runtime.block_on(run(cli.command));
    // Standard input may be read by a thread that nothing can end.
    runtime.shutdown_background();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DIFFERS),
        // Whoever read our output has read enough.
        Err(error) if observe::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", observe::causes(&error));
            ExitCode::from(CANNOT)
        }
    }
}

/// Carries a command out; false if it found something wrong.
async fn run(command: Command) -> Result<bool> {
    match command {
        Command::Demo(args) => return demo::run(args).await,
        Command::Image(command) => return image::run(command).await,
        Command::Iscsi(command) => return iscsi::run(command).await,
        Command::Simulate(args) => return simulate::run(*args).await,
        Command::Conformance(args) => return conformance::run(*args).await,
        Command::Target(args) => serve::run(gateway::config(*args)?, false).await?,
        Command::Serve(args) => {
            let config = Config::load(&args.config)?;
            serve::run(config, args.until_stdin_closes).await?;
        }
        Command::Instance(command) => instances::run(*command).await?,
        Command::Lun(command) => lun::run(command).await?,
        Command::Swarm(command) => members::run(command).await?,
        Command::Status(args) => show_status(args).await?,
    }
    Ok(true)
}

async fn status_of(node: &NodeArgs) -> Result<Status> {
    ask(&node.socket()?, &Request::Status).await
}

async fn show_status(args: StatusArgs) -> Result<()> {
    let status = status_of(&args.node).await?;
    if args.json {
        return print_json(&status);
    }
    status::print(&status)
}
