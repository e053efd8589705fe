//! A protocol data unit: header, additional header segments, data (RFC 7143 §11.2).

use bytes::Bytes;
use zerocopy::{FromBytes, IntoBytes};

use crate::wire::bhs::{
    AnyHeader, AsyncMessage, BHS_BYTES, DataIn, DataOut, IMMEDIATE, LoginRequest, LoginResponse,
    LogoutRequest, LogoutResponse, NopIn, NopOut, ReadyToTransfer, Reject, ScsiCommand,
    ScsiResponse, SnackRequest, TaskManagementRequest, TaskManagementResponse, TextRequest,
    TextResponse,
};

/// One PDU, digests and padding taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// The basic header segment. Its two length fields are set when the PDU is encoded; nobody else need fill them.
    pub header: Header,
    /// The additional header segments with their padding, as on the wire.
    pub ahs: Bytes,
    /// The data segment without padding.
    pub data: Bytes,
}

impl Pdu {
    /// A PDU without additional header segments.
    pub fn new(header: impl Into<Header>, data: Bytes) -> Self {
        Self {
            header: header.into(),
            ahs: Bytes::new(),
            data,
        }
    }

    /// A PDU that is a header alone.
    pub fn bare(header: impl Into<Header>) -> Self {
        Self::new(header, Bytes::new())
    }
}

macro_rules! headers {
    ($($name:ident,)*) => {
        /// A basic header segment, typed by its opcode.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Header {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
            /// An opcode that RFC 7143 does not define.
            Unknown(AnyHeader),
        }

        impl Header {
            /// Reads a header; every 48 bytes are one, if only an unknown one.
            pub fn decode(bytes: &[u8; BHS_BYTES]) -> Self {
                match bytes[0] & 0x3f {
                    $($name::OPCODE => Self::$name(zerocopy::transmute!(*bytes)),)*
                    _ => Self::Unknown(zerocopy::transmute!(*bytes)),
                }
            }

            /// The header's 48 bytes.
            pub fn as_bytes(&self) -> &[u8] {
                match self {
                    $(Self::$name(header) => header.as_bytes(),)*
                    Self::Unknown(header) => header.as_bytes(),
                }
            }
        }

        $(impl From<$name> for Header {
            fn from(header: $name) -> Self {
                Self::$name(header)
            }
        })*
    };
}

headers! {
    NopOut,
    ScsiCommand,
    TaskManagementRequest,
    LoginRequest,
    TextRequest,
    DataOut,
    LogoutRequest,
    SnackRequest,
    NopIn,
    ScsiResponse,
    TaskManagementResponse,
    LoginResponse,
    TextResponse,
    DataIn,
    LogoutResponse,
    ReadyToTransfer,
    AsyncMessage,
    Reject,
}

impl Header {
    /// The fields that every header has.
    pub fn common(&self) -> AnyHeader {
        AnyHeader::read_from_bytes(self.as_bytes()).unwrap_or_default()
    }

    /// True if the PDU is marked for immediate delivery (RFC 7143 §11.2.1.1).
    pub fn is_immediate(&self) -> bool {
        self.as_bytes()
            .first()
            .is_some_and(|byte| byte & IMMEDIATE != 0)
    }
}
