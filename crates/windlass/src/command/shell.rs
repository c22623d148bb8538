//! What shells and `man` know of the commands, made from the command line's own description.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, OK, line};

/// `windlass completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  windlass completions bash > /etc/bash_completion.d/windlass")]
pub(super) struct Completions {
    /// For which shell.
    shell: Shell,
}

/// `windlass man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  windlass man /usr/local/share/man/man1")]
pub(super) struct Man {
    /// The directory for windlass.1 and a page for each command.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "windlass", &mut text);
        line(String::from_utf8(text)?.trim_end())?;
        Ok(OK)
    }
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        fs::create_dir_all(&self.directory).with_context(|| self.directory.display().to_string())?;
        clap_mangen::generate_to(Arguments::command(), &self.directory)?;
        line(&format!("wrote windlass.1 and a page for each command in {}", self.directory.display()))?;
        Ok(OK)
    }
}
