//! What the checks of reservations share: sessions that register, reserve and conflict, and a unit that is free before
//! and after (SPC-4 §6.15, §6.16).

use crate::bench::Bench;
use crate::check::{Finding, Verdict, ensure, skip, violation};
use crate::checks::blocks::{Disk, READ_10, SCRATCH, WRITE_10, byte, cdb, word};
use crate::session::{CHECK_CONDITION, Reply, Session, Task};
use crate::words;

/// Service actions of PERSISTENT RESERVE OUT.
pub(crate) const REGISTER: u8 = 0;
pub(crate) const RESERVE: u8 = 1;
pub(crate) const RELEASE: u8 = 2;
pub(crate) const CLEAR: u8 = 3;
pub(crate) const PREEMPT: u8 = 4;
pub(crate) const PREEMPT_AND_ABORT: u8 = 5;
pub(crate) const REGISTER_AND_IGNORE: u8 = 6;

/// Types of reservations.
pub(crate) const WRITE_EXCLUSIVE: u8 = 1;
pub(crate) const EXCLUSIVE_ACCESS: u8 = 3;
pub(crate) const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
pub(crate) const EXCLUSIVE_ACCESS_REGISTRANTS: u8 = 6;
pub(crate) const WRITE_EXCLUSIVE_ALL: u8 = 7;
pub(crate) const EXCLUSIVE_ACCESS_ALL: u8 = 8;

/// The keys of the two sessions of a check.
pub(crate) const ONE: u64 = 0x1111_2222_3333_4441;
pub(crate) const TWO: u64 = 0x5555_6666_7777_8882;

/// What READ KEYS tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) generation: u32,
    pub(crate) keys: Vec<u64>,
}

/// Plays a script with two sessions, on a unit that nobody has registered with; nor has anybody after it.
pub(crate) async fn with_two(
    bench: &Bench,
    script: impl AsyncFnOnce(&mut Disk, &mut Disk) -> Verdict,
) -> Verdict {
    if !wipe(bench).await? {
        skip!("PERSISTENT RESERVE OUT is not supported");
    }
    let mut one = Disk::open(bench).await?;
    let mut two = Disk::open(bench).await?;
    one.write(SCRATCH, &one.pattern(0, 1)).await?;
    let verdict = script(&mut one, &mut two).await;
    // What went wrong before is what counts.
    let _left_behind = wipe(bench).await;
    verdict
}

/// Ends all registrations and the reservation, whoever has them; false if there can be none.
pub(crate) async fn wipe(bench: &Bench) -> Result<bool, Finding> {
    // Not an ordinary session: TEST UNIT READY may conflict.
    let mut session = bench.log_in(&[]).await.map_err(|finding| match finding {
        Finding::Violation(why) => Finding::Unreachable(why),
        other => other,
    })?;
    let registered = insist(&mut session, &order(REGISTER_AND_IGNORE, 0, 0, ONE)).await?;
    if registered.is_unknown_opcode() {
        return Ok(false);
    }
    insist(&mut session, &order(CLEAR, 0, ONE, 0)).await?;
    Ok(true)
}

/// Sends a command again when a Unit Attention was told in its place.
pub(crate) async fn insist(session: &mut Session, task: &Task) -> Result<Reply, Finding> {
    for _ in 0..MOST_ATTENTIONS {
        let reply = session.run(task).await?;
        if reply.status != CHECK_CONDITION || reply.codes().0 != UNIT_ATTENTION {
            return Ok(reply);
        }
    }
    violation!("{MOST_ATTENTIONS} Unit Attentions in a row")
}

/// A PERSISTENT RESERVE OUT command with the basic parameter list.
pub(crate) fn order(action: u8, kind: u8, key: u64, new: u64) -> Task {
    order_with(action, kind, list(key, new, 0))
}

/// A PERSISTENT RESERVE OUT command with some parameter list.
pub(crate) fn order_with(action: u8, kind: u8, list: Vec<u8>) -> Task {
    let [a, b, c, d] = u32::try_from(list.len()).unwrap_or(0).to_be_bytes();
    Task::write(&[0x5f, action, kind, 0, 0, a, b, c, d, 0], list)
}

