//! Registrations, and what PERSISTENT RESERVE IN tells of them (SPC-4 §5.13.7, §6.15).

use crate::bench::Bench;
use crate::check::{Verdict, checks, ensure, skip, violation};
use crate::checks::blocks::{Disk, byte, word};
use crate::checks::registrants::{
    CLEAR, Keys, ONE, PREEMPT, REGISTER, REGISTER_AND_IGNORE, RELEASE, RESERVE, TWO,
    WRITE_EXCLUSIVE, WRITE_EXCLUSIVE_REGISTRANTS, conflicts, keys, list, long, may, order_with,
    out, query, register, registered, reserve, with_two,
};
use crate::words;

checks! {
    "persistent.register", "SPC-4 §5.13.7", Must, Writes,
        "REGISTER by a session that is not registered" => "GOOD, and READ KEYS has its key", registers;
    "persistent.register.each-session", "SPC-4 §5.13.7", Must, Writes,
        "REGISTER of the same key by two sessions"
        => "two registrations: each nexus has its own, and READ KEYS has the key twice", each_session;
    "persistent.register.change", "SPC-4 §5.13.7", Must, Writes,
        "REGISTER with the present key and a new one" => "the new key in place of the old one", change;
    "persistent.register.wrong-key", "SPC-4 §5.13.7", Must, Writes,
        "REGISTER with a key that is not the session's"
        => "RESERVATION CONFLICT, and the registration stays", wrong_key;
    "persistent.register.no-key", "SPC-4 §5.13.7", Must, Writes,
        "REGISTER with a present key by a session that has none"
        => "RESERVATION CONFLICT, and no registration", no_key;
    "persistent.register.ignore", "SPC-4 §5.13.7", Must, Writes,
        "REGISTER AND IGNORE EXISTING KEY, twice"
        => "GOOD, and the last key is registered", ignore;
    "persistent.register.remove", "SPC-4 §5.13.7", Must, Writes,
        "REGISTER with zero as the new key" => "the registration ends, another one stays", remove;
    "persistent.register.nothing", "SPC-4 §5.13.7", Must, Writes,
        "REGISTER of zero by a session that is not registered" => "GOOD, and no registration", nothing;
    "persistent.register.restricts-nobody", "SPC-4 §5.13.1", Must, Writes,
        "READ and WRITE by a session that is not registered, while another one is"
        => "GOOD: there is no reservation", restricts_nobody;
    "persistent.generation", "SPC-4 §6.15.2", Must, Writes,
        "PRGENERATION before and after every service action"
        => "REGISTER, CLEAR and PREEMPT count, RESERVE and RELEASE do not", generation;
    "persistent.generation.failure", "SPC-4 §6.15.2", Must, Writes,
        "PRGENERATION before and after a REGISTER that conflicts" => "the same", generation_failure;
    "persistent.list-length", "SPC-4 §6.16.2", Must, Writes,
        "REGISTER with a parameter list of 16 and of 28 bytes, without SPEC_I_PT"
        => "CHECK CONDITION 5/1A/00, and no registration", list_length;
    "persistent.service-action", "SPC-4 §6.15.1", Must, Writes,
        "PERSISTENT RESERVE IN and OUT with the reserved service action 1Fh"
        => "CHECK CONDITION 5/24/00", service_action;
    "persistent.aptpl", "SPC-4 §6.16.3", Must, Writes,
        "REGISTER with APTPL"
        => "5/26/00 if PTPL_C is 0; else GOOD, and PTPL_A is 1", aptpl;
    "persistent.capabilities", "SPC-4 §6.15.4", Must, Writes,
        "REPORT CAPABILITIES, and RESERVE of each type"
        => "LENGTH 8, and GOOD for the types that it names if TMV is 1", capabilities;
    "persistent.full-status", "SPC-4 §6.15.5", Must, Writes,
        "READ FULL STATUS with two registered sessions, one of which holds a reservation"
        => "a descriptor for each: key, holder, type and the initiator's name", full_status;
    "persistent.keys.allocation-length", "SPC-4 §6.15.2", Must, Writes,
        "READ KEYS with room for 8 bytes while two keys are registered"
        => "8 bytes, and ADDITIONAL LENGTH tells of all", allocation;
}

async fn registers(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        registered(one, &[ONE], "after REGISTER").await?;
        registered(two, &[ONE], "after REGISTER by another session").await
    })
    .await
}

async fn each_session(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, ONE).await?;
        registered(one, &[ONE, ONE], "after REGISTER by two sessions").await
    })
    .await
}

async fn change(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        register(one, ONE).await?;
        let reply = out(one, REGISTER, 0, ONE, TWO).await?;
        reply.good("REGISTER with the present key")?;
        registered(one, &[TWO], "after REGISTER of a new key").await
    })
    .await
}

