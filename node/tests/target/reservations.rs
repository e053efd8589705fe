//! Persistent reservations outlive a gateway that dies.

use bytes::Bytes;
use iscsi_proto::scsi::{Command, ReserveIn, ReserveOut, Status};
use iscsi_proto::session::Transfer;
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::Class;

use crate::harness::{Running, Scene, connect};

const KEY: [u8; 8] = *b"the key!";

/// Registers a key that shall survive the loss of power (APTPL; SPC-4 §6.16); the status.
async fn register(url: &str) -> Status {
    let mut list = [0; 24];
    list[8..16].copy_from_slice(&KEY);
    list[20] = 0x01;
    let command = Command::PersistentReserveOut {
        action: ReserveOut::RegisterAndIgnore,
        scope: 0,
        kind: 0,
        parameter_length: 24,
    };
    let session = connect(url).await.unwrap();
    let transfer = Transfer::Write(Bytes::copy_from_slice(&list));
    let done = session.execute(Lun::from_number(0), &command, transfer, Class::Demand);
    done.await.unwrap().status
}

/// The keys that are registered, as they came (SPC-4 §6.15.2).
async fn keys(url: &str) -> Vec<u8> {
    let command = Command::PersistentReserveIn {
        action: ReserveIn::ReadKeys,
        allocation: 64,
    };
    let session = connect(url).await.unwrap();
    let transfer = Transfer::Read(64);
    let done = session.execute(Lun::from_number(0), &command, transfer, Class::Demand);
    done.await.unwrap().data[8..].to_vec()
}

#[tokio::test]
async fn a_registration_outlives_the_gateway_beside_the_file_or_where_it_is_told() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    scene.image("other.raw", 1);
    let (disk, state) = (scene.arg("disk.raw"), scene.arg("state"));
    let elsewhere = format!("{},read-only", scene.arg("other.raw"));
    for (args, kept) in [
        (vec![disk.as_str()], "disk.raw.reservations".to_owned()),
        (
            vec![elsewhere.as_str(), "--state", &state],
            "state/reservations/iqn.2026-11.org.vmthunder:other.0".to_owned(),
        ),
    ] {
        let (target, url) = Running::target(&args);
        assert_eq!(register(&url).await, Status::GOOD);
        assert_eq!(keys(&url).await, KEY);
        target.kill();
        assert!(scene.path(&kept).exists(), "{kept}");
        let (_again, url) = Running::target(&args);
        assert_eq!(keys(&url).await, KEY);
    }
}

/// Two gateways may read one file; neither lock guards a file beside it.
#[tokio::test]
async fn a_read_only_file_has_no_place_for_registrations_by_itself() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let (_target, url) = Running::target(&["--read-only", &scene.arg("disk.raw")]);
    assert_eq!(register(&url).await, Status::CHECK_CONDITION);
    assert!(!scene.path("disk.raw.reservations").exists());
}
