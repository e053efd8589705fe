//! Many nodes in one thread under virtual time, from a seed: drives the decisions of the swarm before sockets do.
#![forbid(unsafe_code)]
