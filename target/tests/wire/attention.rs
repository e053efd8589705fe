//! What initiators are told unasked: unit attention conditions and asynchronous messages.

use iscsi_target::{ExportError, TargetOptions};

use crate::harness::{DISK, Initiator, TEST_UNIT_READY, World, unit};

impl Initiator {
    /// Sends a ping and takes the echo: who pings is told of SCSI events.
    async fn ping(&mut self) {
        let mut ping = self.header(0x40, 0x80, 0);
        ping[20..24].copy_from_slice(&[0xff; 4]);
        self.send(ping, &[]).await;
        let echo = self.answer_to(self.tag).await;
        assert_eq!(echo.header[0], 0x20);
    }

    /// The sense of the next asynchronous message, which is about the unit.
    async fn event(&mut self, lun: u8) -> [u8; 3] {
        let message = self.answer_to(u32::MAX).await;
        assert_eq!((message.header[0], message.header[9]), (0x32, lun));
        assert_eq!(message.header[36], 0, "AsyncEvent: SCSI event");
        let sense = &message.data[2..];
        [sense[2] & 0x0f, sense[12], sense[13]]
    }

    async fn report_luns(&mut self) -> Vec<u8> {
        let cdb = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        let (status, list, _) = self.scsi(0, &cdb, 256).await;
        assert_eq!(status, 0);
        list[8..].chunks(8).map(|lun| lun[1]).collect()
    }

    async fn told(&mut self, lun: u8) -> [u8; 3] {
        self.scsi(lun, &TEST_UNIT_READY, 0).await.2
    }
}

/// SAM-5 §5.14, SPC-4 §6.4 and §6.39
#[tokio::test]
async fn attention_is_told_once_and_not_to_inquiry() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    let (status, inquiry, _) = initiator.scsi(0, &[0x12, 0, 0, 0, 36, 0], 36).await;
    assert_eq!((status, &inquiry[8..16]), (0, &b"VMTHNDR "[..]));
    assert_eq!(initiator.report_luns().await, [0, 3]);
    initiator.settle(0).await;
    assert_eq!(initiator.scsi(0, &TEST_UNIT_READY, 0).await.0, 0);
    let (status, sense, _) = initiator.scsi(3, &[0x03, 0, 0, 0, 18, 0], 18).await;
    assert_eq!(
        (status, sense[2], sense[12], sense[13]),
        (0, 6, 0x29, 0),
        "REQUEST SENSE reports it as data"
    );
    assert_eq!(initiator.scsi(3, &TEST_UNIT_READY, 0).await.0, 0);
    let (_, sense, _) = initiator.scsi(3, &[0x03, 1, 0, 0, 18, 0], 18).await;
    assert_eq!(sense, [0x72, 0, 0, 0, 0, 0, 0, 0]);
}

/// SBC-3 §4.7 and RFC 7143 §11.9.1: CAPACITY DATA HAS CHANGED for everybody, and a message for those that can take it.
#[tokio::test]
async fn another_size_is_told_to_everybody() {
    let world = World::new(TargetOptions::default()).await;
    let (mut modern, mut plain) = (world.settled(1).await, world.settled(2).await);
    modern.ping().await;
    world.target.resized(&DISK.parse().unwrap(), 3);
    assert_eq!(modern.event(3).await, [6, 0x2a, 0x09]);
    for initiator in [&mut modern, &mut plain] {
        assert_eq!(initiator.told(3).await, [6, 0x2a, 0x09]);
        assert_eq!(initiator.told(3).await, [0, 0, 0]);
        assert_eq!(initiator.told(0).await, [0, 0, 0]);
    }
}

/// SPC-4 §6.33: REPORTED LUNS DATA HAS CHANGED for every unit, until the list is read.
#[tokio::test]
async fn units_come_and_go() {
    let world = World::new(TargetOptions::default()).await;
    let name = DISK.parse().unwrap();
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    one.ping().await;
    world.target.add_unit(&name, unit(7, &world.other)).unwrap();
    assert_eq!(one.event(0).await, [6, 0x3f, 0x0e]);
    assert_eq!(one.told(0).await, [6, 0x3f, 0x0e]);
    assert_eq!(one.told(3).await, [6, 0x3f, 0x0e]);
    assert_eq!(other.report_luns().await, [0, 3, 7], "who asks knows");
    assert_eq!(other.told(0).await, [0, 0, 0]);
    assert_eq!(other.told(7).await, [0, 0, 0]);
    assert!(matches!(
        world.target.add_unit(&name, unit(7, &world.other)),
        Err(ExportError::NumberTaken)
    ));
    // A unit that goes takes its tasks with it.
    world.other.hold();
    other
        .command(7, &[0x28, 0, 0, 0, 0, 2, 0, 0, 1, 0], 512, &[])
        .await;
    world.other.hangs(1).await;
    world.target.remove_unit(&name, 7).await.unwrap();
    world.other.let_go();
    assert_eq!(other.told(7).await, [5, 0x25, 0x00]);
    assert_eq!(other.told(0).await, [6, 0x3f, 0x0e]);
    assert_eq!(other.report_luns().await, [0, 3]);
    assert_eq!(other.told(3).await, [0, 0, 0]);
    assert!(matches!(
        world.target.remove_unit(&name, 7).await,
        Err(ExportError::NoUnit)
    ));
    world.target.remove_unit(&name, 3).await.unwrap();
    assert!(matches!(
        world.target.remove_unit(&name, 0).await,
        Err(ExportError::NoUnits)
    ));
    let unknown = "iqn.2001-04.com.example:other".parse().unwrap();
    assert!(matches!(
        world.target.add_unit(&unknown, unit(1, &world.other)),
        Err(ExportError::NoExport)
    ));
}
