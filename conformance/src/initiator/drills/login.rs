//! The headers and the course of a login (RFC 7143 §6.3, §11.12).

use iscsi_proto::wire::bhs::{CONTINUE, FINAL, LoginRequest};

use crate::check::{Verdict, ensure, skip, violation};
use crate::initiator::drill::drills;
use crate::initiator::login::Exchange;
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;
use crate::login::OPERATIONAL;
use crate::wire::Heard;

drills! {
    "login.initiator-name", "RFC 7143 §6.3", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "the first request has an InitiatorName that is an iSCSI name", initiator_name;
    "login.target-name", "RFC 7143 §6.3", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "the first request has the TargetName", target_name;
    "login.tsih", "RFC 7143 §11.12.6", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "the TSIH of a login for a new session is 0 in all requests", tsih;
    "login.isid", "RFC 7143 §11.12.5", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "the ISID is of one of the three types that are defined", isid;
    "login.version", "RFC 7143 §11.12.4", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "Version-max and Version-min are 0x00", version;
    "login.immediate", "RFC 7143 §11.12", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "byte 0 of each request is 0x43: the I bit is set", immediate;
    "login.flags", "RFC 7143 §11.12.3", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "NSG is 0 without the T bit, C and T exclude each other, reserved bits are 0", flags;
    "login.stages", "RFC 7143 §6.3", Must, Normal, Succeeds,
        "an ordinary login"
        => "requests belong to the stage that was agreed on, and ask for one that may follow", stages;
    "login.same-task", "RFC 7143 §11.12", Must, Normal, Succeeds,
        "a login that takes one request more than the initiator expects"
        => "all requests have the same Initiator Task Tag", same_task;
    "login.same-cid", "RFC 7143 §11.12.7", Must, Normal, Succeeds,
        "a login that takes one request more than the initiator expects"
        => "all requests have the same CID", same_cid;
    "login.same-cmd-sn", "RFC 7143 §11.12.8", Must, Normal, Succeeds,
        "a login that takes one request more than the initiator expects"
        => "all requests have the same CmdSN", same_cmd_sn;
    "login.exp-stat-sn", "RFC 7143 §11.12.9", Must, Normal, Succeeds,
        "responses whose StatSN begins at 4294967295"
        => "each further request acknowledges the response before it", exp_stat_sn;
    "login.not-yet", "RFC 7143 §6.3.3", Should, Normal, Succeeds,
        "responses with T=0 to the first two requests with T=1"
        => "the initiator stays in the stage and goes on asking with T=1", not_yet;
    "login.one-at-a-time", "RFC 7143 §6.3", Must, Normal, Succeeds,
        "every response a little late"
        => "no further PDU before the response", one_at_a_time;
    "login.nothing-else", "RFC 7143 §6.3", Must, Normal, Succeeds,
        "an ordinary login that takes one request more"
        => "nothing but Login Requests until the login is over", nothing_else;
    "login.segment", "RFC 7143 §6.3", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "no request has more than 8192 bytes of text", segment;
}

async fn initiator_name(stage: &mut Stage) -> Verdict {
    stage
        .login(&Manner::PLAIN, |record| {
            let Some(name) = record.opening.get("InitiatorName") else {
                violation!("the first Login Request has no InitiatorName");
            };
            let known = ["iqn.", "eui.", "naa."];
            ensure!(
                known.iter().any(|kind| name.starts_with(kind)) && name.len() <= 223,
                "InitiatorName={name} is not an iSCSI name (RFC 7143 §4.2.7.1)"
            );
            Ok(())
        })
        .await
}

async fn target_name(stage: &mut Stage) -> Verdict {
    let target = stage.scene.target.clone();
    stage
        .login(&Manner::PLAIN, |record| {
            match record.opening.get("TargetName") {
                Some(name) if name == target => Ok(()),
                Some(name) => violation!("the TargetName is {name}"),
                None => violation!("the first Login Request has no TargetName"),
            }
        })
        .await
}

async fn tsih(stage: &mut Stage) -> Verdict {
    each(stage, &Manner::PLAIN, |request| {
        let tsih = request.tsih.get();
        ensure!(tsih == 0, "a login for a new session has TSIH {tsih}");
        Ok(())
    })
    .await
}

async fn isid(stage: &mut Stage) -> Verdict {
    each(stage, &Manner::PLAIN, |request| {
        let [first, ..] = request.isid;
        ensure!(
            first >> 6 != 3,
            "the ISID begins with {first:#04x}: type 11b is reserved"
        );
        Ok(())
    })
    .await
}

async fn version(stage: &mut Stage) -> Verdict {
    each(stage, &Manner::PLAIN, |request| {
        let (max, min) = (request.version_max, request.version_min);
        ensure!(
            max == 0 && min == 0,
            "Version-max is {max:#04x}, Version-min is {min:#04x}"
        );
        Ok(())
    })
    .await
}

async fn immediate(stage: &mut Stage) -> Verdict {
    each(stage, &Manner::PLAIN, |request| {
        let opcode = request.opcode;
        ensure!(opcode == 0x43, "byte 0 of a request is {opcode:#04x}");
        Ok(())
    })
    .await
}

async fn flags(stage: &mut Stage) -> Verdict {
    each(stage, &Manner::PLAIN, |request| {
        let flags = request.flags;
        ensure!(
            flags & 0x30 == 0,
            "byte 1 of a request is {flags:#04x}: bits 2 and 3 are reserved"
        );
        ensure!(
            flags & (FINAL | CONTINUE) != FINAL | CONTINUE,
            "byte 1 of a request is {flags:#04x}: both T and C are set"
        );
        ensure!(
            flags & FINAL != 0 || flags & 3 == 0,
            "byte 1 of a request is {flags:#04x}: NSG is {} without T",
            flags & 3
        );
        Ok(())
    })
    .await
}

