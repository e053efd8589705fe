//! Verified load on a unit that holds zeros, while somebody else does their worst to its target: `soak SEED URL...`, each URL a path to it.
//! DESTROYS what the unit holds.
//!
//! It prints `"ready"`, and for each line `check` on standard input one line of figures as JSON, after every command has ended and
//! every block was read and compared; then it goes on. At the end of the input it ends, with status 1 if a block was not as it
//! should be or a command failed.

mod load;
mod model;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use iscsi_initiator::{IscsiUrl, Options, Outage, Reconnect, Remote};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::load::{Figures, Load};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let seed = args.next().ok_or("usage: soak SEED URL...")?.parse()?;
    let urls: Vec<IscsiUrl> = args.map(|url| url.parse()).collect::<Result<_, _>>()?;
    let remote = Remote::connect(&urls, options()?).await?;
    let mut running = Load::new(remote.clone(), LANES, seed).start();
    say("\"ready\"")?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        if order != "check" {
            return Err(format!("`{order}` is not known").into());
        }
        let mut load = running.stop().await;
        load.check().await;
        let logins = remote.paths().iter().map(|path| path.logins).sum();
        say(&line(&load.figures(), logins))?;
        running = load.start();
    }
    let figures = running.stop().await.figures();
    remote.close().await;
    let good = figures.errors + figures.lost + figures.wrong == 0;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// It waits for the target for ever, and notices soon that it is gone.
fn options() -> Result<Options, Box<dyn Error>> {
    let second = Duration::from_secs(1);
    Ok(Options {
        connect_timeout: second,
        login_timeout: 2 * second,
        ping_interval: Some(second),
        ping_timeout: second,
        reconnect: Reconnect {
            first_delay: Duration::from_millis(50),
            longest_delay: second,
            outage: Outage::Wait,
        },
        ..Options::new("iqn.2025-01.io.vmthunder:soak".parse()?)
    })
}

fn line(figures: &Figures, logins: u64) -> String {
    let Figures {
        writes,
        reads,
        doubts,
        errors,
        lost,
        wrong,
        longest,
    } = figures;
    let longest_ms = longest.as_millis();
    format!(
        "{{\"writes\":{writes},\"reads\":{reads},\"doubts\":{doubts},\"errors\":{errors},\"lost\":{lost},\
         \"wrong\":{wrong},\"longest_ms\":{longest_ms},\"logins\":{logins}}}"
    )
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

const LANES: usize = 8;
