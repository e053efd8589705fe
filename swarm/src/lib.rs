//! Peers and the origin as one volume: who is asked for an extent, what is done when nobody answers, and how an answer is verified.
#![forbid(unsafe_code)]
