//! RESERVE and RELEASE (SPC-2 §7.16, §7.17, §7.21, §7.22), obsolete and still what some initiators lock disks with.

use crate::bench::Bench;
use crate::check::{Verdict, checks, ensure, skip};
use crate::checks::blocks::{Disk, SCRATCH, WRITE_10};
use crate::checks::registrants::{conflicts, may, wipe};
use crate::management::UNIT_RESET;
use crate::session::{Reply, Task};

checks! {
    "reserve.six", "SPC-2 §7.22", Must, Writes,
        "RESERVE (6), and READ and WRITE by another session" => "RESERVATION CONFLICT for both", six;
    "reserve.ten", "SPC-2 §7.21", Must, Writes,
        "RESERVE (10), and READ and WRITE by another session" => "RESERVATION CONFLICT for both", ten;
    "reserve.blocked-write", "SPC-2 §5.5.1", Must, Writes,
        "WRITE that conflicts with RESERVE" => "the block keeps its content", blocked_write;
    "reserve.admits", "SPC-2 §5.5.1", Must, Writes,
        "INQUIRY, REPORT LUNS and REQUEST SENSE while another session has reserved the unit"
        => "GOOD", admits;
    "reserve.holder", "SPC-2 §7.22", Must, Writes,
        "READ, WRITE and RESERVE by the session that has reserved the unit" => "GOOD", holder;
    "reserve.taken", "SPC-2 §7.22", Must, Writes,
        "RESERVE while another session has reserved the unit"
        => "RESERVATION CONFLICT, and the holder goes on", taken;
    "release.frees", "SPC-2 §7.17", Must, Writes,
        "RELEASE by the holder" => "GOOD, and others read, write and reserve", frees;
    "release.not-holder", "SPC-2 §7.17", Must, Writes,
        "RELEASE by another session" => "GOOD, and the reservation stays", not_holder;
    "release.nothing", "SPC-2 §7.17", Must, Writes,
        "RELEASE without a reservation" => "GOOD: that is no error", nothing;
    "release.reset", "RFC 7143 §4.4.3.2", Must, Writes,
        "a logout of the holder, and LOGICAL UNIT RESET by another session if the reservation stays"
        => "the unit is free", reset;
}

async fn six(bench: &Bench) -> Verdict {
    excludes(bench, SIX).await
}

async fn ten(bench: &Bench) -> Verdict {
    excludes(bench, TEN).await
}

async fn excludes(bench: &Bench, form: Form) -> Verdict {
    while_reserved(bench, form, async |_, other| {
        let who = "a session while another one has reserved the unit";
        may(other, who, (false, false)).await
    })
    .await
}

async fn blocked_write(bench: &Bench) -> Verdict {
    while_reserved(bench, SIX, async |holder, other| {
        let old = holder.pattern(1, 1);
        holder.write(SCRATCH, &old).await?;
        let data = other.pattern(2, 1);
        other.put(WRITE_10, 0, SCRATCH, &data).await?;
        holder
            .holds(SCRATCH, &old, "after a WRITE that conflicts")
            .await
    })
    .await
}

async fn admits(bench: &Bench) -> Verdict {
    while_reserved(bench, SIX, async |_, other| {
        let luns = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        let allowed = [
            ("INQUIRY", Task::read(&[0x12, 0, 0, 0, 96], 96)),
            ("REPORT LUNS", Task::read(&luns, 256)),
            ("REQUEST SENSE", Task::read(&[0x03, 0, 0, 0, 96], 96)),
        ];
        for (name, task) in allowed {
            other.session.run(&task).await?.good(&format!(
                "{name} while another session has reserved the unit"
            ))?;
        }
        Ok(())
    })
    .await
}

async fn holder(bench: &Bench) -> Verdict {
    while_reserved(bench, SIX, async |holder, _| {
        may(holder, "the holder", (true, true)).await?;
        let reply = holder.session.run(&Task::bare(&SIX.reserve)).await?;
        reply.good("RESERVE by the holder")?;
        Ok(())
    })
    .await
}

