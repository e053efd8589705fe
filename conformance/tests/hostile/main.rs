//! The suite against targets that do it no good: it ends in time, whatever they do, and says something sensible.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

#[allow(dead_code, reason = "every test binary uses another part of it")]
#[path = "../broken/mod.rs"]
mod broken;
mod targets;

use std::time::{Duration, Instant};

use broken::{Act, Broken, Kind, Saboteur, Seen};
use futures::StreamExt as _;
use iscsi_conformance::{Facts, Judged, Outcome, Run, Subject, Unusable, all, probe};
use iscsi_proto::wire::Header;
use targets::{Dice, Hostile, Manner};

/// How many checks are played together where they only wait.
const AT_ONCE: usize = 64;
/// How many are played together where each may hold as much as a check may.
const FEW_AT_ONCE: usize = 16;
/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_millis(300);
/// What this whole process may hold, with all tests that run beside one another.
const MOST_KIB: u64 = 1024 * 1024;
/// How long the suite waits for an answer.
const PATIENCE: Duration = Duration::from_millis(30);

fn subject(address: impl ToString) -> Subject {
    let account = |(user, secret): (&str, &str)| iscsi_conformance::Credentials {
        user: user.to_owned(),
        secret: secret.as_bytes().to_vec().into(),
    };
    Subject {
        address: address.to_string(),
        target: broken::NAME.to_owned(),
        lun: 0,
        initiator: "iqn.2013-07.org.vmthunder:conformance".to_owned(),
        chap: Some(account(broken::CHAP[0])),
        mutual: Some(account(broken::CHAP[1])),
        patience: PATIENCE,
    }
}

fn facts() -> Facts {
    Facts {
        block_bytes: 512,
        blocks: 65_536,
        serial: "sound".to_owned(),
        product: "VMTHNDR sound".to_owned(),
        read_only: false,
    }
}

/// Every check alone, so that none is left out because of another.
async fn each_alone(subject: &Subject, at_once: usize) -> Vec<Judged> {
    let facts = facts();
    let runs = all().into_iter().map(|check| {
        let (subject, facts) = (subject.clone(), facts.clone());
        async move {
            let run = Run {
                destructive: true,
                check_limit: CHECK_LIMIT,
                ..Run::new(&subject, &facts)
            };
            let report = run.judge(&[check], std::future::pending(), |_| {}).await;
            report.judged
        }
    });
    let judged: Vec<Vec<Judged>> = futures::stream::iter(runs)
        .buffered(at_once)
        .collect()
        .await;
    judged.into_iter().flatten().collect()
}

/// What holds for every report: a verdict for each check, a reason for each that did not pass, nothing that a terminal
/// would obey, nothing endless, and no script that ended in a panic.
fn is_sensible(judged: &[Judged]) {
    let names: Vec<_> = judged.iter().map(|judged| judged.rule.name).collect();
    let all: Vec<_> = all().iter().map(|check| check.rule.name).collect();
    assert_eq!(names, all);
    for judged in judged {
        let passed = judged.outcome == Outcome::Passed;
        let fine = judged.detail.is_empty() || judged.detail.starts_with("afterwards the target");
        assert_eq!(fine, passed, "{judged:?}");
        assert_ne!(judged.outcome, Outcome::Error, "{judged:?}");
        let lines = judged.transcript.iter().chain([&judged.detail]);
        for line in lines {
            assert!(
                line.len() < 10_000 && !line.contains(char::is_control),
                "{line}"
            );
        }
        assert!(judged.transcript.len() <= 201);
        // The limit of one check, and what a busy machine adds.
        assert!(judged.seconds < 10.0, "{judged:?}");
    }
}

