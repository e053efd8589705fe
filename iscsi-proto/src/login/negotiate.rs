//! Offer and answer (RFC 7143 §6.2).
