//! What a unit must have in common with itself on every path.

use std::collections::BTreeSet;

use bytes::Bytes;
use iscsi_proto::scsi::vpd;
use iscsi_proto::wire::lun::Lun;

use crate::identity::Identity;
use crate::job::UnitSize;
use crate::{Error, Session};

/// What a unit must have in common with itself on every path, whatever its size: the names that no other unit has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitName {
    block_bytes: u32,
    /// Kind, code set and value of the designators (SPC-4 §7.8.6); in any order, since ports need not agree on one.
    designators: BTreeSet<(u8, u8, Bytes)>,
    /// The unit serial number (SPC-4 §7.8.15), where there is no designator.
    serial: Bytes,
}

impl UnitName {
    /// Attaches to a unit and learns its name; from then on it must stay what it is. A unit without any name is refused:
    /// nothing would tell it from another one of its size.
    pub(crate) async fn attach(
        session: &Session,
        lun: Lun,
    ) -> Result<(Self, Identity, UnitSize), Error> {
        let (identity, size) = session.attach(lun).await?;
        let mut name = Self::new(&identity);
        if name.designators.is_empty() {
            let page = session.vital_page(lun, vpd::UNIT_SERIAL_NUMBER).await?;
            name.serial = page.as_deref().map(serial).unwrap_or_default();
        }
        match name.designators.is_empty() && name.serial.is_empty() {
            true => Err(Error::NamelessUnit),
            false => Ok((name, identity, size)),
        }
    }

    fn new(identity: &Identity) -> Self {
        let names = identity.designators.iter().filter(|name| name.names_unit());
        Self {
            block_bytes: identity.block_bytes,
            designators: names
                .map(|name| (name.kind, name.code_set, name.value.clone()))
                .collect(),
            serial: Bytes::new(),
        }
    }
}

fn serial(page: &[u8]) -> Bytes {
    let serial = vpd::body(vpd::UNIT_SERIAL_NUMBER, page).unwrap_or_default();
    Bytes::copy_from_slice(serial.trim_ascii())
}

#[cfg(test)]
mod tests {
    use iscsi_proto::scsi::vpd::{self, Designator};

    use super::{UnitName, serial};
    use crate::identity::Identity;

    fn unit(designators: &[Designator]) -> UnitName {
        UnitName::new(&Identity {
            blocks: 8,
            block_bytes: 512,
            designators: designators.to_vec(),
        })
    }

    /// SPC-4 §7.8.6: what is the same on every port, in whatever order.
    #[test]
    fn names_count_and_their_order_does_not() {
        let (naa, vendor) = (Designator::naa([0x31; 8]), Designator::t10_vendor("A", "1"));
        let both = unit(&[naa.clone(), vendor.clone()]);
        assert_eq!(both, unit(&[vendor.clone(), naa.clone()]));
        assert_ne!(both, unit(std::slice::from_ref(&naa)));
        assert_ne!(both, unit(&[naa, Designator::t10_vendor("A", "2")]));
        let specific = Designator { kind: 0, ..vendor };
        let port = Designator::relative_target_port(1);
        assert_eq!(unit(&[specific, port]), unit(&[]), "neither names a unit");
        let coarser = UnitName {
            block_bytes: 4096,
            ..both.clone()
        };
        assert_ne!(both, coarser);
    }

    #[test]
    fn a_blank_serial_number_is_none() {
        assert_eq!(serial(&vpd::serial_page("  a1 ")).as_ref(), b"a1");
        assert_eq!(serial(&vpd::serial_page("   ")).as_ref(), b"");
        assert_eq!(serial(&[0, 0x80]).as_ref(), b"");
    }
}
