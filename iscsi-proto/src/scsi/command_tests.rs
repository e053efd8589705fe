//! Commands as bytes, spelled out from SPC-4 and SBC-3.

use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{
    ByteCheck, Caching, Command, CopyResults, Form, LbaRange, LogControl, ModeForm, OpcodeQuery,
    PageControl, ReserveIn, ReserveOut, SanitizeAction, Sense, WriteSame,
};

fn cdb(front: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out[..front.len()].copy_from_slice(front);
    out
}

fn range() -> impl Strategy<Value = LbaRange> {
    prop_oneof![
        (any::<u32>(), any::<u16>()).prop_map(|(lba, blocks)| LbaRange::ten(lba, blocks)),
        (any::<u64>(), any::<u32>()).prop_map(|(lba, blocks)| LbaRange::sixteen(lba, blocks)),
    ]
}

fn transfer() -> impl Strategy<Value = (LbaRange, Caching)> {
    let six = (any::<u32>(), any::<u8>())
        .prop_map(|(lba, blocks)| (LbaRange::six(lba, blocks), Caching::default()));
    let twelve =
        (any::<u32>(), any::<u32>()).prop_map(|(lba, blocks)| LbaRange::twelve(lba, blocks));
    let caching = any::<(bool, bool)>().prop_map(|(disable_page_out, force_unit_access)| Caching {
        disable_page_out,
        force_unit_access,
    });
    prop_oneof![six, (prop_oneof![range(), twelve], caching)]
}

fn query() -> impl Strategy<Value = OpcodeQuery> {
    prop_oneof![
        Just(OpcodeQuery::All),
        any::<u8>().prop_map(OpcodeQuery::One),
        any::<(u8, u16)>().prop_map(|(opcode, action)| OpcodeQuery::Action(opcode, action)),
        any::<(u8, u16)>().prop_map(|(opcode, action)| OpcodeQuery::Either(opcode, action)),
    ]
}

fn mode_sense() -> impl Strategy<Value = Command> {
    let control = prop_oneof![
        Just(PageControl::Current),
        Just(PageControl::Changeable),
        Just(PageControl::Default),
        Just(PageControl::Saved)
    ];
    let form = prop_oneof![
        any::<u8>().prop_map(|allocation| (ModeForm::Six, u16::from(allocation))),
        any::<(bool, u16)>()
            .prop_map(|(long_lba, allocation)| (ModeForm::Ten { long_lba }, allocation)),
    ];
    (form, control, 0u8..0x40, any::<u8>(), any::<bool>()).prop_map(
        |((form, allocation), control, page, subpage, no_block_descriptor)| Command::ModeSense {
            form,
            control,
            page,
            subpage,
            no_block_descriptor,
            allocation,
        },
    )
}

fn check() -> impl Strategy<Value = ByteCheck> {
    prop_oneof![
        Just(ByteCheck::Readable),
        Just(ByteCheck::Compare),
        Just(ByteCheck::CompareOne)
    ]
}

fn write_same() -> impl Strategy<Value = Command> {
    (range(), any::<(bool, bool, bool)>()).prop_map(|(range, (unmap, anchor, no_data_out))| {
        let no_data_out = no_data_out && range.form() == Form::Sixteen;
        Command::WriteSame(WriteSame {
            range,
            unmap,
            anchor,
            no_data_out,
        })
    })
}

fn caching() -> impl Strategy<Value = Caching> {
    any::<(bool, bool)>().prop_map(|(disable_page_out, force_unit_access)| Caching {
        disable_page_out,
        force_unit_access,
    })
}

fn compound_command() -> impl Strategy<Value = Command> {
    let sixteen = any::<(u64, u32)>().prop_map(|(lba, blocks)| LbaRange::sixteen(lba, blocks));
    let atomic =
        any::<(u64, u16)>().prop_map(|(lba, blocks)| LbaRange::sixteen(lba, blocks.into()));
    let action = prop_oneof![
        Just(SanitizeAction::Overwrite),
        Just(SanitizeAction::BlockErase),
        Just(SanitizeAction::CryptographicErase),
        Just(SanitizeAction::ExitFailure)
    ];
    let defects = prop_oneof![
        any::<u16>().prop_map(|allocation| (Form::Ten, 0, u32::from(allocation))),
        any::<(u32, u32)>().prop_map(|(index, allocation)| (Form::Twelve, index, allocation)),
    ];
    prop_oneof![
        (sixteen, caching()).prop_map(|(range, caching)| Command::OrWrite { range, caching }),
        (any::<(u64, u8)>(), caching()).prop_map(|((lba, blocks), caching)| {
            Command::CompareAndWrite {
                lba,
                blocks,
                caching,
            }
        }),
        (atomic, caching(), any::<u16>()).prop_map(|(range, caching, boundary)| {
            Command::WriteAtomic {
                range,
                caching,
                boundary,
            }
        }),
        any::<u32>().prop_map(|parameter_length| Command::ExtendedCopy { parameter_length }),
        (copy_results(), any::<(u8, u32)>()).prop_map(|(action, (list_id, allocation))| {
            Command::ReceiveCopyResults {
                action,
                list_id,
                allocation,
            }
        }),
        (action, any::<(bool, bool, u16)>()).prop_map(
            |(action, (immediate, unrestricted, parameter_length))| Command::Sanitize {
                action,
                immediate,
                unrestricted,
                parameter_length,
            }
        ),
        (defects, any::<(bool, bool)>(), 0u8..8).prop_map(
            |((form, index, allocation), (primary, grown), format)| Command::ReadDefectData {
                form,
                primary,
                grown,
                format,
                index,
                allocation,
            }
        ),
    ]
}

