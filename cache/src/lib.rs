//! An SSD in front of a slower volume, and the private writes of an instance over a read-only one.
#![forbid(unsafe_code)]
