//! The operator's door: a socket in the data directory, for whoever may open it. One question and one answer a line.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::Addr;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use windlass_chain::{ChainActor, Obey, Order, Standing};
use windlass_journal::{Act, Ledger, Sqlite};

use super::warden::{Unmoved, Warden};
use crate::{command::archive::told, rows};

/// The socket's name in the data directory.
const FILE: &str = "windlass.sock";
/// Operators at the same time.
const CONNECTIONS: usize = 8;
/// Longest question, in bytes.
const LONGEST: u64 = 4_096;
/// A question must come, and an answer be taken, in this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait of a command for its answer: an archive takes its time.
const ANSWERED: Duration = Duration::from_secs(3_600);

/// What an operator's command asks the running gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// To do something.
    Do(Order),
    /// Where every lane stands.
    Lanes,
    /// To read the config again.
    Reload,
    /// To have a quarantined input judged again.
    Retry(u64),
    /// To remove a quarantined input.
    Drop(u64),
    /// To move what became final before this unix millisecond into a file.
    Archive {
        /// An absolute path.
        file: PathBuf,
        /// Before when.
        final_before_ms: u64,
    },
}

/// What the gateway says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done; in words.
    Done(String),
    /// It was not; why.
    Refused(String),
    /// The lanes, and whether nothing is open any more.
    Lanes {
        /// One for each account.
        lanes: Vec<Value>,
        /// Nothing is open.
        idle: bool,
    },
}

/// The socket of the gateway that runs on this data directory.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Asks the gateway that runs on this data directory; `None` when none does.
///
/// # Errors
/// When one runs and does not answer.
pub async fn ask(data_dir: &Path, question: &Question) -> anyhow::Result<Option<Reply>> {
    let mut stream = match UnixStream::connect(path(data_dir)).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    stream.write_all((serde_json::to_string(question)? + "\n").as_bytes()).await?;
    let mut answer = String::new();
    timeout(ANSWERED, BufReader::new(stream).read_line(&mut answer)).await??;
    Ok(Some(serde_json::from_str(&answer)?))
}

/// Wants the config read again; hears how many devices there are, or why it was refused.
pub type Reload = oneshot::Sender<Result<usize, String>>;

/// Whom the door asks.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) chain: Addr<ChainActor>,
    pub(super) standing: Arc<Mutex<Standing>>,
    pub(super) journal: Sqlite,
    pub(super) reloads: mpsc::Sender<Reload>,
    pub(super) warden: Warden,
}

/// Answers operators; the socket goes with it.
pub(super) struct Door {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Door {
    /// Only the owner of the process may open it.
    pub(super) fn open(data_dir: &Path, asked: Asked) -> io::Result<Self> {
        let path = path(data_dir);
        // Left behind by a process that was killed: the data directory's lock says that it is nobody's.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let task = tokio::spawn(async move {
            loop {
                let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "an operator could not be heard");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                };
                let asked = asked.clone();
                tokio::spawn(async move {
                    let _place = place;
                    if let Err(error) = answer(stream, &asked).await {
                        tracing::debug!(%error, "an operator went away");
                    }
                });
            }
        });
        Ok(Self { path, task })
    }

    pub(super) fn close(self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(mut stream: UnixStream, asked: &Asked) -> io::Result<()> {
    let Asked { chain, standing, journal, reloads, warden } = asked;
    let mut question = String::new();
    timeout(PATIENCE, BufReader::new((&mut stream).take(LONGEST)).read_line(&mut question)).await??;
    let reply = match serde_json::from_str(&question) {
        Ok(Question::Do(order)) => match chain.send(Obey(order)).await {
            Ok(Ok(text)) => Reply::Done(text),
            Ok(Err(text)) => Reply::Refused(text),
            Err(error) => Reply::Refused(format!("the chain side does not answer: {error}")),
        },
        Ok(Question::Lanes) => {
            let standing = standing.lock().map(|s| s.clone()).unwrap_or_default();
            Reply::Lanes { lanes: standing.lanes.iter().map(rows::lane).map(rows::json).collect(), idle: standing.idle }
        }
        Ok(Question::Retry(id)) => told_of(warden.retry(id).await),
        Ok(Question::Drop(id)) => told_of(warden.drop_row(id).await),
        Ok(Question::Reload) => reload(reloads).await,
        Ok(Question::Archive { file, final_before_ms }) => archive(journal, file, final_before_ms).await,
        Err(error) => Reply::Refused(format!("not a question: {error}")),
    };
    let text = serde_json::to_string(&reply).map_err(io::Error::other)?;
    timeout(PATIENCE, stream.write_all((text + "\n").as_bytes())).await?
}

fn told_of(outcome: Result<String, Unmoved>) -> Reply {
    outcome.map_or_else(|error| Reply::Refused(in_a_line(&error)), Reply::Done)
}

/// Has the config read again, and says what became of it.
async fn reload(reloads: &mpsc::Sender<Reload>) -> Reply {
    let (reply, outcome) = oneshot::channel();
    let unheard = || Reply::Refused("the gateway is stopping".into());
    if reloads.send(reply).await.is_err() {
        return unheard();
    }
    match outcome.await {
        Ok(Ok(devices)) => Reply::Done(format!("{devices} devices")),
        Ok(Err(why)) => Reply::Refused(why),
        Err(_) => unheard(),
    }
}

/// Moves what is final, and writes down that somebody wanted it.
async fn archive(journal: &Sqlite, file: PathBuf, final_before_ms: u64) -> Reply {
    let name = file.display().to_string();
    let reply = match journal.archive(file, final_before_ms).await {
        Ok(archived) => Reply::Done(told(&name, archived)),
        Err(error) => Reply::Refused(in_a_line(&error)),
    };
    let outcome = match &reply {
        Reply::Refused(text) => format!("refused: {text}"),
        Reply::Done(text) => format!("done: {text}"),
        Reply::Lanes { .. } => String::new(),
    };
    let act = Act { act: "archive".into(), subject: name, outcome };
    match journal.note_act(act).await {
        Ok(()) => reply,
        Err(error) => Reply::Refused(format!("the act could not be written down: {}", in_a_line(&error))),
    }
}

fn in_a_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