fn copy_results() -> impl Strategy<Value = CopyResults> {
    prop_oneof![
        Just(CopyResults::Status),
        Just(CopyResults::Data),
        Just(CopyResults::OperatingParameters),
        Just(CopyResults::FailedSegmentDetails)
    ]
}

fn reserve_in() -> impl Strategy<Value = ReserveIn> {
    prop_oneof![
        Just(ReserveIn::ReadKeys),
        Just(ReserveIn::ReadReservation),
        Just(ReserveIn::ReportCapabilities),
        Just(ReserveIn::ReadFullStatus)
    ]
}

fn reserve_out() -> impl Strategy<Value = ReserveOut> {
    prop_oneof![
        Just(ReserveOut::Register),
        Just(ReserveOut::Reserve),
        Just(ReserveOut::Release),
        Just(ReserveOut::Clear),
        Just(ReserveOut::Preempt),
        Just(ReserveOut::PreemptAndAbort),
        Just(ReserveOut::RegisterAndIgnore),
        Just(ReserveOut::RegisterAndMove)
    ]
}

fn shared_command() -> impl Strategy<Value = Command> {
    let form = prop_oneof![Just(Form::Six), Just(Form::Ten)];
    let select = prop_oneof![
        any::<u8>().prop_map(|length| (ModeForm::Six, u16::from(length))),
        any::<u16>().prop_map(|length| (ModeForm::Ten { long_lba: false }, length)),
    ];
    let control = prop_oneof![
        Just(LogControl::Threshold),
        Just(LogControl::Cumulative),
        Just(LogControl::DefaultThreshold),
        Just(LogControl::DefaultCumulative)
    ];
    prop_oneof![
        form.clone().prop_map(|form| Command::Reserve { form }),
        form.prop_map(|form| Command::Release { form }),
        (reserve_in(), any::<u16>())
            .prop_map(|(action, allocation)| Command::PersistentReserveIn { action, allocation }),
        (reserve_out(), 0u8..16, 0u8..16, any::<u32>()).prop_map(
            |(action, scope, kind, parameter_length)| Command::PersistentReserveOut {
                action,
                scope,
                kind,
                parameter_length,
            }
        ),
        any::<(bool, u32)>().prop_map(|(extended, allocation)| {
            Command::ReportTargetPortGroups {
                extended,
                allocation,
            }
        }),
        any::<(bool, u32)>().prop_map(|(extended, allocation)| {
            Command::ReportTaskManagement {
                extended,
                allocation,
            }
        }),
        (select, any::<(bool, bool)>()).prop_map(
            |((form, parameter_length), (page_format, save))| Command::ModeSelect {
                form,
                page_format,
                save,
                parameter_length,
            }
        ),
        (control, 0u8..0x40, any::<(u8, u16, bool, u16)>()).prop_map(
            |(control, page, (subpage, pointer, save, allocation))| Command::LogSense {
                control,
                page,
                subpage,
                pointer,
                save,
                allocation,
            }
        ),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        medium_command(),
        compound_command(),
        primary_command(),
        shared_command()
    ]
}

fn medium_command() -> impl Strategy<Value = Command> {
    let verify = prop_oneof![
        range(),
        any::<(u32, u32)>().prop_map(|(lba, blocks)| LbaRange::twelve(lba, blocks))
    ];
    prop_oneof![
        transfer().prop_map(|(range, caching)| Command::Read { range, caching }),
        transfer().prop_map(|(range, caching)| Command::Write { range, caching }),
        (verify.clone(), check())
            .prop_map(|(range, check)| Command::WriteAndVerify { range, check }),
        (verify, check()).prop_map(|(range, check)| Command::Verify { range, check }),
        (range(), any::<bool>())
            .prop_map(|(range, immediate)| Command::SynchronizeCache { range, immediate }),
        (range(), any::<bool>())
            .prop_map(|(range, immediate)| Command::PreFetch { range, immediate }),
        any::<(bool, u16)>().prop_map(|(anchor, parameter_length)| Command::Unmap {
            anchor,
            parameter_length
        }),
        write_same(),
        any::<(u64, u32)>().prop_map(|(lba, allocation)| Command::GetLbaStatus { lba, allocation }),
    ]
}

