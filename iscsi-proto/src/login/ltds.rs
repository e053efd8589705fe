//! Text longer than a PDU: the logical text data segment, sent in pieces by way of the C bit (RFC 7143 §6.1, §6.2).

use bytes::Bytes;

use crate::login::MAX_LOGIN_TEXT_BYTES;
use crate::wire::framer::DEFAULT_MAX_DATA_SEGMENT;
use crate::wire::text::{self, TextError};

/// Joins the pieces that the peer sends.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pieces: Vec<u8>,
    /// Over the whole login.
    received: usize,
}

impl Incoming {
    /// Takes a piece; gives the pairs once the last piece is there.
    pub(crate) fn take(
        &mut self,
        piece: &[u8],
        continues: bool,
    ) -> Result<Option<Vec<(String, String)>>, TextError> {
        self.received = self.received.saturating_add(piece.len());
        if self.received > MAX_LOGIN_TEXT_BYTES {
            return Err(TextError::TooLong {
                limit: MAX_LOGIN_TEXT_BYTES,
            });
        }
        self.pieces.extend_from_slice(piece);
        if continues {
            return Ok(None);
        }
        text::parse(&std::mem::take(&mut self.pieces)).map(Some)
    }
}

/// Cuts what we send into pieces that fit a PDU of the login.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    rest: Bytes,
}

impl Outgoing {
    pub(crate) fn new(pairs: &[(String, String)]) -> Self {
        Self {
            rest: text::encode(pairs),
        }
    }

    /// True if pieces are left.
    pub(crate) fn is_pending(&self) -> bool {
        !self.rest.is_empty()
    }

    /// The next piece, and whether another one follows.
    pub(crate) fn next_piece(&mut self) -> (Bytes, bool) {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        (piece, self.is_pending())
    }
}

/// The default MaxRecvDataSegmentLength holds during the login (RFC 7143 §6.3).
const PIECE_BYTES: usize = DEFAULT_MAX_DATA_SEGMENT as usize;
