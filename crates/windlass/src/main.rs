//! Windlass: an MQTT broker on one side, an Ethereum client on the other.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// A reading's allocations are made on one thread and freed on another, which the system's allocator is slow at
/// (docs/performance.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    windlass::command::main(&windlass::command::Arguments::parse())
}