async fn taken(bench: &Bench) -> Verdict {
    while_reserved(bench, SIX, async |holder, other| {
        let reply = other.session.run(&Task::bare(&SIX.reserve)).await?;
        if reply.status == 0 {
            // It must not stay.
            other.session.run(&Task::bare(&SIX.release)).await?;
        }
        conflicts(
            &reply,
            "RESERVE while another session has reserved the unit",
        )?;
        may(holder, "the holder", (true, true)).await
    })
    .await
}

async fn frees(bench: &Bench) -> Verdict {
    while_reserved(bench, SIX, async |holder, other| {
        let reply = holder.session.run(&Task::bare(&SIX.release)).await?;
        reply.good("RELEASE by the holder")?;
        may(other, "another session after RELEASE", (true, true)).await?;
        let reply = other.session.run(&Task::bare(&SIX.reserve)).await?;
        other.session.run(&Task::bare(&SIX.release)).await?;
        reply.good("RESERVE by another session after RELEASE")?;
        Ok(())
    })
    .await
}

async fn not_holder(bench: &Bench) -> Verdict {
    while_reserved(bench, SIX, async |_, other| {
        let reply = other.session.run(&Task::bare(&SIX.release)).await?;
        reply.good("RELEASE by a session that is not the holder")?;
        let who = "a session whose RELEASE was not the holder's";
        may(other, who, (false, false)).await
    })
    .await
}

async fn nothing(bench: &Bench) -> Verdict {
    wipe(bench).await?;
    let mut disk = Disk::open(bench).await?;
    let reply = disk.session.run(&Task::bare(&SIX.release)).await?;
    known(&reply)?;
    reply.good("RELEASE without a reservation")?;
    Ok(())
}

/// That a reservation ends with its nexus is written nowhere (RFC 7143 §4.4.3.2): a target may keep it until a reset.
async fn reset(bench: &Bench) -> Verdict {
    while_reserved(bench, SIX, async |holder, other| {
        let logout = holder.session.logout(0);
        holder
            .session
            .send(iscsi_proto::wire::Pdu::bare(logout))
            .await;
        holder.session.receive().await?;
        let data = other.pattern(1, 1);
        let reply = other.put(WRITE_10, 0, SCRATCH, &data).await?;
        if reply.status == 0 {
            return Ok(());
        }
        conflicts(&reply, "WRITE after a logout of the holder")?;
        let request = other.session.management(UNIT_RESET);
        let (response, _) = other.session.manage(request).await?;
        ensure!(
            response.response == 0,
            "the reservation stays after a logout, and LOGICAL UNIT RESET has response {}",
            response.response
        );
        other.session.take_attentions().await?;
        may(
            other,
            "another session after LOGICAL UNIT RESET",
            (true, true),
        )
        .await
    })
    .await
}

/// A pair of commands.
#[derive(Clone, Copy)]
struct Form {
    reserve: [u8; 10],
    release: [u8; 10],
}

const SIX: Form = Form {
    reserve: [0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    release: [0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};
const TEN: Form = Form {
    reserve: [0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    release: [0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Plays a script while its first session has reserved the unit, which is free afterwards.
async fn while_reserved(
    bench: &Bench,
    form: Form,
    script: impl AsyncFnOnce(&mut Disk, &mut Disk) -> Verdict,
) -> Verdict {
    // While anybody is registered RESERVE conflicts.
    wipe(bench).await?;
    let mut holder = Disk::open(bench).await?;
    let mut other = Disk::open(bench).await?;
    holder.write(SCRATCH, &holder.pattern(0, 1)).await?;
    let reply = holder.session.run(&Task::bare(&form.reserve)).await?;
    known(&reply)?;
    reply.good("RESERVE of a unit that is free")?;
    let verdict = script(&mut holder, &mut other).await;
    // What went wrong before is what counts.
    let _ended = holder.session.run(&Task::bare(&form.release)).await;
    verdict
}

fn known(reply: &Reply) -> Verdict {
    if reply.is_unknown_opcode() {
        skip!("RESERVE and RELEASE are not supported");
    }
    Ok(())
}