fn primary_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::TestUnitReady),
        Just(Command::ReadCapacity10),
        any::<u32>().prop_map(|allocation| Command::ReadCapacity16 { allocation }),
        any::<(bool, u8)>().prop_map(|(descriptor, allocation)| Command::RequestSense {
            descriptor,
            allocation
        }),
        any::<(Option<u8>, u16)>()
            .prop_map(|(page, allocation)| Command::Inquiry { page, allocation }),
        mode_sense(),
        any::<(u8, u32)>()
            .prop_map(|(select, allocation)| Command::ReportLuns { select, allocation }),
        (any::<(bool, bool, bool)>(), 0u8..16).prop_map(
            |((start, load_eject, immediate), power_condition)| {
                Command::StartStopUnit {
                    start,
                    load_eject,
                    immediate,
                    power_condition,
                }
            }
        ),
        (0u8..4).prop_map(|prevent| Command::PreventAllowMediumRemoval { prevent }),
        (query(), any::<(bool, u32)>()).prop_map(|(query, (timeouts, allocation))| {
            Command::ReportSupportedOpcodes {
                query,
                timeouts,
                allocation,
            }
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_parses_to_the_same(command in any_command()) {
        prop_assert_eq!(Command::parse(&command.cdb()), Ok(command));
    }

    #[test]
    fn whatever_parses_survives_encoding(bytes in any::<[u8; 16]>()) {
        if let Ok(command) = Command::parse(&bytes) {
            prop_assert_eq!(Command::parse(&command.cdb()), Ok(command));
        }
    }
}

#[test]
fn reads_in_four_forms() {
    let read = |range, disable_page_out, force_unit_access| Command::Read {
        range,
        caching: Caching {
            disable_page_out,
            force_unit_access,
        },
    };
    let expected: [(&[u8], Command); 5] = [
        (
            &[0x08, 0x1f, 0x02, 0x03, 0x00, 0],
            read(LbaRange::six(0x1f_0203, 0), false, false),
        ),
        (
            &[0x08, 0x00, 0x00, 0x07, 0x09, 0],
            read(LbaRange::six(7, 9), false, false),
        ),
        (
            &[0x28, 0x18, 1, 2, 3, 4, 0, 5, 6, 0],
            read(LbaRange::ten(0x0102_0304, 0x0506), true, true),
        ),
        (
            &[0xa8, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
            read(LbaRange::twelve(0x0102_0304, 0x0506_0708), false, true),
        ),
        (
            &[0x88, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            read(
                LbaRange::sixteen(0x0102_0304_0506_0708, 0x090a_0b0c),
                true,
                false,
            ),
        ),
    ];
    for (bytes, command) in expected {
        assert_eq!(command.cdb(), cdb(bytes));
        assert_eq!(Command::parse(&cdb(bytes)), Ok(command));
    }
    let Ok(Command::Read { range, .. }) = Command::parse(&cdb(&[0x08, 0, 0, 0, 0, 0])) else {
        panic!("no read")
    };
    assert_eq!(
        range.blocks(),
        256,
        "READ(6) of zero blocks reads 256 (SBC-3 §5.8)"
    );
}

/// Twelve bytes of address and count, 1 to 12, behind an opcode and its flags.
fn sixteen(opcode: u8, flags: u8) -> [u8; 16] {
    [opcode, flags, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]
}

fn check_both_ways(expected: &[([u8; 16], Command)]) {
    for (bytes, command) in expected {
        assert_eq!(command.cdb(), *bytes, "{command:?}");
        assert_eq!(Command::parse(bytes), Ok(*command));
    }
}

#[test]
fn medium_commands_in_bytes() {
    let range = LbaRange::sixteen(0x0102_0304_0506_0708, 0x090a_0b0c);
    let ten = LbaRange::ten(0x0102_0304, 0x0506);
    check_both_ways(&[
        (
            sixteen(0x8e, 0x02),
            Command::WriteAndVerify {
                range,
                check: ByteCheck::Compare,
            },
        ),
        (
            cdb(&[0x2e, 0, 1, 2, 3, 4, 0, 5, 6, 0]),
            Command::WriteAndVerify {
                range: ten,
                check: ByteCheck::Readable,
            },
        ),
        (
            sixteen(0x8f, 0x02),
            Command::Verify {
                range,
                check: ByteCheck::Compare,
            },
        ),
        (
            cdb(&[0x2f, 0, 1, 2, 3, 4, 0, 5, 6, 0]),
            Command::Verify {
                range: ten,
                check: ByteCheck::Readable,
            },
        ),
        (
            cdb(&[0x35, 2, 1, 2, 3, 4, 0, 5, 6, 0]),
            Command::SynchronizeCache {
                range: ten,
                immediate: true,
            },
        ),
        (
            sixteen(0x91, 0),
            Command::SynchronizeCache {
                range,
                immediate: false,
            },
        ),
        (
            cdb(&[0x34, 2, 1, 2, 3, 4, 0, 5, 6, 0]),
            Command::PreFetch {
                range: ten,
                immediate: true,
            },
        ),
        (
            sixteen(0x90, 0),
            Command::PreFetch {
                range,
                immediate: false,
            },
        ),
    ]);
}

#[test]
fn provisioning_commands_in_bytes() {
    let range = LbaRange::sixteen(0x0102_0304_0506_0708, 0x090a_0b0c);
    let ten = LbaRange::ten(0x0102_0304, 0x0506);
    let same = |range, no_data_out| WriteSame {
        range,
        unmap: true,
        anchor: true,
        no_data_out,
    };
    let (lba, allocation) = (0x0102_0304_0506_0708, 0x090a_0b0c);
    check_both_ways(&[
        (
            sixteen(0x9e, 0x12),
            Command::GetLbaStatus { lba, allocation },
        ),
        (
            cdb(&[0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0]),
            Command::Unmap {
                anchor: true,
                parameter_length: 24,
            },
        ),
        (
            cdb(&[0x41, 0x18, 1, 2, 3, 4, 0, 5, 6, 0]),
            Command::WriteSame(same(ten, false)),
        ),
        (sixteen(0x93, 0x19), Command::WriteSame(same(range, true))),
    ]);
}

#[test]
fn primary_commands_in_bytes() {
    check_both_ways(&[
        (cdb(&[0x00]), Command::TestUnitReady),
        (
            cdb(&[0x03, 1, 0, 0, 252, 0]),
            Command::RequestSense {
                descriptor: true,
                allocation: 252,
            },
        ),
        (
            cdb(&[0x12, 0, 0, 0, 36, 0]),
            Command::Inquiry {
                page: None,
                allocation: 36,
            },
        ),
        (
            cdb(&[0x12, 1, 0x83, 0x10, 0x00, 0]),
            Command::Inquiry {
                page: Some(0x83),
                allocation: 0x1000,
            },
        ),
        (cdb(&[0x25]), Command::ReadCapacity10),
        (
            cdb(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32]),
            Command::ReadCapacity16 { allocation: 32 },
        ),
        (
            cdb(&[0xa0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
            Command::ReportLuns {
                select: 2,
                allocation: 256,
            },
        ),
        (
            cdb(&[0x1b, 1, 0, 0, 0x33, 0]),
            Command::StartStopUnit {
                start: true,
                load_eject: true,
                immediate: true,
                power_condition: 3,
            },
        ),
        (
            cdb(&[0x1e, 0, 0, 0, 1, 0]),
            Command::PreventAllowMediumRemoval { prevent: 1 },
        ),
        (
            cdb(&[0xa3, 0x0c, 0x82, 0x9e, 0, 0x12, 0, 0, 2, 0, 0, 0]),
            Command::ReportSupportedOpcodes {
                query: OpcodeQuery::Action(0x9e, 0x12),
                timeouts: true,
                allocation: 512,
            },
        ),
    ]);
}

#[test]
fn what_is_not_supported_is_refused() {
    let invalid_opcode = Sense::new(5, 0x20, 0x00);
    let invalid_field = Sense::new(5, 0x24, 0x00);
    let refused: [(&[u8], Sense); 11] = [
        (&[0xff], invalid_opcode),
        (&[0x9e, 0x1f], invalid_field),
        (&[0xa3, 0x05], invalid_field),
        (&[0x28, 0x20], invalid_field),
        (&[0xa8, 0x80], invalid_field),
        (&[0x8a, 0xe0], invalid_field),
        (&[0x2f, 0x04], invalid_field),
        (&[0x12, 0x00, 0x83], invalid_field),
        (&[0x12, 0x02, 0x00], invalid_field),
        (&[0x41, 0x04], invalid_field),
        // NACA in the control byte.
        (&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04], invalid_field),
    ];
    for (bytes, sense) in refused {
        let refused = Command::parse(&cdb(bytes)).map_err(|detailed| detailed.sense);
        assert_eq!(refused, Err(sense), "{bytes:02x?}");
    }
}
