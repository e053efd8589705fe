//! Stories about a target session in virtual time. The initiator's part is written byte by byte after RFC 7143 §11,
//! so that nothing here shares a mistake with the code under test.

mod chaos;
mod commands;
mod harness;
mod keepalive;
mod login;
mod management;
mod numbering;
mod texts;
mod writes;
