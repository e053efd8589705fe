//! Logins that the target refuses, puts off or sends elsewhere (RFC 7143 §11.13.5).

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::check::{Finding, Verdict, ensure, skip, violation};
use crate::initiator::drill::drills;
use crate::initiator::login::Entry;
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;
use crate::wire::{Heard, Wire};
use crate::words;

drills! {
    "login.refused.closes", "RFC 7143 §11.13.5", Must, Normal, Either,
        "status 0202, authorization failure, and the connection left open"
        => "the initiator closes the connection and sends nothing more", refused;
    "login.refused.again", "RFC 7143 §11.13.5", Should, Normal, Either,
        "status 0202, authorization failure"
        => "the request is not tried again", again;
    "login.unavailable.closes", "RFC 7143 §11.13.5", Must, Normal, Either,
        "status 0301, service unavailable, and the connection left open"
        => "the initiator closes the connection and sends nothing more", unavailable;
    "login.redirected.closes", "RFC 7143 §11.13.5", Must, Normal, Either,
        "status 0101 with the address that it came to, and the connection left open"
        => "the initiator closes the connection and sends nothing more", redirected;
    "login.moved.temporarily", "RFC 7143 §11.13.5", Should, Normal, Succeeds,
        "status 0101, target moved temporarily, with another address"
        => "the initiator logs in to the same target at that address", temporarily;
    "login.moved.permanently", "RFC 7143 §11.13.5", Should, Normal, Succeeds,
        "status 0102, target moved permanently, with another address"
        => "the initiator logs in to the same target at that address", permanently;
}

async fn refused(stage: &mut Stage) -> Verdict {
    let mut entry = stage.entry().await?;
    turn_away(&mut entry, 0x0202, &[]).await?;
    closes(entry, "the login was ended").await?;
    stage.outcome(None).await;
    Ok(())
}

async fn unavailable(stage: &mut Stage) -> Verdict {
    let mut entry = stage.entry().await?;
    turn_away(&mut entry, 0x0301, &[]).await?;
    closes(entry, "the login was ended").await?;
    stage.outcome(None).await;
    Ok(())
}

async fn redirected(stage: &mut Stage) -> Verdict {
    let mut entry = stage.entry().await?;
    let here = stage.scene.advertised(&entry.wire.local_address());
    turn_away(&mut entry, 0x0101, &[("TargetAddress", &here)]).await?;
    closes(entry, "the login was ended").await?;
    stage.outcome(None).await;
    Ok(())
}

async fn again(stage: &mut Stage) -> Verdict {
    let mut attempts = 0;
    while let Some(mut entry) = stage.next_within(TRIES_FOR).await {
        attempts += 1;
        turn_away(&mut entry, 0x0202, &[]).await?;
        ensure!(
            attempts <= MOST_ATTEMPTS,
            "the login is tried {attempts} times within {} of each other, although the initiator is told that it may not log in",
            words::time(TRIES_FOR)
        );
    }
    if attempts == 0 {
        skip!("nobody logged in");
    }
    Ok(())
}

async fn temporarily(stage: &mut Stage) -> Verdict {
    moved(stage, 0x0101).await
}

async fn permanently(stage: &mut Stage) -> Verdict {
    moved(stage, 0x0102).await
}

/// Answers the first request with a status; true if there was one.
async fn turn_away(entry: &mut Entry, status: u16, keys: &[(&str, &str)]) -> Verdict {
    match entry.ask().await {
        Ok(asked) => {
            entry.refuse(&asked, status, keys).await;
            Ok(())
        }
        Err(heard) => violation!("{heard} instead of a Login Request"),
    }
}

/// The initiator has to close the connection, for this reason.
pub(crate) async fn closes(mut entry: Entry, why: &str) -> Verdict {
    match entry.wire.next().await {
        Heard::Closed => Ok(()),
        Heard::Silence => violation!(
            "{why}, and the connection is still open {} later",
            words::time(entry.wire.patience)
        ),
        other => violation!("{why}, and what comes then is: {other}"),
    }
}

async fn moved(stage: &mut Stage, status: u16) -> Verdict {
    let mut entry = stage.entry().await?;
    let here = entry.wire.local_address();
    let host = here.rsplit_once(':').map_or("", |(host, _)| host);
    let Ok(elsewhere) = TcpListener::bind(format!("{host}:0")).await else {
        skip!("no other port to listen at can be had on {host}");
    };
    let Some(address) = elsewhere.local_addr().ok().map(|to| to.to_string()) else {
        skip!("the other port has no address");
    };
    let address = stage.scene.advertised(&address);
    turn_away(&mut entry, status, &[("TargetAddress", &address)]).await?;
    let before = entry.record.opening.clone();
    drop(entry);
    let patience = stage.scene.patience;
    let Ok(Ok((stream, _))) = timeout(patience, elsewhere.accept()).await else {
        violation!("nobody comes to {address} within {}", words::time(patience));
    };
    let wire = Wire::over(stream, patience, &stage.scene.transcript);
    let entry = Entry::new(wire, stage.scene.clone());
    let caller = entry.log_in(&Manner::PLAIN).await.map_err(Finding::from)?;
    for key in ["InitiatorName", "TargetName"] {
        let (was, is) = (before.get(key), caller.record.opening.get(key));
        ensure!(
            was == is,
            "{key} was {} and is {} at the new address",
            was.unwrap_or("missing"),
            is.unwrap_or("missing")
        );
    }
    stage.see_off(caller).await
}

/// Attempts that follow each other faster than this belong together.
const TRIES_FOR: Duration = Duration::from_millis(1000);
/// An initiator that looks for another path, or asks once more, is no nuisance yet.
const MOST_ATTEMPTS: u32 = 2;
