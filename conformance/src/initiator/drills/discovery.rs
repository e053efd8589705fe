//! Discovery sessions and SendTargets (RFC 7143 §4.3, §11.10, appendix C).

use iscsi_proto::wire::bhs::{FINAL, RESERVED_TAG, TextRequest};
use iscsi_proto::wire::{Header, Pdu};

use crate::check::{Finding, Verdict, ensure, skip, violation};
use crate::initiator::caller::Caller;
use crate::initiator::drill::drills;
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;
use crate::keys::Keys;
use crate::wire::Heard;

drills! {
    "discovery.names", "RFC 7143 §6.3", Must, Discovery, Succeeds,
        "nothing but an ordinary login"
        => "the first request has an InitiatorName", names;
    "discovery.request", "RFC 7143 appendix C", Must, Discovery, Succeeds,
        "nothing special"
        => "SendTargets, alone in one final Text Request, with All, nothing or a name as its value", request;
    "discovery.request.tags", "RFC 7143 §11.10.4", Must, Discovery, Succeeds,
        "nothing special"
        => "a new Text Request has the reserved Target Transfer Tag and a tag of its own", request_tags;
    "discovery.only", "RFC 7143 §4.3", Must, Discovery, Succeeds,
        "nothing special"
        => "nothing but SendTargets and a logout that closes the session", only;
    "discovery.pieces", "RFC 7143 §11.10.4", Must, Discovery, Succeeds,
        "the list in responses of five pairs each, with F=0 and a Target Transfer Tag"
        => "the rest is fetched by requests that copy the Target Transfer Tag", pieces;
    "discovery.pieces.task", "RFC 7143 §11.10.3", Must, Discovery, Succeeds,
        "the list in responses of five pairs each, with F=0 and a Target Transfer Tag"
        => "all requests of the exchange have the same Initiator Task Tag and I bit", pieces_task;
    "discovery.continued", "RFC 7143 §6.2", Must, Discovery, Succeeds,
        "the list in parts of 50 bytes, cut within keys and values, with the C bit"
        => "each is answered by a request without data, and the parts are put together", continued;
    "discovery.many", "RFC 7143 appendix C", Must, Discovery, Succeeds,
        "a list of 1500 targets"
        => "the whole list is fetched", many;
    "discovery.addresses", "RFC 7143 §13.8", Must, Discovery, Succeeds,
        "targets with IPv6 addresses, host names, several addresses, no port, and none at all"
        => "the list is understood", addresses;
}

async fn names(stage: &mut Stage) -> Verdict {
    stage
        .login(&Manner::PLAIN, |record| {
            ensure!(
                record.opening.get("InitiatorName").is_some(),
                "the first Login Request has no InitiatorName"
            );
            Ok(())
        })
        .await
}

async fn request(stage: &mut Stage) -> Verdict {
    let look = |_: &Caller, pdu: &Pdu| {
        let Header::TextRequest(header) = &pdu.header else {
            return Ok(false);
        };
        let keys = Keys::parse(&pdu.data)?;
        let [(key, value)] = keys.0.as_slice() else {
            violation!(
                "a Text Request has {} keys instead of SendTargets alone",
                keys.0.len()
            );
        };
        ensure!(key == "SendTargets", "a Text Request with {key}={value}");
        let known = ["iqn.", "eui.", "naa."];
        ensure!(
            matches!(value.as_str(), "All" | "")
                || known.iter().any(|kind| value.starts_with(kind)),
            "SendTargets={value} is neither All nor a name"
        );
        ensure!(
            header.flags == FINAL,
            "byte 1 of the Text Request is {:#04x} instead of 0x80",
            header.flags
        );
        Ok(true)
    };
    stage.watch(&Manner::PLAIN, NEVER_ASKED, look).await
}

async fn request_tags(stage: &mut Stage) -> Verdict {
    let look = |_: &Caller, pdu: &Pdu| {
        let Header::TextRequest(header) = &pdu.header else {
            return Ok(false);
        };
        let (task, transfer) = tags(header);
        ensure!(
            transfer == RESERVED_TAG,
            "a new Text Request has Target Transfer Tag {transfer:08x}"
        );
        ensure!(
            task != RESERVED_TAG,
            "a Text Request has the reserved Initiator Task Tag"
        );
        Ok(true)
    };
    stage.watch(&Manner::PLAIN, NEVER_ASKED, look).await
}

async fn only(stage: &mut Stage) -> Verdict {
    let look = |_: &Caller, pdu: &Pdu| match &pdu.header {
        Header::TextRequest(_) => Ok(true),
        Header::LogoutRequest(logout) => {
            ensure!(
                logout.reason & 0x7f == 0,
                "the reason of the logout is {} instead of 0, \"close the session\"",
                logout.reason & 0x7f
            );
            Ok(true)
        }
        _ => violation!("{} in a discovery session", Heard::Pdu(pdu.clone())),
    };
    stage.watch(&Manner::PLAIN, NEVER_ASKED, look).await
}

