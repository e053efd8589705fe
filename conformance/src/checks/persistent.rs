//! Persistent reservations: who may do what, and how they end (SPC-4 §5.13).

use crate::bench::Bench;
use crate::check::{Verdict, checks, ensure, skip};
use crate::checks::blocks::{Disk, SCRATCH, WRITE_10};
use crate::checks::registrants::{
    EXCLUSIVE_ACCESS, EXCLUSIVE_ACCESS_ALL, EXCLUSIVE_ACCESS_REGISTRANTS, ONE, REGISTER, RELEASE,
    RESERVE, TWO, WRITE_EXCLUSIVE, WRITE_EXCLUSIVE_ALL, WRITE_EXCLUSIVE_REGISTRANTS, conflicts,
    may, out, query, register, registered, reserve, reserved, told, with_two,
};
use crate::session::Task;

checks! {
    "persistent.write-exclusive", "SPC-4 §5.13.1", Must, Writes,
        "READ and WRITE under Write Exclusive by the holder, a registered session and another one"
        => "all read; the holder alone writes", write_exclusive;
    "persistent.exclusive-access", "SPC-4 §5.13.1", Must, Writes,
        "READ and WRITE under Exclusive Access by the holder, a registered session and another one"
        => "the holder alone reads and writes", exclusive_access;
    "persistent.write-exclusive-registrants", "SPC-4 §5.13.1", Must, Writes,
        "READ and WRITE under Write Exclusive - Registrants Only"
        => "all read; who is registered writes", write_exclusive_registrants;
    "persistent.exclusive-access-registrants", "SPC-4 §5.13.1", Must, Writes,
        "READ and WRITE under Exclusive Access - Registrants Only"
        => "who is registered reads and writes, nobody else", exclusive_access_registrants;
    "persistent.write-exclusive-all", "SPC-4 §5.13.1", Must, Writes,
        "READ and WRITE under Write Exclusive - All Registrants"
        => "all read; who is registered writes", write_exclusive_all;
    "persistent.exclusive-access-all", "SPC-4 §5.13.1", Must, Writes,
        "READ and WRITE under Exclusive Access - All Registrants"
        => "who is registered reads and writes, nobody else", exclusive_access_all;
    "persistent.blocked-write", "SPC-4 §5.13.1", Must, Writes,
        "WRITE that conflicts" => "the block keeps its content", blocked_write;
    "persistent.admits", "SPC-4 §5.13.1", Must, Writes,
        "INQUIRY, REPORT LUNS, REQUEST SENSE, READ KEYS and REGISTER under somebody else's Exclusive Access"
        => "GOOD", admits;
    "persistent.reserve.not-registered", "SPC-4 §5.13.9", Must, Writes,
        "RESERVE by a session that is not registered"
        => "RESERVATION CONFLICT, and no reservation", not_registered;
    "persistent.reserve.wrong-key", "SPC-4 §6.16.3", Must, Writes,
        "RESERVE with a key that is not the session's"
        => "RESERVATION CONFLICT, and no reservation", wrong_key;
    "persistent.reserve.again", "SPC-4 §5.13.9", Must, Writes,
        "RESERVE by the holder with the same type, then with another one"
        => "GOOD, then RESERVATION CONFLICT, and the first type stays", again;
    "persistent.reserve.taken", "SPC-4 §5.13.9", Must, Writes,
        "RESERVE by a registered session while another one holds a reservation"
        => "RESERVATION CONFLICT, and the holder keeps it", taken;
    "persistent.reserve.type", "SPC-4 §6.15.3.4", Must, Writes,
        "RESERVE with the reserved type Fh" => "CHECK CONDITION 5/24/00", no_type;
    "persistent.read-reservation", "SPC-4 §6.15.3", Must, Writes,
        "READ RESERVATION without a reservation and with one of one holder"
        => "ADDITIONAL LENGTH 0, then the holder's key, scope and type", read_reservation;
    "persistent.read-reservation.all", "SPC-4 §6.15.3", Must, Writes,
        "READ RESERVATION with a reservation of all registrants"
        => "zero as the key: there is no one holder", read_reservation_all;
    "persistent.release", "SPC-4 §5.13.11", Must, Writes,
        "RELEASE by the holder" => "no reservation, and anybody writes; the registration stays", release;
    "persistent.release.wrong-type", "SPC-4 §5.13.11", Must, Writes,
        "RELEASE by the holder with another type"
        => "CHECK CONDITION 5/26/04, and the reservation stays", release_wrong_type;
    "persistent.release.not-holder", "SPC-4 §5.13.11", Must, Writes,
        "RELEASE by a registered session that does not hold the reservation"
        => "GOOD, and the reservation stays", release_not_holder;
    "persistent.release.attention", "SPC-4 §5.13.11", Must, Writes,
        "RELEASE of a reservation that registered sessions share"
        => "Unit Attention 6/2A/04 for the others that are registered", release_attention;
    "persistent.unregister-releases", "SPC-4 §5.13.11", Must, Writes,
        "REGISTER of zero by the holder" => "the reservation ends with the registration", unregister;
    "persistent.unregister.attention", "SPC-4 §5.13.11", Must, Writes,
        "REGISTER of zero by the holder of a reservation that registered sessions share"
        => "Unit Attention 6/2A/04 for the others", unregister_attention;
    "persistent.all-registrants", "SPC-4 §5.13.10", Must, Writes,
        "REGISTER of zero by one of two registrants that both hold the reservation, then by the other"
        => "the reservation stays with the first, and ends with the last", all_registrants;
    "persistent.reserve-six", "SPC-4 §5.13.3", Must, Writes,
        "RESERVE (6) by a session that is not registered, while another one is"
        => "RESERVATION CONFLICT", reserve_six;
}