/// The basic parameter list: the own key, the key that the action is about, flags.
pub(crate) fn list(key: u64, new: u64, flags: u8) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), new.to_be_bytes()].concat();
    list.extend_from_slice(&[0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

/// A PERSISTENT RESERVE IN command.
pub(crate) fn query(action: u8, room: u16) -> Task {
    let [high, low] = room.to_be_bytes();
    Task::read(&[0x5e, action, 0, 0, 0, 0, 0, high, low, 0], room.into())
}

/// PERSISTENT RESERVE OUT by a session.
pub(crate) async fn out(
    disk: &mut Disk,
    action: u8,
    kind: u8,
    key: u64,
    new: u64,
) -> Result<Reply, Finding> {
    insist(&mut disk.session, &order(action, kind, key, new)).await
}

/// Registers a session that is not registered.
pub(crate) async fn register(disk: &mut Disk, key: u64) -> Verdict {
    let reply = out(disk, REGISTER, 0, 0, key).await?;
    reply.good("REGISTER of a session that is not registered")?;
    Ok(())
}

/// Reserves; a type that is not supported makes the check not applicable.
pub(crate) async fn reserve(disk: &mut Disk, kind: u8, key: u64) -> Verdict {
    let reply = out(disk, RESERVE, kind, key, 0).await?;
    if reply.codes() == (5, 0x24, 0) {
        skip!("reservations of type {kind} are not supported");
    }
    reply.good(&format!("RESERVE of type {kind} by a registered session"))?;
    Ok(())
}

/// READ KEYS.
pub(crate) async fn keys(disk: &mut Disk) -> Result<Keys, Finding> {
    let reply = insist(&mut disk.session, &query(0, 1024)).await?;
    let data = reply.good("READ KEYS")?.data;
    ensure!(data.len() >= 8, "READ KEYS brings {} bytes", data.len());
    let told = usize::try_from(word(&data, 4)).unwrap_or(usize::MAX);
    ensure!(
        told % 8 == 0 && told <= data.len() - 8,
        "READ KEYS says that {told} bytes of keys follow, and {} do",
        data.len() - 8
    );
    let list = data.get(8..8 + told).unwrap_or_default();
    let mut keys: Vec<u64> = list.chunks_exact(8).map(|key| long(key, 0)).collect();
    keys.sort_unstable();
    Ok(Keys {
        generation: word(&data, 0),
        keys,
    })
}

/// These keys are registered, and no others.
pub(crate) async fn registered(disk: &mut Disk, expected: &[u64], when: &str) -> Verdict {
    let found = keys(disk).await?.keys;
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    ensure!(
        found == expected,
        "{when}: the keys {} are registered instead of {}",
        words::list(found.iter().map(|key| format!("{key:x}"))),
        words::list(expected.iter().map(|key| format!("{key:x}")))
    );
    Ok(())
}

/// READ RESERVATION: key and type, if there is a reservation.
pub(crate) async fn reservation(disk: &mut Disk) -> Result<Option<(u64, u8)>, Finding> {
    let reply = insist(&mut disk.session, &query(1, 64)).await?;
    let data = reply.good("READ RESERVATION")?.data;
    ensure!(
        data.len() >= 8,
        "READ RESERVATION brings {} bytes",
        data.len()
    );
    let told = word(&data, 4);
    ensure!(
        matches!((told, data.len()), (0, _) | (16, 24..)),
        "READ RESERVATION says that {told} bytes follow, and {} do",
        data.len() - 8
    );
    Ok((told != 0).then(|| (long(&data, 8), byte(&data, 21))))
}

/// This reservation is held, or none.
pub(crate) async fn reserved(disk: &mut Disk, expected: Option<(u64, u8)>, when: &str) -> Verdict {
    let found = reservation(disk).await?;
    let show = |held: Option<(u64, u8)>| match held {
        Some((key, kind)) => format!("key {key:x} with scope and type {kind:02x}"),
        None => "no reservation".to_owned(),
    };
    ensure!(
        found == expected,
        "{when}: READ RESERVATION says {} instead of {}",
        show(found),
        show(expected)
    );
    Ok(())
}

/// Whether a session may read and write, as it must or must not.
pub(crate) async fn may(disk: &mut Disk, who: &str, (reads, writes): (bool, bool)) -> Verdict {
    let read = Task::read(&cdb(READ_10, 0, SCRATCH, 1), disk.block_bytes);
    let reply = insist(&mut disk.session, &read).await?;
    judge(reply, reads, &format!("READ (10) by {who}"))?;
    let write = Task::write(&cdb(WRITE_10, 0, SCRATCH, 1), disk.pattern(7, 1));
    let reply = insist(&mut disk.session, &write).await?;
    judge(reply, writes, &format!("WRITE (10) by {who}"))
}

fn judge(reply: Reply, allowed: bool, what: &str) -> Verdict {
    if allowed {
        reply.good(what).map(drop)
    } else {
        conflicts(&reply, what)
    }
}

/// RESERVATION CONFLICT is the answer that has to come.
pub(crate) fn conflicts(reply: &Reply, what: &str) -> Verdict {
    ensure!(
        reply.status == CONFLICT,
        "{what}: {} instead of RESERVATION CONFLICT",
        reply.outcome()
    );
    Ok(())
}

/// A session must be told of this Unit Attention, and may be told of others.
pub(crate) async fn told(disk: &mut Disk, asc: u8, ascq: u8, after: &str) -> Verdict {
    let mut codes = Vec::new();
    for _ in 0..MOST_ATTENTIONS {
        let reply = disk.session.run(&Task::bare(&[0; 6])).await?;
        if reply.codes().0 != UNIT_ATTENTION {
            break;
        }
        codes.push(reply.codes());
    }
    ensure!(
        codes.contains(&(UNIT_ATTENTION, asc, ascq)),
        "{after}: no Unit Attention 6/{asc:02x}/{ascq:02x}, but {}",
        words::list(codes.into_iter().map(words::sense))
    );
    Ok(())
}

/// Eight bytes of a page; what is missing is zero.
pub(crate) fn long(page: &[u8], at: usize) -> u64 {
    u64::from(word(page, at)) << 32 | u64::from(word(page, at + 4))
}

const UNIT_ATTENTION: u8 = 6;
const CONFLICT: u8 = 0x18;
const MOST_ATTENTIONS: usize = 8;