async fn pieces(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        text_pairs: 5,
        ..Manner::PLAIN
    };
    let mut due = RESERVED_TAG;
    exchange(stage, &manner, |caller, header, _| {
        let (_, transfer) = tags(header);
        if let Some((tag, _)) = &caller.texts.rest {
            due = *tag;
            ensure!(
                transfer == due,
                "the response has F=0 and Target Transfer Tag {due:08x}, the next request {transfer:08x}"
            );
            return Ok(true);
        }
        Ok(false)
    })
    .await
}

async fn pieces_task(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        text_pairs: 5,
        ..Manner::PLAIN
    };
    let mut first: Option<(u32, u8)> = None;
    exchange(stage, &manner, |caller, header, _| {
        let (task, _) = tags(header);
        let this = (task, header.opcode);
        match (first, &caller.texts.rest) {
            (Some(first), Some(_)) => {
                ensure!(
                    first == this,
                    "tag and opcode byte of the exchange are {:08x} and {:#04x}, of a later request {:08x} and {:#04x}",
                    first.0,
                    first.1,
                    this.0,
                    this.1
                );
                Ok(true)
            }
            _ => {
                first = Some(this);
                Ok(false)
            }
        }
    })
    .await
}

async fn continued(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        text_part: 50,
        ..Manner::PLAIN
    };
    exchange(stage, &manner, |caller, _, pdu| {
        if caller.texts.rest.is_none() {
            return Ok(false);
        }
        ensure!(
            pdu.data.is_empty(),
            "the request after a response with the C bit has {} bytes of text",
            pdu.data.len()
        );
        Ok(true)
    })
    .await
}

async fn many(stage: &mut Stage) -> Verdict {
    let mut caller = stage.caller(&Manner::PLAIN).await?;
    for number in 0..1500 {
        let name = format!("iqn.2013-07.org.vmthunder:drill.many.{number}");
        let address = format!("192.0.2.{}:3260,1", number % 250);
        caller.texts.more.0.push(("TargetName".to_owned(), name));
        let pair = ("TargetAddress".to_owned(), address);
        caller.texts.more.0.push(pair);
    }
    asked(stage, caller).await
}

async fn addresses(stage: &mut Stage) -> Verdict {
    let mut caller = stage.caller(&Manner::PLAIN).await?;
    caller.texts.more = Keys::of(&[
        ("TargetName", "iqn.2013-07.org.vmthunder:drill.no-address"),
        ("TargetName", "iqn.2013-07.org.vmthunder:drill.six"),
        ("TargetAddress", "[2001:db8::17]:3260,1"),
        ("TargetAddress", "[2001:db8::18],2"),
        ("TargetName", "eui.02004567A425678D"),
        ("TargetAddress", "storage.example.com,23"),
        ("TargetAddress", "storage.example.com:5003,65535"),
        ("TargetAddress", "192.0.2.7,0"),
    ]);
    asked(stage, caller).await
}

/// Serves the session to its end; it has to have asked for the list.
async fn asked(stage: &mut Stage, mut caller: Caller) -> Verdict {
    let is_text = |pdu: &Pdu| matches!(pdu.header, Header::TextRequest(_));
    let Some(pdu) = caller.serve_until(is_text).await else {
        skip!("{NEVER_ASKED}");
    };
    caller.serve(pdu).await;
    while let Some((_, _)) = &caller.texts.rest {
        match caller.hear().await {
            Heard::Pdu(pdu) => caller.serve(pdu).await,
            other => violation!("the rest of the list is not fetched: {other}"),
        }
    }
    stage.see_off(caller).await
}

/// Serves a session whose list comes in parts; `look` says whether a request fetched one.
async fn exchange(
    stage: &mut Stage,
    manner: &Manner,
    mut look: impl FnMut(&Caller, &TextRequest, &Pdu) -> Result<bool, Finding>,
) -> Verdict {
    let mut caller = stage.caller(manner).await?;
    caller.texts.more = more();
    let mut fetched = false;
    while let Heard::Pdu(pdu) = caller.hear().await {
        if let Header::TextRequest(header) = &pdu.header {
            fetched |= look(&caller, header, &pdu)?;
        }
        caller.serve(pdu).await;
    }
    ensure!(
        caller.texts.rest.is_none(),
        "the rest of the list is not fetched"
    );
    if !fetched {
        skip!("{NEVER_ASKED}");
    }
    stage.see_off(caller).await
}

/// Targets that make the list longer.
fn more() -> Keys {
    let mut keys = Keys::default();
    for number in 0..12 {
        let name = format!("iqn.2013-07.org.vmthunder:drill.more.{number}");
        keys.0.push(("TargetName".to_owned(), name));
        let pair = ("TargetAddress".to_owned(), "192.0.2.1:3260,1".to_owned());
        keys.0.push(pair);
    }
    keys
}

fn tags(header: &TextRequest) -> (u32, u32) {
    (
        header.initiator_task_tag.get(),
        header.target_transfer_tag.get(),
    )
}

/// Why a drill about the list does not apply.
const NEVER_ASKED: &str = "no Text Request came";