async fn wrong_key(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        register(one, ONE).await?;
        for key in [TWO, 0] {
            let reply = out(one, REGISTER, 0, key, TWO).await?;
            conflicts(&reply, "REGISTER with another key than the present one")?;
        }
        registered(one, &[ONE], "after REGISTER with wrong keys").await
    })
    .await
}

async fn no_key(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        let reply = out(one, REGISTER, 0, ONE, ONE).await?;
        conflicts(&reply, "REGISTER with a present key that is not there")?;
        registered(one, &[], "after REGISTER that conflicts").await
    })
    .await
}

async fn ignore(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        for key in [ONE, TWO] {
            let reply = out(one, REGISTER_AND_IGNORE, 0, 0xbad, key).await?;
            reply.good("REGISTER AND IGNORE EXISTING KEY")?;
        }
        registered(one, &[TWO], "after REGISTER AND IGNORE EXISTING KEY").await
    })
    .await
}

async fn remove(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        let reply = out(one, REGISTER, 0, ONE, 0).await?;
        reply.good("REGISTER with zero as the new key")?;
        registered(two, &[TWO], "after one of two unregistered").await
    })
    .await
}

async fn nothing(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        let reply = out(one, REGISTER, 0, 0, 0).await?;
        reply.good("REGISTER of zero without a registration")?;
        registered(one, &[], "after REGISTER of zero").await
    })
    .await
}

async fn restricts_nobody(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        let who = "a session that is not registered, without a reservation";
        may(two, who, (true, true)).await
    })
    .await
}

async fn generation(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        let steps: [(bool, u8, u64, u64, &str); 6] = [
            (true, REGISTER, 0, ONE, "REGISTER"),
            (false, RESERVE, ONE, 0, "RESERVE"),
            (false, RELEASE, ONE, 0, "RELEASE"),
            (
                true,
                REGISTER_AND_IGNORE,
                0,
                ONE,
                "REGISTER AND IGNORE EXISTING KEY",
            ),
            (true, PREEMPT, ONE, TWO, "PREEMPT"),
            (true, CLEAR, ONE, 0, "CLEAR"),
        ];
        register(two, TWO).await?;
        let mut before = keys(one).await?;
        for (counts, action, key, new, name) in steps {
            let kind = WRITE_EXCLUSIVE;
            out(one, action, kind, key, new).await?.good(name)?;
            let after = keys(one).await?;
            counted(counts, &before, &after, name)?;
            before = after;
        }
        Ok(())
    })
    .await
}

fn counted(counts: bool, before: &Keys, after: &Keys, name: &str) -> Verdict {
    let (before, after) = (before.generation, after.generation);
    ensure!(
        (before != after) == counts,
        "PRGENERATION is {before} before {name} and {after} after it"
    );
    Ok(())
}

async fn generation_failure(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        register(one, ONE).await?;
        let before = keys(one).await?;
        let reply = out(one, REGISTER, 0, TWO, TWO).await?;
        conflicts(&reply, "REGISTER with a wrong key")?;
        let after = keys(one).await?;
        counted(false, &before, &after, "REGISTER with a wrong key")
    })
    .await
}

async fn list_length(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        for length in [16, 28] {
            let mut list = list(0, ONE, 0);
            list.resize(length, 0);
            let reply = one.session.run(&order_with(REGISTER, 0, list)).await?;
            let what = format!("REGISTER with a parameter list of {length} bytes");
            reply.fails_with(&what, 5, 0x1a, 0)?;
        }
        registered(one, &[], "after REGISTER with wrong lists").await
    })
    .await
}

async fn service_action(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        // Who is not registered could conflict first.
        register(one, ONE).await?;
        let reply = one.session.run(&query(0x1f, 64)).await?;
        reply.fails_with("PERSISTENT RESERVE IN, service action 1Fh", 5, 0x24, 0)?;
        let reply = out(one, 0x1f, 0, ONE, 0).await?;
        reply.fails_with("PERSISTENT RESERVE OUT, service action 1Fh", 5, 0x24, 0)
    })
    .await
}

async fn aptpl(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        let can = byte(&report(one).await?, 2) & PTPL_C != 0;
        let order = order_with(REGISTER, 0, list(0, ONE, APTPL));
        let reply = one.session.run(&order).await?;
        if !can {
            reply.fails_with("REGISTER with APTPL, where PTPL_C is 0", 5, 0x26, 0)?;
            return registered(one, &[], "after REGISTER with APTPL").await;
        }
        reply.good("REGISTER with APTPL, where PTPL_C is 1")?;
        let does = byte(&report(one).await?, 3) & PTPL_A != 0;
        ensure!(does, "PTPL_A is 0 after REGISTER with APTPL");
        Ok(())
    })
    .await
}

