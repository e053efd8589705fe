//! Taking registrations and reservations from others, and what outlives a session (SPC-4 §5.13.5, §5.13.11).

use iscsi_proto::wire::Pdu;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, skip};
use crate::checks::blocks::Disk;
use crate::checks::registrants::{
    CLEAR, ONE, PREEMPT, PREEMPT_AND_ABORT, TWO, WRITE_EXCLUSIVE, WRITE_EXCLUSIVE_ALL, conflicts,
    may, out, register, registered, reserve, reserved, told, with_two,
};
use crate::login::Login;

checks! {
    "persistent.preempt", "SPC-4 §5.13.11", Must, Writes,
        "PREEMPT with the holder's key by another registered session"
        => "the reservation passes, the holder's registration ends, and it writes no more", preempt;
    "persistent.preempt.attention", "SPC-4 §5.13.11", Must, Writes,
        "PREEMPT with another session's key" => "Unit Attention 6/2A/05 for that session", attention;
    "persistent.preempt.registrant", "SPC-4 §5.13.11", Must, Writes,
        "PREEMPT by the holder with the key of a session that holds nothing"
        => "that registration ends, the reservation stays", registrant;
    "persistent.preempt.unknown-key", "SPC-4 §5.13.11", Must, Writes,
        "PREEMPT with a key that nobody has" => "RESERVATION CONFLICT, and nothing changes", unknown_key;
    "persistent.preempt.zero-key", "SPC-4 §5.13.11", Must, Writes,
        "PREEMPT with zero as the key, under a reservation of one holder"
        => "CHECK CONDITION 5/26/00", zero_key;
    "persistent.preempt.all-registrants", "SPC-4 §5.13.11", Must, Writes,
        "PREEMPT with zero as the key, under a reservation of all registrants"
        => "all other registrations end, and the new reservation is the preempting session's", all;
    "persistent.preempt.not-registered", "SPC-4 §6.16.3", Must, Writes,
        "PREEMPT by a session that is not registered"
        => "RESERVATION CONFLICT, and nothing changes", not_registered;
    "persistent.preempt-and-abort", "SPC-4 §5.13.11", Must, Writes,
        "PREEMPT AND ABORT with the holder's key"
        => "the reservation passes, and the holder's registration ends", and_abort;
    "persistent.clear", "SPC-4 §5.13.11", Must, Writes,
        "CLEAR by a registered session that is not the holder"
        => "no registration and no reservation", clear;
    "persistent.clear.attention", "SPC-4 §5.13.11", Must, Writes,
        "CLEAR by a registered session" => "Unit Attention 6/2A/03 for the others", clear_attention;
    "persistent.clear.not-registered", "SPC-4 §6.16.3", Must, Writes,
        "CLEAR by a session that is not registered"
        => "RESERVATION CONFLICT, and nothing changes", clear_not_registered;
    "persistent.outlives-logout", "RFC 7143 §4.4.3.2", Must, Writes,
        "a logout of the holder, WRITE by another session, and a login with the same name and ISID"
        => "the reservation stays, and is that of the new session: the nexus is the same", outlives;
    "persistent.other-isid", "RFC 7143 §4.4.3", Must, Writes,
        "a WRITE by a second session of the holder's initiator with another ISID"
        => "RESERVATION CONFLICT: another ISID is another nexus", other_isid;
}

async fn preempt(bench: &Bench) -> Verdict {
    preempts(bench, PREEMPT).await
}

async fn and_abort(bench: &Bench) -> Verdict {
    preempts(bench, PREEMPT_AND_ABORT).await
}

async fn preempts(bench: &Bench, action: u8) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let reply = out(two, action, WRITE_EXCLUSIVE, TWO, ONE).await?;
        if action == PREEMPT_AND_ABORT && reply.codes() == (5, 0x24, 0) {
            skip!("PREEMPT AND ABORT is not supported");
        }
        reply.good("PREEMPT of the holder")?;
        let held = Some((TWO, WRITE_EXCLUSIVE));
        reserved(two, held, "after PREEMPT").await?;
        registered(two, &[TWO], "after PREEMPT").await?;
        may(two, "the new holder", (true, true)).await?;
        one.session.take_attentions().await?;
        may(one, "the session that was preempted", (true, false)).await
    })
    .await
}

