//! NOP-Out and NOP-In (RFC 7143 §11.18, §11.19).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Verdict, checks, ensure, violation};
use crate::wire::Heard;

checks! {
    "nop.echo", "RFC 7143 §11.19", Must, Reads,
        "an immediate NOP-Out with 100 bytes of ping data"
        => "a NOP-In with the same tag, the reserved Target Transfer Tag and the same data", echo;
}

async fn echo(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let ping = session.ping();
    let text = Bytes::from_static(&[0xa5; 100]);
    session.send(Pdu::new(ping, text.clone())).await;
    let answer = session.receive().await?;
    let Header::NopIn(nop) = answer.header else {
        violation!("{} instead of a NOP-In", Heard::Pdu(answer));
    };
    ensure!(
        nop.initiator_task_tag == ping.initiator_task_tag,
        "the tag of the ping is {:08x}, of the answer {:08x}",
        ping.initiator_task_tag.get(),
        nop.initiator_task_tag.get()
    );
    ensure!(
        nop.target_transfer_tag.get() == RESERVED_TAG,
        "the answer has Target Transfer Tag {:08x}",
        nop.target_transfer_tag.get()
    );
    ensure!(
        nop.flags == FINAL,
        "byte 1 of the answer is {:#04x}",
        nop.flags
    );
    ensure!(
        answer.data == text,
        "{} bytes of ping data come back as {} other ones",
        text.len(),
        answer.data.len()
    );
    Ok(())
}