async fn capabilities(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        let report = report(one).await?;
        let length = word(&report, 0) >> 16;
        ensure!(
            report.len() == 8 && length == 8,
            "REPORT CAPABILITIES brings {} bytes and has LENGTH {length}; both are 8",
            report.len()
        );
        if byte(&report, 3) & TMV == 0 {
            return Ok(());
        }
        register(one, ONE).await?;
        let mask = u16::from_be_bytes([byte(&report, 4), byte(&report, 5)]);
        // The bit of a type is that of its number, but the last one's is in the second byte.
        for (kind, bit) in [(1, 9), (3, 11), (5, 13), (6, 14), (7, 15), (8, 0)] {
            let claimed = mask & 1 << bit != 0;
            let reply = out(one, RESERVE, kind, ONE, 0).await?;
            ensure!(
                (reply.status == 0) == claimed,
                "type {kind} is {} in the mask {mask:04x}, and RESERVE of it: {}",
                if claimed { "set" } else { "not set" },
                reply.outcome()
            );
            if claimed {
                out(one, RELEASE, kind, ONE, 0).await?.good("RELEASE")?;
            }
        }
        Ok(())
    })
    .await
}

/// REPORT CAPABILITIES.
async fn report(disk: &mut Disk) -> Result<bytes::Bytes, crate::check::Finding> {
    let reply = disk.session.run(&query(2, 64)).await?;
    if reply.codes() == (5, 0x24, 0) {
        skip!("REPORT CAPABILITIES is not supported");
    }
    Ok(reply.good("REPORT CAPABILITIES")?.data)
}

async fn full_status(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE_REGISTRANTS, ONE).await?;
        let reply = two.session.run(&query(3, 2048)).await?;
        if reply.codes() == (5, 0x24, 0) {
            skip!("READ FULL STATUS is not supported");
        }
        let data = reply.good("READ FULL STATUS")?.data;
        let told = usize::try_from(word(&data, 4)).unwrap_or(usize::MAX);
        let Some(mut rest) = data.get(8..told.saturating_add(8)) else {
            violation!("{} bytes, and ADDITIONAL LENGTH {told}", data.len());
        };
        let (mut found, name) = (Vec::new(), one.session.login.initiator.clone());
        while rest.len() >= 24 && found.len() < 8 {
            let length = usize::try_from(word(rest, 20)).unwrap_or(usize::MAX);
            let Some(id) = rest.get(24..length.saturating_add(24)) else {
                violation!(
                    "a descriptor with {length} bytes more, of which {} are there",
                    rest.len() - 24
                );
            };
            check_transport_id(id, &name)?;
            let holds = byte(rest, 12) & 1 != 0;
            found.push((long(rest, 0), holds.then(|| byte(rest, 13))));
            rest = rest.get(24 + length..).unwrap_or_default();
        }
        found.sort_unstable();
        let expected = [(ONE, Some(WRITE_EXCLUSIVE_REGISTRANTS)), (TWO, None)];
        ensure!(
            found == expected,
            "the registered keys are {} instead of {}",
            words::list(found.iter().map(registration)),
            words::list(expected.iter().map(registration))
        );
        Ok(())
    })
    .await
}

/// A key, and what its holder has.
fn registration((key, kind): &(u64, Option<u8>)) -> String {
    match kind {
        Some(kind) => format!("{key:x} holding a reservation of type {kind}"),
        None => format!("{key:x}"),
    }
}

/// A TransportID of an iSCSI initiator (SPC-4 §7.6.4.6).
fn check_transport_id(id: &[u8], name: &str) -> Verdict {
    let text = id.get(4..).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let text = text.trim_end_matches('\0');
    let (format, protocol) = (byte(id, 0) >> 6, byte(id, 0) & 0x0f);
    let named = match format {
        0 => text.eq_ignore_ascii_case(name),
        // The ISID follows.
        1 => text
            .split_once(",i,0x")
            .is_some_and(|(front, isid)| front.eq_ignore_ascii_case(name) && isid.len() <= 12),
        _ => false,
    };
    ensure!(
        protocol == 5 && named,
        "the TransportID has protocol {protocol}, format {format} and the name {}; the initiator is {name}",
        words::quoted(text)
    );
    Ok(())
}

async fn allocation(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        let reply = one.session.run(&query(0, 8)).await?;
        let data = reply.good("READ KEYS with ALLOCATION LENGTH 8")?.data;
        let told = word(&data, 4);
        ensure!(
            data.len() == 8 && told == 16,
            "{} bytes where there is room for 8, and ADDITIONAL LENGTH {told}, where two keys have 16",
            data.len()
        );
        Ok(())
    })
    .await
}

const APTPL: u8 = 0x01;
const PTPL_C: u8 = 0x01;
const PTPL_A: u8 = 0x01;
const TMV: u8 = 0x80;
