//! The gateway's HTTP API, as far as an audit asks it.

use std::time::Duration;

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
    pub(super) count: u64,
}

impl Api {
    pub(super) fn new(base: &str, token: Option<String>) -> Result<Self> {
        let http = client()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token, http })
    }

    /// The status, and by how many milliseconds this machine's clock is ahead of the gateway's.
    pub(super) async fn status(&self) -> Result<(Status, u64)> {
        let answer = self.answer("/api/v1/status").await?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let theirs = date.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let ahead = theirs.map_or(0, |theirs| Timestamp::now().as_millisecond() - theirs.as_millisecond());
        Ok((answer.json().await.context("no status of a gateway")?, u64::try_from(ahead).unwrap_or(0)))
    }

    pub(super) async fn batch(&self, number: u64) -> Result<Batch> {
        Ok(self.get(&format!("/api/v1/batches/{number}")).await?.0)
    }

    /// Whether a reading since `since` (unix ms) is in `state`.
    pub(super) async fn any(&self, state: &str, since: u64) -> Result<bool> {
        let path = format!("/api/v1/readings?limit=1&state={state}&since={since}");
        Ok(!self.get::<Vec<Row>>(&path).await?.0.is_empty())
    }

    /// Gives every reading since `since` to `each`, in the order of arrival.
    pub(super) async fn readings(&self, since: u64, mut each: impl FnMut(Row)) -> Result<()> {
        let mut next = Some(format!("/api/v1/readings?limit={PAGE}&since={since}"));
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
