//! Whole proof files, on blocks that the tests make up: round trips, and everything that must be refused.

mod anvil;
mod attested;
mod block;
mod hostile;
mod roundtrip;
mod vectors;