async fn survives(manner: Manner) {
    let target = Hostile::start(manner).await;
    let subject = subject(target.address);
    // None of them is a target that could be judged at all.
    let began = Instant::now();
    let refused = probe(&subject).await.unwrap_err();
    assert!(!refused.to_string().is_empty());
    assert!(began.elapsed() < Duration::from_secs(20), "{manner:?}");
    let at_once = if manner == Manner::Floods {
        FEW_AT_ONCE
    } else {
        AT_ONCE
    };
    is_sensible(&each_alone(&subject, at_once).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_ends_against_targets_that_say_nothing() {
    for manner in [
        Manner::Silent,
        Manner::Deaf,
        Manner::SilentAfterLogin,
        Manner::Trickles,
    ] {
        survives(manner).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_ends_against_targets_that_close() {
    for manner in [Manner::Closes, Manner::ClosesAtRandom] {
        survives(manner).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_ends_against_targets_that_talk_nonsense() {
    for manner in [
        Manner::Noise,
        Manner::RandomPdus,
        Manner::RandomAfterLogin,
        Manner::Pings,
    ] {
        survives(manner).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_whose_data_has_no_end_costs_no_memory_without_end() {
    survives(Manner::Floods).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("{kib} KiB at the peak");
    assert!(kib < MOST_KIB, "{kib} KiB");
}

/// A sound target whose answers are lost, doubled, damaged or replaced now and then, or whose connection breaks.
fn mangles(seed: u64) -> Saboteur {
    let mut dice = Dice(seed);
    Box::new(move |seen, lane| {
        let Seen::Response(pdu) = seen else {
            return Act::Pass;
        };
        let tag = broken::common(pdu).initiator_task_tag.get().to_be_bytes();
        match dice.below(40) {
            0 => Act::Replace(Vec::new()),
            1 => Act::Replace(vec![pdu.clone(), pdu.clone()]),
            2 => {
                lane.hang_up();
                Act::Pass
            }
            3 => Act::Replace(vec![dice.pdu(&tag)]),
            4 => Act::Replace(vec![dice.pdu(&tag), pdu.clone()]),
            5 => {
                let mut bytes = lane.encode(pdu);
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
                lane.bytes_to_initiator(bytes.into());
                Act::Replace(Vec::new())
            }
            6 => {
                let mut bytes = lane.encode(pdu);
                bytes.truncate(dice.below(bytes.len()));
                lane.bytes_to_initiator(bytes.into());
                lane.hang_up();
                Act::Replace(Vec::new())
            }
            _ => Act::Pass,
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_ends_against_a_target_that_is_sound_but_now_and_then() {
    for seed in 0..4 {
        let target = Broken::start(Kind::ALL[usize::from(seed % 2 == 1)], mangles(seed)).await;
        is_sensible(&each_alone(&subject(target.address), AT_ONCE).await);
    }
}

/// The whole suite in its order, as the command line plays it.
async fn whole(manner: Manner) -> (iscsi_conformance::Report, Duration) {
    let target = Hostile::start(manner).await;
    let (subject, facts) = (subject(target.address), facts());
    let run = Run {
        destructive: true,
        check_limit: CHECK_LIMIT,
        ..Run::new(&subject, &facts)
    };
    let began = Instant::now();
    let report = run.judge(&all(), std::future::pending(), |_| {}).await;
    (report, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_breaks_off_when_nobody_lets_it_in() {
    let whole = futures::future::join_all(Manner::ALL.map(whole)).await;
    for (manner, (report, took)) in Manner::ALL.into_iter().zip(whole) {
        is_sensible(&report.judged);
        let why = report.broken_off.unwrap();
        assert!(why.contains("no ordinary initiator"), "{manner:?}: {why}");
        assert!(took < Duration::from_secs(60), "{manner:?}: {took:?}");
    }
}

/// What a check says of a target.
async fn told(address: std::net::SocketAddr, patience: Duration, name: &str) -> (Outcome, String) {
    let subject = Subject {
        patience,
        ..subject(address)
    };
    let facts = facts();
    let run = Run {
        check_limit: Duration::from_secs(60),
        ..Run::new(&subject, &facts)
    };
    let checks: Vec<_> = all()
        .into_iter()
        .filter(|check| check.rule.name == name)
        .collect();
    let report = run.judge(&checks, std::future::pending(), |_| {}).await;
    let [judged] = &report.judged[..] else {
        panic!("{name} is no check");
    };
    let of_silence = judged.detail.contains("no answer in time");
    assert_eq!(judged.is_of_silence(), of_silence, "{judged:?}");
    (judged.outcome, judged.detail.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_drips_is_no_fault_of_the_target() {
    let sound = Broken::start(Kind::Plain, broken::nothing()).await;
    let pace = Duration::from_millis(4);
    let slow = targets::Dripping::start(sound.address, pace).await;
    // Less than the answer takes to come, and many times the pace.
    let patience = Duration::from_millis(300);
    let told = told(slow.address, patience, "nop.echo").await;
    assert_eq!(told, (Outcome::Passed, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_connection_is_told_as_such_and_silence_as_silence() {
    /// Hangs up on a login request that has this pair.
    fn closes_on(pair: &'static str) -> Saboteur {
        Box::new(move |seen, lane| {
            if let Seen::Request(pdu) = seen
                && pdu
                    .data
                    .split(|byte| *byte == 0)
                    .any(|one| one == pair.as_bytes())
            {
                lane.hang_up();
                return Act::Replace(Vec::new());
            }
            Act::Pass
        })
    }
    /// Says nothing to Text Requests, and hangs up on pings.
    fn drops_texts() -> Saboteur {
        Box::new(|seen, lane| match seen {
            Seen::Request(pdu) if matches!(pdu.header, Header::TextRequest(_)) => {
                Act::Replace(Vec::new())
            }
            Seen::Request(pdu) if matches!(pdu.header, Header::NopOut(_)) => {
                lane.hang_up();
                Act::Replace(Vec::new())
            }
            _ => Act::Pass,
        })
    }
    for (name, saboteur, says) in [
        (
            "login.security.order",
            closes_on("AuthMethod=None"),
            "alone, None by the end of the connection and CHAP by",
        ),
        (
            "login.values.header-digest-order",
            closes_on("HeaderDigest=None"),
            "HeaderDigest=None,CRC32C is answered by None; alone, CRC32C by CRC32C and None by the end of the connection",
        ),
        (
            "sendtargets.discovery.name-only",
            drops_texts(),
            "no answer in time to a Text Request",
        ),
        (
            "sendtargets.normal.own",
            drops_texts(),
            "the target hangs up on a NOP-Out, 500 ms of silence after a Text Request",
        ),
    ] {
        let target = Broken::start(Kind::Plain, saboteur).await;
        let (outcome, detail) = told(target.address, Duration::from_secs(2), name).await;
        assert_eq!(outcome, Outcome::Failed, "{name}: {detail}");
        assert!(detail.contains(says), "{name}: {detail}");
    }
}

/// Another service, which says this to whoever comes.
fn banner(text: &'static str) -> std::net::SocketAddr {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // Open for longer than anybody waits for more.
        let (mut client, _) = listener.accept()?;
        client.write_all(text.as_bytes())?;
        std::io::copy(&mut client, &mut std::io::sink())
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_target_cannot_be_judged_is_told_apart() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let refused = probe(&subject(nobody)).await.unwrap_err();
    assert!(matches!(refused, Unusable::NotReached(_)), "{refused:?}");

    let plain = Broken::start(Kind::Plain, broken::nothing()).await;
    let sound = Subject {
        patience: Duration::from_secs(10),
        ..subject(plain.address)
    };
    assert_eq!(probe(&sound).await.unwrap().block_bytes, 512);
    let mut wrong = sound.clone();
    wrong.target += "x";
    let refused = probe(&wrong).await.unwrap_err();
    assert!(matches!(refused, Unusable::Refused(0x0203)), "{refused:?}");
    let wrong = Subject { lun: 77, ..sound };
    let refused = probe(&wrong).await.unwrap_err();
    assert!(
        matches!(&refused, Unusable::NoUnit(there) if there.contains(&0)),
        "{refused:?}"
    );

    let chap = Broken::start(Kind::Chap, broken::nothing()).await;
    let stranger = Subject {
        chap: None,
        address: chap.address.to_string(),
        patience: Duration::from_secs(10),
        ..subject(chap.address)
    };
    let refused = probe(&stranger).await.unwrap_err();
    assert!(matches!(refused, Unusable::Refused(0x0201)), "{refused:?}");

    let both = Subject {
        patience: Duration::from_secs(10),
        ..subject(chap.address)
    };
    assert_eq!(probe(&both).await.unwrap().block_bytes, 512);
    let mut wrong = both.clone();
    wrong.mutual.as_mut().unwrap().secret = b"another secret of it".to_vec().into();
    let refused = probe(&wrong).await.unwrap_err();
    assert!(matches!(refused, Unusable::OtherSecret), "{refused:?}");
    let mut wrong = both.clone();
    wrong.mutual.as_mut().unwrap().user += "x";
    let refused = probe(&wrong).await.unwrap_err();
    let name = broken::CHAP[1].0;
    assert!(
        matches!(&refused, Unusable::OtherName(found) if found == name),
        "{refused:?}"
    );

    let other = banner("SSH-2.0-OpenSSH_10.0\r\n");
    let refused = probe(&subject(other)).await.unwrap_err().to_string();
    assert!(
        refused.contains("\"SSH-2.0-OpenSSH_10.0\\r\\n\""),
        "{refused}"
    );
    let silent = Hostile::start(Manner::Silent).await;
    let refused = probe(&subject(silent.address)).await.unwrap_err();
    assert!(matches!(refused, Unusable::NoLogin(_)), "{refused:?}");
    let silent = Hostile::start(Manner::SilentAfterLogin).await;
    let refused = probe(&subject(silent.address)).await.unwrap_err();
    assert!(matches!(refused, Unusable::NotReady(_)), "{refused:?}");
}
