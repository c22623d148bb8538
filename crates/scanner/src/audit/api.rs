//! The gateway's HTTP API, as far as an audit asks it.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use anyhow::{Context, Result, bail};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    Response, StatusCode,
    header::{DATE, LINK},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::sleep;

/// A gateway answers 429 to whoever asks too much; after this it is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// So often at most before an answer is given up.
const ATTEMPTS: usize = 30;
const PATIENCE: Duration = Duration::from_secs(30);
/// Rows of a page: the most that the API gives.
const PAGE: usize = 1_000;

/// Where to ask.
pub(super) struct Api {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
}

/// What the gateway says of itself.
#[derive(Deserialize)]
pub(super) struct Status {
    pub(super) chain_id: u64,
    pub(super) contract: Option<String>,
}

/// A stored reading.
#[derive(Clone, Deserialize)]
pub(super) struct Row {
    pub(super) device: String,
    pub(super) epoch: u32,
    pub(super) sequence: u64,
    pub(super) observed_at: u64,
    pub(super) received_at: u64,
    pub(super) payload: String,
    pub(super) state: String,
    pub(super) settlement: String,
    pub(super) batch: Option<u64>,
    pub(super) tx: Option<String>,
    pub(super) block: Option<u64>,
}

/// A batch, as far as the audit asks.
#[derive(Deserialize)]
pub(super) struct Batch {
    pub(super) batch: u64,
    pub(super) count: u64,
    pub(super) root: Option<B256>,
    /// The file that readings of it have left for.
    pub(super) archive: Option<String>,
}

/// A device, as far as the audit asks.
#[derive(Deserialize)]
pub(super) struct Device {
    pub(super) device: String,
    /// Whose transactions its readings are (`direct`).
    pub(super) address: Option<Address>,
    pub(super) barcode: Option<Address>,
    pub(super) last_sequence: u64,
}

/// Readings that were received from `since` on and before `until`, in unix milliseconds of the gateway's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) since: u64,
    pub(super) until: u64,
}

impl Window {
    pub(super) fn contains(self, received_at: u64) -> bool {
        (self.since..self.until).contains(&received_at)
    }
}

impl Api {
    pub(super) fn new(base: &str, token: Option<String>) -> Result<Self> {
        let http = client()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token, http })
    }

    /// The status, and by how many milliseconds this machine's clock is ahead of the gateway's (or behind: below 0).
    pub(super) async fn status(&self) -> Result<(Status, i64)> {
        let answer = self.answer("/api/v1/status").await?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let theirs = date.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let ahead = theirs.map_or(0, |theirs| Timestamp::now().as_millisecond() - theirs.as_millisecond());
        Ok((answer.json().await.context("no status of a gateway")?, ahead))
    }

    pub(super) async fn batch(&self, number: u64) -> Result<Batch> {
        Ok(self.get(&format!("/api/v1/batches/{number}")).await?.0)
    }

    /// The anchored batch with this root; the newest are looked through first.
    pub(super) async fn batch_with(&self, root: B256) -> Result<Option<Batch>> {
        let mut next = Some(format!("/api/v1/batches?limit={PAGE}&settlement=anchor&order=newest"));
        while let Some(path) = next {
            let (batches, following) = self.get::<Vec<Batch>>(&path).await?;
            if let Some(batch) = batches.into_iter().find(|batch| batch.root == Some(root)) {
                return Ok(Some(batch));
            }
            next = following;
        }
        Ok(None)
    }

    pub(super) async fn device(&self, id: &str) -> Result<Device> {
        let (devices, _) = self.get::<Vec<Device>>(&format!("/api/v1/devices?device={id}")).await?;
        devices.into_iter().find(|device| device.device == id).with_context(|| format!("the gateway has no {id}"))
    }

    /// Whether a reading in `window` is in `state` that belongs to one of those devices.
    pub(super) async fn any(&self, state: &str, window: Window, of: impl Fn(&str) -> bool) -> Result<bool> {
        let Window { since, until } = window;
        let mut next = Some(format!("/api/v1/readings?limit={PAGE}&state={state}&since={since}&until={until}"));
        while let Some(path) = next {
            let (rows, following) = self.get::<Vec<Row>>(&path).await?;
            if rows.iter().any(|row| of(&row.device)) {
                return Ok(true);
            }
            next = following;
        }
        Ok(false)
    }

    /// Gives every reading in `window` to `each`, in the order of arrival.
    pub(super) async fn readings(&self, window: Window, each: impl FnMut(Row)) -> Result<()> {
        self.each(format!("since={}&until={}", window.since, window.until), each).await
    }

    /// Gives every reading of a batch to `each`, as far as it has not left for an archive.
    pub(super) async fn readings_of(&self, batch: u64, each: impl FnMut(Row)) -> Result<()> {
        self.each(format!("batch={batch}"), each).await
    }

    async fn each(&self, filter: String, mut each: impl FnMut(Row)) -> Result<()> {
        let mut next = Some(format!("/api/v1/readings?limit={PAGE}&{filter}"));
        while let Some(path) = next {
            let (rows, following) = self.get::<Vec<Row>>(&path).await?;
            rows.into_iter().for_each(&mut each);
            next = following;
        }
        Ok(())
    }

    /// What is there, and where the next page is.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(T, Option<String>)> {
        let answer = self.answer(path).await?;
        let links = answer.headers().get(LINK).and_then(|link| link.to_str().ok());
        let next = links.and_then(next_page);
        Ok((answer.json().await.with_context(|| format!("{path} is something else"))?, next))
    }

    /// The answer, once the gateway has time for one.
    async fn answer(&self, path: &str) -> Result<Response> {
        let url = format!("{}{path}", self.base);
        for _ in 0..ATTEMPTS {
            let mut request = self.http.get(&url);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.with_context(|| format!("cannot ask {url}"))?;
            match response.status() {
                StatusCode::OK => return Ok(response),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => sleep(PAUSE).await,
                status => bail!("{url} answers {status}: {}", response.text().await.unwrap_or_default()),
            }
        }
        bail!("{url} is too busy")
    }
}

/// One HTTP client for gateway and node.
pub(super) fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder().timeout(PATIENCE).build().context("no HTTP client")
}

/// The path in `<…>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (path, relation) = link.strip_prefix('<')?.split_once('>')?;
    relation.contains("rel=\"next\"").then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_out_of_the_link_header() {
        let link = "</api/v1/readings?limit=100&after=4711>; rel=\"next\"";
        assert_eq!(next_page(link).as_deref(), Some("/api/v1/readings?limit=100&after=4711"));
        assert_eq!(next_page("</x>; rel=\"prev\""), None);
        assert_eq!(next_page(""), None);
    }
}
