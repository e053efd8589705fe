//! Command descriptor blocks as bytes, spelled out from SPC-4, SPC-2 and SBC-4, and what is refused in them.

use crate::scsi::{
    ByteCheck, Caching, Command, CopyResults, Form, LbaRange, LogControl, ModeForm, ReserveIn,
    ReserveOut, SanitizeAction, Sense, SenseData,
};

fn cdb(front: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out[..front.len()].copy_from_slice(front);
    out
}

fn check_both_ways(expected: &[(&[u8], Command)]) {
    for (bytes, command) in expected {
        assert_eq!(command.cdb(), cdb(bytes), "{command:?}");
        assert_eq!(Command::parse(&cdb(bytes)), Ok(*command));
    }
}

const BOTH: Caching = Caching {
    disable_page_out: true,
    force_unit_access: true,
};

#[test]
fn reading_and_writing_at_once() {
    let range = LbaRange::sixteen(0x0102_0304_0506_0708, 0x090a_0b0c);
    check_both_ways(&[
        (
            &[0x8b, 0x18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            Command::OrWrite {
                range,
                caching: BOTH,
            },
        ),
        (
            &[0x89, 0x18, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0],
            Command::CompareAndWrite {
                lba: 0x0102_0304_0506_0708,
                blocks: 9,
                caching: BOTH,
            },
        ),
        (
            &[0x9c, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            Command::WriteAtomic {
                range: LbaRange::sixteen(0x0102_0304_0506_0708, 0x0b0c),
                caching: Caching {
                    disable_page_out: false,
                    ..BOTH
                },
                boundary: 0x090a,
            },
        ),
    ]);
}

#[test]
fn three_ways_to_verify() {
    let range = LbaRange::twelve(0x0102_0304, 0x0506_0708);
    for (flags, check) in [
        (0x00, ByteCheck::Readable),
        (0x02, ByteCheck::Compare),
        (0x06, ByteCheck::CompareOne),
    ] {
        check_both_ways(&[
            (
                &[0xaf, flags, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
                Command::Verify { range, check },
            ),
            (
                &[0xae, flags, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
                Command::WriteAndVerify { range, check },
            ),
        ]);
    }
}

#[test]
fn mode_pages_and_logs() {
    check_both_ways(&[
        (
            &[0x15, 0x11, 0, 0, 24, 0],
            Command::ModeSelect {
                form: ModeForm::Six,
                page_format: true,
                save: true,
                parameter_length: 24,
            },
        ),
        (
            &[0x55, 0x10, 0, 0, 0, 0, 0, 1, 2, 0],
            Command::ModeSelect {
                form: ModeForm::Ten { long_lba: false },
                page_format: true,
                save: false,
                parameter_length: 0x0102,
            },
        ),
        (
            &[0x4d, 0x01, 0x6f, 0xff, 0, 1, 2, 3, 4, 0],
            Command::LogSense {
                control: LogControl::Cumulative,
                page: 0x2f,
                subpage: 0xff,
                pointer: 0x0102,
                save: true,
                allocation: 0x0304,
            },
        ),
        (
            &[0x4d, 0, 0xc0, 0, 0, 0, 0, 0, 4, 0],
            Command::LogSense {
                control: LogControl::DefaultCumulative,
                page: 0,
                subpage: 0,
                pointer: 0,
                save: false,
                allocation: 4,
            },
        ),
    ]);
}

#[test]
fn reservations_old_and_new() {
    let register = |action, code| {
        let command = Command::PersistentReserveOut {
            action,
            scope: 0,
            kind: 0,
            parameter_length: 24,
        };
        check_both_ways(&[(&[0x5f, code, 0, 0, 0, 0, 0, 0, 24, 0], command)]);
    };
    for (code, action) in [
        ReserveOut::Register,
        ReserveOut::Reserve,
        ReserveOut::Release,
        ReserveOut::Clear,
        ReserveOut::Preempt,
        ReserveOut::PreemptAndAbort,
        ReserveOut::RegisterAndIgnore,
        ReserveOut::RegisterAndMove,
    ]
    .into_iter()
    .enumerate()
    {
        register(action, u8::try_from(code).unwrap());
    }
    let allocation = 0x0102;
    let read = |action| Command::PersistentReserveIn { action, allocation };
    check_both_ways(&[
        (&[0x16], Command::Reserve { form: Form::Six }),
        (&[0x17], Command::Release { form: Form::Six }),
        (&[0x56], Command::Reserve { form: Form::Ten }),
        (&[0x57], Command::Release { form: Form::Ten }),
        (
            &[0x5f, 0x01, 0xf8, 0, 0, 1, 2, 3, 4, 0],
            Command::PersistentReserveOut {
                action: ReserveOut::Reserve,
                scope: 0x0f,
                kind: 8,
                parameter_length: 0x0102_0304,
            },
        ),
        (&[0x5e, 0, 0, 0, 0, 0, 0, 1, 2], read(ReserveIn::ReadKeys)),
        (
            &[0x5e, 1, 0, 0, 0, 0, 0, 1, 2],
            read(ReserveIn::ReadReservation),
        ),
        (
            &[0x5e, 2, 0, 0, 0, 0, 0, 1, 2],
            read(ReserveIn::ReportCapabilities),
        ),
        (
            &[0x5e, 3, 0, 0, 0, 0, 0, 1, 2],
            read(ReserveIn::ReadFullStatus),
        ),
    ]);
}

#[test]
fn port_groups_and_task_management() {
    let allocation = 0x0102_0304;
    check_both_ways(&[
        (
            &[0xa3, 0x0a, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            Command::ReportTargetPortGroups {
                extended: false,
                allocation,
            },
        ),
        (
            &[0xa3, 0x2a, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            Command::ReportTargetPortGroups {
                extended: true,
                allocation,
            },
        ),
        (
            &[0xa3, 0x0d, 0x80, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            Command::ReportTaskManagement {
                extended: true,
                allocation,
            },
        ),
    ]);
}

#[test]
fn copies() {
    let results = |action| Command::ReceiveCopyResults {
        action,
        list_id: 7,
        allocation: 0x0102_0304,
    };
    check_both_ways(&[
        (
            &[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            Command::ExtendedCopy {
                parameter_length: 0x0102_0304,
            },
        ),
        (
            &[0x84, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            results(CopyResults::Status),
        ),
        (
            &[0x84, 1, 7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            results(CopyResults::Data),
        ),
        (
            &[0x84, 3, 7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            results(CopyResults::OperatingParameters),
        ),
        (
            &[0x84, 4, 7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            results(CopyResults::FailedSegmentDetails),
        ),
    ]);
}

#[test]
fn sanitize_and_defects() {
    let sanitize = |action| Command::Sanitize {
        action,
        immediate: true,
        unrestricted: true,
        parameter_length: 0x0102,
    };
    check_both_ways(&[
        (
            &[0x48, 0xa1, 0, 0, 0, 0, 0, 1, 2, 0],
            sanitize(SanitizeAction::Overwrite),
        ),
        (
            &[0x48, 0xa2, 0, 0, 0, 0, 0, 1, 2, 0],
            sanitize(SanitizeAction::BlockErase),
        ),
        (
            &[0x48, 0xa3, 0, 0, 0, 0, 0, 1, 2, 0],
            sanitize(SanitizeAction::CryptographicErase),
        ),
        (
            &[0x48, 0xbf, 0, 0, 0, 0, 0, 1, 2, 0],
            sanitize(SanitizeAction::ExitFailure),
        ),
        (
            &[0x37, 0, 0x1d, 0, 0, 0, 0, 1, 2, 0],
            Command::ReadDefectData {
                form: Form::Ten,
                primary: true,
                grown: true,
                format: 5,
                index: 0,
                allocation: 0x0102,
            },
        ),
        (
            &[0xb7, 0x0b, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
            Command::ReadDefectData {
                form: Form::Twelve,
                primary: false,
                grown: true,
                format: 3,
                index: 0x0102_0304,
                allocation: 0x0506_0708,
            },
        ),
    ]);
}

/// An initiator finds the field in error by the pointer in the sense (SPC-4 §4.5.2.4.2).
#[test]
fn every_refusal_points_at_the_field() {
    let refused: [(&[u8], usize, u8); 37] = [
        (&[0x28, 0x20], 1, 7),
        (&[0x2a, 0x40], 1, 7),
        (&[0xa8, 0x80], 1, 7),
        (&[0xaa, 0x80], 1, 7),
        (&[0x88, 0xe0], 1, 7),
        (&[0x8a, 0xe0], 1, 7),
        (&[0x2e, 0x20], 1, 7),
        (&[0x2f, 0x20], 1, 7),
        (&[0x8b, 0x20], 1, 7),
        (&[0x89, 0x20], 1, 7),
        (&[0x9c, 0x20], 1, 7),
        (&[0x41, 0x20], 1, 7),
        (&[0x93, 0x20], 1, 7),
        (&[0x2f, 0x04], 1, 2),
        (&[0x8e, 0x04], 1, 2),
        (&[0x41, 0x04], 1, 2),
        (&[0x93, 0x02], 1, 1),
        (&[0x12, 0x02], 1, 1),
        (&[0x12, 0x10], 1, 4),
        (&[0x12, 0, 0x83], 2, 7),
        (&[0x9e, 0x1f], 1, 4),
        (&[0xa3, 0x05], 1, 4),
        (&[0xa3, 0x4a], 1, 7),
        (&[0xa3, 0x0c, 0x04], 2, 2),
        (&[0x83, 0x01], 1, 4),
        (&[0x84, 0x02], 1, 4),
        (&[0x5e, 0x04], 1, 4),
        (&[0x5f, 0x08], 1, 4),
        (&[0x48, 0x00], 1, 4),
        (&[0x48, 0x41], 1, 6),
        (&[0x48, 0x02, 0, 0, 9], 4, 7),
        (&[0x4d, 0x02], 1, 1),
        (&[0x15, 0x12], 1, 1),
        (&[0x16, 0x10], 1, 4),
        (&[0x17, 0x01], 1, 0),
        (&[0x56, 0x02], 1, 1),
        (&[0x57, 0x11], 1, 4),
    ];
    for (bytes, byte, bit) in refused {
        let expected = SenseData::cdb_field(byte, bit);
        assert_eq!(Command::parse(&cdb(bytes)), Err(expected), "{bytes:02x?}");
    }
    assert_eq!(
        Command::parse(&cdb(&[0x5d])),
        Err(Sense::new(5, 0x20, 0).into()),
        "there is no field to point at in a command that does not exist"
    );
}

/// NACA is the third bit of the last byte, wherever that is.
#[test]
fn auto_contingent_allegiance_is_refused_in_every_length() {
    for (opcode, control) in [(0x00, 5), (0x25, 9), (0xa0, 11), (0x83, 15)] {
        let mut bytes = cdb(&[opcode]);
        bytes[control] = 0x04;
        assert_eq!(
            Command::parse(&bytes),
            Err(SenseData::cdb_field(control, 2))
        );
        bytes[control] = 0xfb;
        assert!(Command::parse(&bytes).is_ok(), "the others are reserved");
    }
}
