//! REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS parameter data (SPC-4 §6.37).

use bytes::Bytes;

/// Which task management functions there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskManagement {
    /// ABORT TASK.
    pub abort_task: bool,
    /// ABORT TASK SET.
    pub abort_task_set: bool,
    /// CLEAR ACA.
    pub clear_aca: bool,
    /// CLEAR TASK SET.
    pub clear_task_set: bool,
    /// LOGICAL UNIT RESET.
    pub unit_reset: bool,
    /// QUERY TASK.
    pub query_task: bool,
    /// QUERY ASYNCHRONOUS EVENT.
    pub query_asynchronous_event: bool,
    /// QUERY TASK SET.
    pub query_task_set: bool,
    /// I_T NEXUS RESET.
    pub nexus_reset: bool,
}

impl TaskManagement {
    /// Four bytes; sixteen with timeouts, of which none is promised.
    pub fn build(&self, extended: bool) -> Bytes {
        let bits = |flags: &[(bool, u8)]| {
            flags
                .iter()
                .fold(0, |sum, (set, mask)| sum | if *set { *mask } else { 0 })
        };
        let first = bits(&[
            (self.abort_task, ATS),
            (self.abort_task_set, ATSS),
            (self.clear_aca, CACAS),
            (self.clear_task_set, CTSS),
            (self.unit_reset, LURS),
            (self.query_task, QTS),
        ]);
        let second = bits(&[
            (self.query_asynchronous_event, QAES),
            (self.query_task_set, QTSS),
            (self.nexus_reset, ITNRS),
        ]);
        let mut out = [0u8; EXTENDED_BYTES];
        [out[0], out[1]] = [first, second];
        if extended {
            out[3] = ADDITIONAL_LENGTH;
            Bytes::copy_from_slice(&out)
        } else {
            Bytes::copy_from_slice(&out[..BASIC_BYTES])
        }
    }

    /// Reads the functions; two bytes tell them all.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second] = *bytes.first_chunk::<2>()?;
        Some(Self {
            abort_task: first & ATS != 0,
            abort_task_set: first & ATSS != 0,
            clear_aca: first & CACAS != 0,
            clear_task_set: first & CTSS != 0,
            unit_reset: first & LURS != 0,
            query_task: first & QTS != 0,
            query_asynchronous_event: second & QAES != 0,
            query_task_set: second & QTSS != 0,
            nexus_reset: second & ITNRS != 0,
        })
    }
}

const BASIC_BYTES: usize = 4;
const EXTENDED_BYTES: usize = 16;
const ADDITIONAL_LENGTH: u8 = 0x0c;
const ATS: u8 = 0x80;
const ATSS: u8 = 0x40;
const CACAS: u8 = 0x20;
const CTSS: u8 = 0x10;
const LURS: u8 = 0x08;
const QTS: u8 = 0x04;
const QAES: u8 = 0x04;
const QTSS: u8 = 0x02;
const ITNRS: u8 = 0x01;

#[cfg(test)]
mod tests {
    use super::TaskManagement;

    #[test]
    fn functions_in_bytes() {
        let four = TaskManagement {
            abort_task: true,
            abort_task_set: true,
            clear_task_set: true,
            unit_reset: true,
            ..TaskManagement::default()
        };
        assert_eq!(four.build(false).as_ref(), [0xd8, 0, 0, 0]);
        assert_eq!(
            four.build(true).as_ref(),
            [0xd8, 0, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(TaskManagement::parse(&four.build(false)), Some(four));
        let rest = TaskManagement::parse(&[0x24, 0x07]).unwrap();
        assert!(rest.clear_aca && rest.query_task && rest.query_asynchronous_event);
        assert!(rest.query_task_set && rest.nexus_reset && !rest.abort_task);
        assert_eq!(rest.build(false).as_ref(), [0x24, 0x07, 0, 0]);
        assert_eq!(TaskManagement::parse(&[0x80]), None);
    }
}
