//! What the headers of a login hold: ISID, TSIH, CID, versions, numbers (RFC 7143 §11.12, §11.13).

use crate::check::checks;

checks! {}
