//! Answers and lists of any bytes: every parser ends, and takes back what was built.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::capacity::Capacity;
use super::defects::DefectList;
use super::inquiry::StandardInquiry;
use super::lba_status::{self, LbaStatus, Provisioning};
use super::task_management::TaskManagement;
use super::{Form, ModeForm, log, luns, mode, unmap};

proptest! {
    #[test]
    fn any_bytes_end(bytes in vec(any::<u8>(), 0..160)) {
        let _ = (Capacity::parse_10(&bytes), Capacity::parse_16(&bytes));
        let _ = (StandardInquiry::parse(&bytes), TaskManagement::parse(&bytes));
        let _ = (luns::parse(&bytes), lba_status::parse(&bytes), unmap::parse(&bytes));
        let _ = (DefectList::parse(Form::Ten, &bytes), DefectList::parse(Form::Twelve, &bytes));
        let _ = mode::parse(ModeForm::Six, &bytes);
        let _ = mode::parse(ModeForm::Ten { long_lba: true }, &bytes);
        if let Some(body) = log::body(0x2f, 0, &bytes) {
            let parameters = log::parameters(body);
            prop_assert!(parameters.len() * 4 <= bytes.len());
        }
    }

    #[test]
    fn lists_of_blocks_parse_to_the_same(runs in vec(any::<(u64, u32)>(), 0..64)) {
        prop_assert_eq!(unmap::parse(&unmap::build(&runs)), Ok(runs.clone()));
        let status: Vec<_> = runs
            .iter()
            .map(|(lba, blocks)| LbaStatus {
                lba: *lba,
                blocks: *blocks,
                provisioning: if blocks % 2 == 0 { Provisioning::Deallocated } else { Provisioning::Mapped },
            })
            .collect();
        prop_assert_eq!(lba_status::parse(&lba_status::build(&status)).unwrap(), status);
        let numbers: Vec<u64> = runs.iter().map(|(lba, _)| *lba).collect();
        let (parsed, whole) = luns::parse(&luns::build(&numbers)).unwrap();
        prop_assert_eq!((parsed, whole), (numbers.clone(), 8 + 8 * numbers.len() as u64));
    }

    #[test]
    fn capacities_parse_to_the_same(
        last in any::<u64>(), block_bytes in any::<u32>(), physical_exponent in 0u8..16, flags in any::<(bool, bool)>(),
    ) {
        let capacity = Capacity {
            blocks: last.max(1),
            block_bytes,
            physical_exponent,
            thin: flags.0,
            reads_zeros: flags.1,
        };
        prop_assert_eq!(Capacity::parse_16(&capacity.build_16()), Some(capacity));
    }

    #[test]
    fn an_answer_that_is_cut_parses_as_far_as_it_goes(numbers in vec(any::<u64>(), 0..16), cut in 0usize..160) {
        let whole = luns::build(&numbers);
        let held: Bytes = whole.slice(..cut.min(whole.len()));
        if let Some((parsed, _)) = luns::parse(&held) {
            prop_assert!(numbers.starts_with(&parsed));
        }
    }
}