async fn stages(stage: &mut Stage) -> Verdict {
    stage
        .login(&Manner::PLAIN, |record| {
            let mut current = None;
            for exchange in &record.exchanges {
                let flags = exchange.request.flags;
                let (stage, next) = (flags >> 2 & 3, flags & 3);
                ensure!(
                    stage <= OPERATIONAL,
                    "a login cannot be in stage {stage} (CSG)"
                );
                if let Some(current) = current {
                    ensure!(
                        stage == current,
                        "a request belongs to stage {stage} (CSG) while the login is in stage {current}"
                    );
                }
                ensure!(
                    flags & FINAL == 0 || (next > stage && next != 2),
                    "a request asks to move on from stage {stage} to stage {next}"
                );
                let answer = exchange.answer.map_or(0, |answer| answer.flags);
                current = Some(if answer & FINAL == 0 { stage } else { answer & 3 });
            }
            Ok(())
        })
        .await
}

async fn same_task(stage: &mut Stage) -> Verdict {
    same(stage, "Initiator Task Tag", |request| {
        request.initiator_task_tag.get()
    })
    .await
}

async fn same_cid(stage: &mut Stage) -> Verdict {
    same(stage, "CID", |request| request.cid.get().into()).await
}

async fn same_cmd_sn(stage: &mut Stage) -> Verdict {
    same(stage, "CmdSN", |request| request.cmd_sn.get()).await
}

async fn exp_stat_sn(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        stat_sn: u32::MAX,
        reluctance: 1,
        ..Manner::PLAIN
    };
    stage
        .login(&manner, |record| {
            let pairs = record.exchanges.iter().zip(record.exchanges.iter().skip(1));
            for (before, after) in pairs {
                let Some(answer) = before.answer else {
                    continue;
                };
                let due = answer.stat_sn.get().wrapping_add(1);
                let number = after.request.exp_stat_sn.get();
                ensure!(
                    number == due,
                    "the response has StatSN {}, and the next request ExpStatSN {number}",
                    answer.stat_sn.get()
                );
            }
            Ok(())
        })
        .await
}

async fn not_yet(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        reluctance: 2,
        ..Manner::PLAIN
    };
    stage
        .login(&manner, |record| {
            let pairs = record.exchanges.iter().zip(record.exchanges.iter().skip(1));
            for (before, after) in pairs {
                if !put_off(before) {
                    continue;
                }
                let (was, is) = (before.request.flags, after.request.flags);
                ensure!(
                    was >> 2 & 3 == is >> 2 & 3,
                    "the stage changes from {} to {} although the target did not agree",
                    was >> 2 & 3,
                    is >> 2 & 3
                );
                ensure!(
                    is & FINAL != 0,
                    "the request after a \"not yet\" does not ask to move on any more"
                );
            }
            Ok(())
        })
        .await
}

/// True if the initiator asked to move on and the target did not agree.
fn put_off(exchange: &Exchange) -> bool {
    let answered = exchange
        .answer
        .is_some_and(|answer| answer.flags & FINAL == 0);
    exchange.request.flags & FINAL != 0 && answered
}

async fn one_at_a_time(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        dawdles: true,
        reluctance: 1,
        ..Manner::PLAIN
    };
    match stage.entry().await?.log_in(&manner).await {
        Ok(caller) => stage.see_off(caller).await,
        Err(given_up) => match &given_up.instead {
            Heard::Pdu(pdu) => violation!(
                "{} while a Login Request is not answered",
                Heard::Pdu(pdu.clone())
            ),
            _ => Err(given_up.into()),
        },
    }
}

async fn nothing_else(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        reluctance: 1,
        ..Manner::PLAIN
    };
    match stage.entry().await?.log_in(&manner).await {
        Ok(caller) => stage.see_off(caller).await,
        Err(given_up) => match &given_up.instead {
            Heard::Pdu(pdu) => violation!("{} during the login", Heard::Pdu(pdu.clone())),
            _ => Err(given_up.into()),
        },
    }
}

async fn segment(stage: &mut Stage) -> Verdict {
    stage
        .login(&Manner::PLAIN, |record| {
            for exchange in &record.exchanges {
                ensure!(
                    exchange.text <= 8192,
                    "a Login Request has {} bytes of text, and nobody declared to take more than 8192",
                    exchange.text
                );
            }
            Ok(())
        })
        .await
}

/// Judges every request of a login.
async fn each(stage: &mut Stage, manner: &Manner, judge: fn(&LoginRequest) -> Verdict) -> Verdict {
    stage
        .login(manner, |record| {
            let mut requests = record.exchanges.iter();
            requests.try_for_each(|exchange| judge(&exchange.request))
        })
        .await
}

/// A field has to be the same in all requests of a login.
async fn same(stage: &mut Stage, what: &str, field: fn(&LoginRequest) -> u32) -> Verdict {
    let manner = Manner {
        reluctance: 1,
        ..Manner::PLAIN
    };
    stage
        .login(&manner, |record| {
            let mut requests = record.exchanges.iter().map(|exchange| &exchange.request);
            let Some(first) = requests.next().map(field) else {
                skip!("no Login Request came");
            };
            for request in requests {
                ensure!(
                    field(request) == first,
                    "the {what} changes from {first:#x} to {:#x} during the login",
                    field(request)
                );
            }
            Ok(())
        })
        .await
}