async fn write_exclusive(bench: &Bench) -> Verdict {
    table(bench, WRITE_EXCLUSIVE, (true, false), (true, false)).await
}

async fn exclusive_access(bench: &Bench) -> Verdict {
    table(bench, EXCLUSIVE_ACCESS, (false, false), (false, false)).await
}

async fn write_exclusive_registrants(bench: &Bench) -> Verdict {
    table(
        bench,
        WRITE_EXCLUSIVE_REGISTRANTS,
        (true, true),
        (true, false),
    )
    .await
}

async fn exclusive_access_registrants(bench: &Bench) -> Verdict {
    table(
        bench,
        EXCLUSIVE_ACCESS_REGISTRANTS,
        (true, true),
        (false, false),
    )
    .await
}

async fn write_exclusive_all(bench: &Bench) -> Verdict {
    table(bench, WRITE_EXCLUSIVE_ALL, (true, true), (true, false)).await
}

async fn exclusive_access_all(bench: &Bench) -> Verdict {
    table(bench, EXCLUSIVE_ACCESS_ALL, (true, true), (false, false)).await
}

/// Whether a registered session and one that is not may read and write; the holder may do both.
async fn table(bench: &Bench, kind: u8, known: (bool, bool), stranger: (bool, bool)) -> Verdict {
    with_two(bench, async |one, two| {
        let mut third = Disk::open(bench).await?;
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, kind, ONE).await?;
        may(one, "the holder", (true, true)).await?;
        may(two, "a registered session", known).await?;
        may(&mut third, "a session that is not registered", stranger).await
    })
    .await
}

async fn blocked_write(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        let old = one.pattern(1, 1);
        one.write(SCRATCH, &old).await?;
        register(one, ONE).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let data = two.pattern(2, 1);
        two.put(WRITE_10, 0, SCRATCH, &data).await?;
        one.holds(SCRATCH, &old, "after a WRITE that conflicts")
            .await
    })
    .await
}

async fn admits(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        reserve(one, EXCLUSIVE_ACCESS, ONE).await?;
        let allowed = [
            ("INQUIRY", Task::read(&[0x12, 0, 0, 0, 96], 96)),
            (
                "REPORT LUNS",
                Task::read(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256),
            ),
            ("REQUEST SENSE", Task::read(&[0x03, 0, 0, 0, 96], 96)),
            ("READ KEYS", query(0, 64)),
        ];
        for (name, task) in allowed {
            two.session
                .run(&task)
                .await?
                .good(&format!("{name} under somebody else's Exclusive Access"))?;
        }
        register(two, TWO).await
    })
    .await
}

async fn not_registered(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        for key in [0, ONE] {
            let reply = out(two, RESERVE, WRITE_EXCLUSIVE, key, 0).await?;
            conflicts(&reply, "RESERVE by a session that is not registered")?;
        }
        reserved(one, None, "after RESERVE that conflicts").await
    })
    .await
}

async fn wrong_key(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        register(one, ONE).await?;
        let reply = out(one, RESERVE, WRITE_EXCLUSIVE, TWO, 0).await?;
        conflicts(&reply, "RESERVE with a wrong key")?;
        reserved(one, None, "after RESERVE that conflicts").await
    })
    .await
}

async fn again(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        register(one, ONE).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let reply = out(one, RESERVE, WRITE_EXCLUSIVE, ONE, 0).await?;
        reply.good("RESERVE by the holder with the same type")?;
        let reply = out(one, RESERVE, EXCLUSIVE_ACCESS, ONE, 0).await?;
        conflicts(&reply, "RESERVE by the holder with another type")?;
        let held = Some((ONE, WRITE_EXCLUSIVE));
        reserved(one, held, "after RESERVE with another type").await
    })
    .await
}

