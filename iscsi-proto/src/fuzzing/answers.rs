//! The initiator's end of a login, whose target says whatever a fuzzer wants.

use bytes::BytesMut;

use crate::fuzzing::Source;
use crate::fuzzing::logins::{CHALLENGE, DISK_SECRET, IDENTIFIER, WORDS, account, right_response};
use crate::fuzzing::script::written;
use crate::fuzzing::sessions::start;
use crate::login::{Algorithm, DigestChoice, InitiatorChap, InitiatorOffer};
use crate::session::{InitiatorConfig, InitiatorEvent, InitiatorSession};
use crate::wire::bhs::{BHS_BYTES, LoginRequest, LoginResponse};
use crate::wire::framer::Digests;
use crate::wire::{Header, Pdu};

/// Nobody passes for a target that owes a proof and does not know the secret.
pub(super) fn login(control: u8, source: &mut Source<'_>) {
    let now = start();
    let name = |name: &str| name.parse().expect("a name");
    let mutual = control & 0x01 != 0;
    let chap = InitiatorChap {
        account: account("host", b"what the host knows"),
        mutual: mutual.then(|| account("disk", DISK_SECRET)),
        algorithms: Algorithm::ALL.to_vec(),
        identifier: IDENTIFIER,
        challenge: CHALLENGE.to_vec(),
    };
    let offer = InitiatorOffer {
        chap: (control & 0x03 != 0).then_some(chap),
        header_digest: DigestChoice::PreferCrc32c,
        ..InitiatorOffer::normal(
            name("iqn.2026-01.org.example:host"),
            name("iqn.2026-01.org.example:disk"),
            [0x80, 0, 0, 0, 0, 1],
        )
    };
    let mut session = InitiatorSession::new(InitiatorConfig::new(offer), now);
    let (mut proved, mut stat_sn) = (false, 1);
    while !source.is_empty() {
        let asked = asked(&mut session);
        let mut input = BytesMut::from(answer(asked, stat_sn, &mut proved, source).as_slice());
        stat_sn += 1;
        session.handle_bytes(now, &mut input);
        match session.poll_event() {
            None => {}
            Some(InitiatorEvent::LoggedIn(_)) => {
                assert!(proved || !mutual, "the target owes its proof");
                return;
            }
            Some(InitiatorEvent::Ended(_)) => return,
            Some(other) => panic!("no event of a login: {other:?}"),
        }
    }
}

/// The latest request.
fn asked(session: &mut InitiatorSession) -> LoginRequest {
    let mut asked = LoginRequest::default();
    while let Some(bytes) = session.poll_transmit() {
        if let Some(Header::LoginRequest(header)) =
            bytes.first_chunk::<BHS_BYTES>().map(Header::decode)
        {
            asked = header;
        }
    }
    asked
}

/// A Login Response, by the rules most of the time.
fn answer(
    asked: LoginRequest,
    stat_sn: u32,
    proved: &mut bool,
    source: &mut Source<'_>,
) -> Vec<u8> {
    let odd = source.byte();
    let mut header = LoginResponse {
        // The stages that were asked for, most often.
        flags: source.pick(&[
            asked.flags,
            asked.flags,
            asked.flags & 0x0c,
            0x81,
            0x83,
            0x87,
            0x00,
            0x40,
        ]),
        isid: asked.isid,
        tsih: u16::from(source.byte() % 2).into(),
        initiator_task_tag: asked.initiator_task_tag,
        stat_sn: stat_sn.into(),
        exp_cmd_sn: asked.cmd_sn,
        max_cmd_sn: asked.cmd_sn,
        ..LoginResponse::default()
    };
    if odd >= 0xe0 {
        header.flags = source.byte();
        header.status_class = source.byte() % 5;
        header.status_detail = source.byte() % 12;
        header.stat_sn = source.near(stat_sn).into();
        header.version_max = source.byte() % 2;
    }
    let mut said = Vec::new();
    for _ in 0..source.byte() % 8 {
        match source.byte() {
            255 => {
                let length = usize::from(source.byte());
                said.extend_from_slice(source.take(length));
            }
            254 => {
                let algorithm = source.pick(&Algorithm::ALL);
                said.extend_from_slice(&right_response(algorithm, DISK_SECRET));
                *proved = true;
            }
            253 => said.extend_from_slice(b"CHAP_N=disk\0TargetPortalGroupTag=1\0"),
            252 => said.extend_from_slice(b"TargetAddress=192.0.2.1:3260\0"),
            word => {
                said.extend_from_slice(WORDS[usize::from(word) % WORDS.len()].as_bytes());
                said.push(0);
            }
        }
    }
    written(&Pdu::new(header, said.into()), Digests::default())
}
