//! What a peer does wrong, and the one function that says how to answer.
