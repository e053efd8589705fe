//! The whole target over loopback TCP, its initiator written by hand: PDUs are spelled as bytes (RFC 7143 §11).

mod access;
mod attention;
mod bursts;
mod chaos;
mod chap;
mod commands;
mod copies;
mod discovery;
mod formats;
mod harness;
mod isolation;
mod limits;
mod login;
mod management;
mod reservations;
mod stop;
