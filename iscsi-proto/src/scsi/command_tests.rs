//! Commands as bytes, spelled out from SPC-4 and SBC-3.
