//! `windlass archive`: moves what is final out of the journal, beside a running gateway or without one.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use windlass_journal::{Archived, Sqlite};

use super::{FAILED, OK, WithConfig, block_on, line};
use crate::{
    app::{
        admin::{self, Question, Reply},
        now_ms,
    },
    progress::Progress,
};

/// `windlass archive`.
#[derive(Debug, Args)]
pub(super) struct Archive {
    /// Where it goes; must not be there.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only batches that became final so long ago, for example 30d.
    #[arg(long, value_name = "TIME", value_parser = humantime_serde::re::humantime::parse_duration)]
    older_than: Duration,
    #[command(flatten)]
    config: WithConfig,
}

impl Archive {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let config = self.config.load()?;
        let directory = config.data_dir();
        let file = std::path::absolute(&self.file)?;
        let final_before_ms = now_ms().saturating_sub(u64::try_from(self.older_than.as_millis()).unwrap_or(u64::MAX));
        let _progress = Progress::open("moving what is final");
        block_on(async {
            let question = Question::Archive { file: file.clone(), final_before_ms };
            match admin::ask(&directory, &question).await? {
                Some(Reply::Done(text)) => {
                    line(&text)?;
                    Ok(OK)
                }
                Some(Reply::Refused(text)) => {
                    line(&format!("refused: {text}"))?;
                    Ok(FAILED)
                }
                Some(Reply::Lanes { .. }) => bail!("the gateway answers another question"),
                None => {
                    let journal = Sqlite::open(&directory, &config.journal)?;
                    let archived = journal.archive(file.clone(), final_before_ms).await.context("no archive")?;
                    journal.close().await;
                    line(&told(&file.display().to_string(), archived))?;
                    Ok(OK)
                }
            }
        })
    }
}

/// What was moved, in words.
pub(crate) fn told(file: &str, archived: Archived) -> String {
    let Archived { batches, readings, left } = archived;
    if batches == 0 {
        return format!("nothing new is old enough; {left} readings of earlier archives left the journal");
    }
    format!("{file}: {batches} batches with {readings} readings; {left} readings left the journal")
}
