//! Windlass: an MQTT broker on one side, an Ethereum client on the other.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    windlass::command::main(&windlass::command::Arguments::parse())
}
