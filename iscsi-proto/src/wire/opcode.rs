//! Numbers of the wire that name something. Values that the standard does not know survive and print as numbers.

macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub u8);

        impl $name {
            $($(#[$value_doc])* pub const $value: Self = Self($number);)*
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match *self {
                    $(Self::$value => f.write_str(stringify!($value)),)*
                    Self(number) => write!(f, concat!(stringify!($name), "({:#04x})"), number),
                }
            }
        }
    };
}

open_enum! {
    /// The operation code in the low six bits of byte 0 (RFC 7143 §11.2.1.2).
    Opcode {
        /// NOP-Out.
        NOP_OUT = 0x00,
        /// SCSI Command.
        SCSI_COMMAND = 0x01,
        /// Task Management Function Request.
        TASK_MANAGEMENT_REQUEST = 0x02,
        /// Login Request.
        LOGIN_REQUEST = 0x03,
        /// Text Request.
        TEXT_REQUEST = 0x04,
        /// SCSI Data-Out.
        DATA_OUT = 0x05,
        /// Logout Request.
        LOGOUT_REQUEST = 0x06,
        /// SNACK Request.
        SNACK_REQUEST = 0x10,
        /// NOP-In.
        NOP_IN = 0x20,
        /// SCSI Response.
        SCSI_RESPONSE = 0x21,
        /// Task Management Function Response.
        TASK_MANAGEMENT_RESPONSE = 0x22,
        /// Login Response.
        LOGIN_RESPONSE = 0x23,
        /// Text Response.
        TEXT_RESPONSE = 0x24,
        /// SCSI Data-In.
        DATA_IN = 0x25,
        /// Logout Response.
        LOGOUT_RESPONSE = 0x26,
        /// Ready To Transfer.
        READY_TO_TRANSFER = 0x31,
        /// Asynchronous Message.
        ASYNC_MESSAGE = 0x32,
        /// Reject.
        REJECT = 0x3f,
    }
}

open_enum! {
    /// Why a PDU was rejected (RFC 7143 §11.17.1).
    RejectReason {
        /// The data digest did not match; the data may be sent again.
        DATA_DIGEST_ERROR = 0x02,
        /// A SNACK was rejected.
        SNACK_REJECT = 0x03,
        /// The PDU breaks the protocol, a SNACK for something already acknowledged for instance.
        PROTOCOL_ERROR = 0x04,
        /// The command or opcode is not supported.
        COMMAND_NOT_SUPPORTED = 0x05,
        /// Too many immediate commands.
        IMMEDIATE_COMMAND_REJECT = 0x06,
        /// The task is in progress.
        TASK_IN_PROGRESS = 0x07,
        /// A data acknowledgement (SNACK) is not valid.
        INVALID_DATA_ACK = 0x08,
        /// A field is not valid.
        INVALID_PDU_FIELD = 0x09,
        /// A long operation is rejected for lack of resources.
        LONG_OPERATION_REJECT = 0x0a,
        /// The initiator has to log out.
        WAITING_FOR_LOGOUT = 0x0c,
    }
}

open_enum! {
    /// What an Asynchronous Message says (RFC 7143 §11.9.1).
    AsyncEvent {
        /// A SCSI event, with sense data.
        SCSI = 0,
        /// The target asks for a logout.
        LOGOUT_REQUEST = 1,
        /// The target drops a connection.
        CONNECTION_DROP = 2,
        /// The target drops all connections of the session.
        SESSION_DROP = 3,
        /// The target asks for a negotiation of parameters.
        NEGOTIATION_REQUEST = 4,
        /// All tasks of a logical unit are being terminated.
        TASK_TERMINATION = 5,
        /// Private to a vendor.
        VENDOR = 255,
    }
}

open_enum! {
    /// What a Logout Request wants (RFC 7143 §11.14.1).
    LogoutReason {
        /// Close the session.
        CLOSE_SESSION = 0,
        /// Close the connection.
        CLOSE_CONNECTION = 1,
        /// Remove the connection for recovery.
        RECOVERY = 2,
    }
}

open_enum! {
    /// What became of a Logout Request (RFC 7143 §11.15.1).
    LogoutAnswer {
        /// The connection or session is closed.
        CLOSED = 0,
        /// There is no such connection.
        NO_SUCH_CONNECTION = 1,
        /// Recovery of connections is not supported.
        RECOVERY_NOT_SUPPORTED = 2,
        /// The cleanup failed.
        CLEANUP_FAILED = 3,
    }
}

#[cfg(test)]
mod tests {
    use super::{Opcode, RejectReason};

    #[test]
    fn unknown_values_survive_and_print_as_numbers() {
        assert_eq!(format!("{:?}", RejectReason(0x02)), "DATA_DIGEST_ERROR");
        assert_eq!(format!("{:?}", RejectReason(0x0b)), "RejectReason(0x0b)");
        assert_eq!(Opcode(0x1c).0, 0x1c);
    }
}