async fn taken(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE_REGISTRANTS, ONE).await?;
        let reply = out(two, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, TWO, 0).await?;
        conflicts(&reply, "RESERVE while another session holds a reservation")?;
        let held = Some((ONE, WRITE_EXCLUSIVE_REGISTRANTS));
        reserved(two, held, "after RESERVE that conflicts").await
    })
    .await
}

async fn no_type(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        register(one, ONE).await?;
        let reply = out(one, RESERVE, 0x0f, ONE, 0).await?;
        reply.fails_with("RESERVE of type Fh", 5, 0x24, 0)
    })
    .await
}

async fn read_reservation(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserved(two, None, "without a reservation").await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let held = Some((ONE, WRITE_EXCLUSIVE));
        reserved(two, held, "with a reservation").await
    })
    .await
}

async fn read_reservation_all(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE_ALL, ONE).await?;
        let held = Some((0, WRITE_EXCLUSIVE_ALL));
        reserved(two, held, "with a reservation of all registrants").await
    })
    .await
}

async fn release(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        reserve(one, EXCLUSIVE_ACCESS, ONE).await?;
        let reply = out(one, RELEASE, EXCLUSIVE_ACCESS, ONE, 0).await?;
        reply.good("RELEASE by the holder")?;
        reserved(one, None, "after RELEASE").await?;
        may(two, "another session after RELEASE", (true, true)).await?;
        registered(one, &[ONE], "after RELEASE").await
    })
    .await
}

async fn release_wrong_type(bench: &Bench) -> Verdict {
    with_two(bench, async |one, _| {
        register(one, ONE).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let reply = out(one, RELEASE, EXCLUSIVE_ACCESS, ONE, 0).await?;
        reply.fails_with("RELEASE of another type", 5, 0x26, 4)?;
        let held = Some((ONE, WRITE_EXCLUSIVE));
        reserved(one, held, "after RELEASE of another type").await
    })
    .await
}

async fn release_not_holder(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE, ONE).await?;
        let reply = out(two, RELEASE, WRITE_EXCLUSIVE, TWO, 0).await?;
        reply.good("RELEASE by a registered session that is not the holder")?;
        let held = Some((ONE, WRITE_EXCLUSIVE));
        reserved(one, held, "after RELEASE by somebody else").await
    })
    .await
}

async fn release_attention(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        let kind = WRITE_EXCLUSIVE_REGISTRANTS;
        reserve(one, kind, ONE).await?;
        out(one, RELEASE, kind, ONE, 0).await?.good("RELEASE")?;
        told(two, 0x2a, 4, "after RELEASE by the holder").await
    })
    .await
}

async fn unregister(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        reserve(one, EXCLUSIVE_ACCESS, ONE).await?;
        let reply = out(one, REGISTER, 0, ONE, 0).await?;
        reply.good("REGISTER of zero by the holder")?;
        reserved(two, None, "after the holder unregistered").await?;
        may(two, "another session", (true, true)).await
    })
    .await
}

async fn unregister_attention(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE_REGISTRANTS, ONE).await?;
        let reply = out(one, REGISTER, 0, ONE, 0).await?;
        reply.good("REGISTER of zero by the holder")?;
        told(two, 0x2a, 4, "after the holder unregistered").await
    })
    .await
}

async fn all_registrants(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        register(two, TWO).await?;
        reserve(one, WRITE_EXCLUSIVE_ALL, ONE).await?;
        let reply = out(one, REGISTER, 0, ONE, 0).await?;
        reply.good("REGISTER of zero by one of two holders")?;
        let held = Some((0, WRITE_EXCLUSIVE_ALL));
        reserved(one, held, "after one of two holders unregistered").await?;
        let who = "a session that is registered no more";
        may(one, who, (true, false)).await?;
        let reply = out(two, REGISTER, 0, TWO, 0).await?;
        reply.good("REGISTER of zero by the last holder")?;
        reserved(one, None, "after the last holder unregistered").await
    })
    .await
}

async fn reserve_six(bench: &Bench) -> Verdict {
    with_two(bench, async |one, two| {
        register(one, ONE).await?;
        let reply = two.session.run(&Task::bare(&[0x16, 0, 0, 0, 0, 0])).await?;
        if reply.is_unknown_opcode() {
            skip!("RESERVE (6) is not supported");
        }
        if reply.status == 0 {
            // It must not stay.
            two.session.run(&Task::bare(&[0x17, 0, 0, 0, 0, 0])).await?;
        }
        ensure!(
            reply.status == 0x18,
            "RESERVE (6) while another session is registered: {} instead of RESERVATION CONFLICT",
            reply.outcome()
        );
        Ok(())
    })
    .await
}
