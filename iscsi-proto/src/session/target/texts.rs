//! Text requests of a target session (RFC 7143 §11.10 and §11.11).

use bytes::{Bytes, BytesMut};

use crate::discovery::{self, TargetRecord};
use crate::session::target::full_feature::{FullFeature, Request, lun_of};
use crate::session::task::{Delivery, Kind, Task};
use crate::session::text::{self, TextExchange};
use crate::session::{TargetEvent, TaskId};
use crate::wire::Header;
use crate::wire::bhs::{CONTINUE, FINAL, RESERVED_TAG, TextRequest, TextResponse};
use crate::wire::opcode::RejectReason;

impl FullFeature {
    pub(super) fn text(&mut self, request: Request, header: TextRequest, data: &Bytes) {
        if let Err(reason) = self.check_text(&header) {
            self.release(request.delivery);
            return self.reject(reason, &header.into());
        }
        let tag = request.initiator_task_tag;
        if header.target_transfer_tag == RESERVED_TAG {
            self.begin_exchange(request, &header);
        } else if let Some(task) = self.tasks.get_mut(&tag) {
            (task.cmd_sn, task.delivery) = (request.cmd_sn, request.delivery);
        }
        let (is_final, goes_on) = (header.flags & FINAL != 0, header.flags & CONTINUE != 0);
        let limit = self.limits.text_bytes;
        let Some(exchange) = self.exchange_mut(tag) else {
            return self.release(request.delivery);
        };
        exchange.is_final = is_final;
        exchange.tag = RESERVED_TAG;
        if !exchange.reply.is_empty() && !data.is_empty() {
            return self.drop_exchange(request, RejectReason::PROTOCOL_ERROR, &header.into());
        }
        if exchange.taken + exchange.gathered.len() + data.len() > limit {
            return self.drop_exchange(
                request,
                RejectReason::LONG_OPERATION_REJECT,
                &header.into(),
            );
        }
        exchange.gathered.extend_from_slice(data);
        if goes_on || !exchange.reply.is_empty() {
            return self.send_text(tag, request.delivery);
        }
        self.answer_text(request, header);
    }

    /// Answers what the exchange gathered, now that it is whole.
    fn answer_text(&mut self, request: Request, header: TextRequest) {
        let tag = request.initiator_task_tag;
        let Some(Task {
            kind: Kind::Text(exchange),
            ..
        }) = self.tasks.get_mut(&tag)
        else {
            return self.release(request.delivery);
        };
        let gathered = std::mem::take(&mut exchange.gathered);
        exchange.taken += gathered.len();
        let own = self.target_name.as_ref();
        match text::answer(&gathered, self.params.session_type, own, &mut exchange.said) {
            Ok(answer) => self.take_text_answer(tag, request.delivery, answer),
            Err(text::BadText) => {
                self.drop_exchange(request, RejectReason::PROTOCOL_ERROR, &header.into());
            }
        }
    }

    /// A text that goes on is not final, and goes on under the tag that it was given.
    fn check_text(&self, header: &TextRequest) -> Result<(), RejectReason> {
        if header.flags & FINAL != 0 && header.flags & CONTINUE != 0 {
            return Err(RejectReason::PROTOCOL_ERROR);
        }
        let tag = header.target_transfer_tag.get();
        let exchange = self.exchange(header.initiator_task_tag.get());
        if tag != RESERVED_TAG && exchange.is_none_or(|exchange| exchange.tag != tag) {
            return Err(RejectReason::INVALID_PDU_FIELD);
        }
        let exchanges = self
            .tasks
            .values()
            .filter(|task| matches!(task.kind, Kind::Text(_)))
            .count();
        if exchange.is_none() && exchanges >= MAX_TEXT_EXCHANGES {
            return Err(RejectReason::LONG_OPERATION_REJECT);
        }
        Ok(())
    }