async fn attention(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let reply = out(two, PREEMPT, WRITE_EXCLUSIVE, TWO, ONE).await?;
        reply.good("PREEMPT of the holder")?;
        told(one, 0x2a, 5, "after PREEMPT of the session").await
    })
    .await
}

async fn registrant(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let reply = out(one, PREEMPT, WRITE_EXCLUSIVE, ONE, TWO).await?;
        reply.good("PREEMPT of a registered session")?;
        registered(one, &[ONE], "after PREEMPT of the other one").await?;
        let held = Some((ONE, WRITE_EXCLUSIVE));
        reserved(one, held, "after PREEMPT of one that held nothing").await
    })
    .await
}

async fn unknown_key(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let reply = out(two, PREEMPT, WRITE_EXCLUSIVE, TWO, 0xdead).await?;
        conflicts(&reply, "PREEMPT with a key that nobody has")?;
        registered(one, &[ONE, TWO], "after PREEMPT that conflicts").await
    })
    .await
}

async fn zero_key(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let reply = out(two, PREEMPT, WRITE_EXCLUSIVE, TWO, 0).await?;
        reply.fails_with("PREEMPT with zero as the key", 5, 0x26, 0)
    })
    .await
}

async fn all(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE_ALL, ONE).await?;
        let reply = out(two, PREEMPT, WRITE_EXCLUSIVE, TWO, 0).await?;
        reply.good("PREEMPT with zero as the key, of all registrants")?;
        registered(two, &[TWO], "after PREEMPT of all").await?;
        let held = Some((TWO, WRITE_EXCLUSIVE));
        reserved(two, held, "after PREEMPT of all").await
    })
    .await
}

async fn not_registered(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        for key in [0, TWO] {
            let reply = out(two, PREEMPT, WRITE_EXCLUSIVE, key, ONE).await?;
            conflicts(&reply, "PREEMPT by a session that is not registered")?;
        }
        let held = Some((ONE, WRITE_EXCLUSIVE));
        reserved(one, held, "after PREEMPT that conflicts").await
    })
    .await
}

async fn clear(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        out(two, CLEAR, 0, TWO, 0).await?.good("CLEAR")?;
        registered(two, &[], "after CLEAR").await?;
        reserved(two, None, "after CLEAR").await?;
        may(two, "anybody after CLEAR", (true, true)).await
    })
    .await
}

async fn clear_attention(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        out(two, CLEAR, 0, TWO, 0).await?.good("CLEAR")?;
        told(one, 0x2a, 3, "after CLEAR by another session").await
    })
    .await
}

async fn clear_not_registered(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        let reply = out(two, CLEAR, 0, ONE, 0).await?;
        conflicts(&reply, "CLEAR by a session that is not registered")?;
        registered(one, &[ONE], "after CLEAR that conflicts").await
    })
    .await
}

async fn outlives(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let logout = one.session.logout(0);
        one.session.send(Pdu::bare(logout)).await;
        one.session.receive().await?;
        let held = Some((ONE, WRITE_EXCLUSIVE));
        reserved(two, held, "after a logout of the holder").await?;
        let who = "another session after a logout of the holder";
        may(two, who, (true, false)).await?;
        let login = Login {
            isid: one.session.login.isid,
            ..bench.login()
        };
        let mut session = bench.log_in_as(login, &[]).await.map_err(unreachable)?;
        session.take_attentions().await.map_err(unreachable)?;
        one.session = session;
        may(one, "the holder's next session", (true, true)).await
    })
    .await
}

async fn other_isid(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        let mut second = Disk::open(bench).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let who = "a session of the same initiator with another ISID";
        may(&mut second, who, (true, false)).await?;
        registered(two, &[ONE], "after one of three sessions registered").await
    })
    .await
}

/// A login that fails is not what the check is about.
fn unreachable(finding: Finding) -> Finding {
    match finding {
        Finding::Violation(why) => Finding::Unreachable(why),
        other => other,
    }
}