    pub(super) fn answer_discovery(&mut self, id: TaskId, records: &[TargetRecord]) {
        let Some(Task {
            kind: Kind::Text(exchange),
            delivery,
            ..
        }) = self.task_mut(id)
        else {
            return;
        };
        let delivery = *delivery;
        if std::mem::take(&mut exchange.awaits_records) {
            let mut reply = BytesMut::from(exchange.reply.as_ref());
            reply.extend_from_slice(&discovery::encode(records));
            exchange.reply = reply.freeze();
            self.send_text(id.initiator_task_tag, delivery);
        }
    }

    /// A request without a transfer tag begins anew whatever was under way (RFC 7143 §11.10.4).
    fn begin_exchange(&mut self, request: Request, header: &TextRequest) {
        let Request {
            initiator_task_tag,
            cmd_sn,
            delivery,
        } = request;
        let id = self.name_task(initiator_task_tag);
        let task = Task {
            id,
            lun: lun_of(header.lun),
            cmd_sn,
            delivery,
            kind: Kind::Text(TextExchange::new()),
        };
        if let Some(Task {
            kind: Kind::Text(old),
            id,
            delivery,
            ..
        }) = self.tasks.insert(initiator_task_tag, task)
            && old.awaits_records
        {
            self.release(delivery);
            self.out.events.push_back(TargetEvent::Aborted(vec![id]));
        }
    }

    fn take_text_answer(&mut self, tag: u32, delivery: Delivery, answer: text::Answer) {
        let Some(Task {
            kind: Kind::Text(exchange),
            id,
            ..
        }) = self.tasks.get_mut(&tag)
        else {
            return;
        };
        exchange.reply = answer.text;
        exchange.segment = answer.max_send_data_segment_length.or(exchange.segment);
        match answer.scope {
            Some(scope) => {
                exchange.awaits_records = true;
                self.out
                    .events
                    .push_back(TargetEvent::Discover { task: *id, scope });
            }
            None => self.send_text(tag, delivery),
        }
    }

    /// Sends as much of the reply as fits one PDU. The exchange goes on if there is more, or if the initiator has
    /// more to say.
    fn send_text(&mut self, tag: u32, delivery: Delivery) {
        let limit = usize::try_from(self.params.max_send_data_segment_length).unwrap_or(usize::MAX);
        let transfer_tag = self.new_tag();
        let Some(Task {
            kind: Kind::Text(exchange),
            lun,
            ..
        }) = self.tasks.get_mut(&tag)
        else {
            return;
        };
        let lun = *lun;
        let part = exchange.reply.split_to(exchange.reply.len().min(limit));
        let more = !exchange.reply.is_empty();
        let ends = exchange.is_final && !more;
        exchange.tag = if ends { RESERVED_TAG } else { transfer_tag };
        let header = TextResponse {
            flags: if ends { FINAL } else { 0 } | if more { CONTINUE } else { 0 },
            lun: lun.0.into(),
            initiator_task_tag: tag.into(),
            target_transfer_tag: exchange.tag.into(),
            ..TextResponse::default()
        };
        let segment = exchange.segment.filter(|_| ends);
        if ends {
            self.tasks.remove(&tag);
        }
        self.release(delivery);
        self.respond(header, part);
        if let Some(length) = segment {
            self.params.max_send_data_segment_length = length;
        }
    }

    fn drop_exchange(&mut self, request: Request, reason: RejectReason, header: &Header) {
        self.tasks.remove(&request.initiator_task_tag);
        self.release(request.delivery);
        self.reject(reason, header);
    }

    fn exchange(&self, tag: u32) -> Option<&TextExchange> {
        match &self.tasks.get(&tag)?.kind {
            Kind::Text(exchange) => Some(exchange),
            Kind::Scsi(_) | Kind::Management(_) => None,
        }
    }

    fn exchange_mut(&mut self, tag: u32) -> Option<&mut TextExchange> {
        match &mut self.tasks.get_mut(&tag)?.kind {
            Kind::Text(exchange) => Some(exchange),
            Kind::Scsi(_) | Kind::Management(_) => None,
        }
    }
}

/// Exchanges of texts at once; each may hold as much text as one request may have.
const MAX_TEXT_EXCHANGES: usize = 8;
