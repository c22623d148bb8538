//! The server on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::broadcast,
    time::{sleep, timeout},
};
use windlass_http::{
    Config, Error, Event, Filter, Health, Order, Page, Server, Source, SourceError,
    rows::{Batch, Device, Lane, Life, Quarantined, Reading, Status},
};

/// Lists nothing, and takes a moment for readings.
struct Empty(broadcast::Sender<Arc<Event>>);

#[async_trait]
impl Source for Empty {
    fn metrics(&self) -> String {
        String::new()
    }
    fn live(&self) -> Health {
        Health::good()
    }
    fn ready(&self) -> Health {
        Health::good()
    }
    fn status(&self) -> Status {
        unimplemented!("nobody asks")
    }
    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.subscribe()
    }
    async fn devices(&self, _: Filter) -> Result<Page<Device>, SourceError> {
        empty()
    }
    async fn device(&self, _: &str) -> Result<Option<Device>, SourceError> {
        Ok(None)
    }
    async fn readings(&self, _: Filter) -> Result<Page<Reading>, SourceError> {
        sleep(Duration::from_millis(300)).await;
        empty()
    }
    async fn reading(&self, _: &str, _: u64) -> Result<Option<Life>, SourceError> {
        Ok(None)
    }
    async fn batches(&self, _: Filter) -> Result<Page<Batch>, SourceError> {
        empty()
    }
    async fn batch(&self, _: u64) -> Result<Option<Batch>, SourceError> {
        Ok(None)
    }
    async fn lanes(&self, _: Filter) -> Result<Page<Lane>, SourceError> {
        empty()
    }
    async fn quarantine(&self, _: Filter) -> Result<Page<Quarantined>, SourceError> {
        empty()
    }
    async fn quarantined(&self, _: u64) -> Result<Option<Quarantined>, SourceError> {
        Ok(None)
    }
    async fn proof(&self, _: &str, _: u64) -> Result<Option<Value>, SourceError> {
        Ok(None)
    }
    async fn order(&self, _: Order) -> Result<String, SourceError> {
        Ok(String::new())
    }
}

fn empty<T>() -> Result<Page<T>, SourceError> {
    Ok(Page { rows: vec![], next: None })
}

fn config() -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }
}

async fn request(server: std::net::SocketAddr, line: &str) -> String {
    let mut socket = TcpStream::connect(server).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[actix_web::test]
async fn it_answers_and_a_stop_lets_the_open_request_end() {
    let server = Server::bind(config(), Arc::new(Empty(broadcast::channel(8).0))).unwrap();
    let (address, handle) = (server.local_addr(), server.handle());
    assert_ne!(address.port(), 0);
    let running = actix_web::rt::spawn(server.run());
    assert!(request(address, "GET /health/live").await.starts_with("HTTP/1.1 200"));
    let head = request(address, "HEAD /health/live").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");

    let open = actix_web::rt::spawn(async move { request(address, "GET /api/v1/readings").await });
    sleep(Duration::from_millis(100)).await;
    timeout(Duration::from_secs(10), handle.stop()).await.unwrap();
    assert!(open.await.unwrap().ends_with("[]"));
    running.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn it_also_runs_without_an_actix_system() {
    let server = Server::bind(config(), Arc::new(Empty(broadcast::channel(8).0))).unwrap();
    let (address, handle) = (server.local_addr(), server.handle());
    let stopper = async {
        let answer = request(address, "GET /api/v1/lanes").await;
        handle.stop().await;
        answer
    };
    let (ended, answer) = tokio::join!(server.run(), stopper);
    ended.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[]"), "{answer}");
}

#[actix_web::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let first = Server::bind(config(), Arc::new(Empty(broadcast::channel(8).0))).unwrap();
    let listen = first.local_addr();
    let second = Server::bind(Config { listen, ..Config::default() }, Arc::new(Empty(broadcast::channel(8).0)));
    let Err(error @ Error::Bind { .. }) = second else { panic!("bound twice") };
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}

#[actix_web::test]
async fn a_stop_ends_the_streams_of_events_at_once() {
    let (events, _) = broadcast::channel(8);
    let server = Server::bind(config(), Arc::new(Empty(events.clone()))).unwrap();
    let (address, handle) = (server.local_addr(), server.handle());
    let running = actix_web::rt::spawn(server.run());
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    let mut bytes = [0; 1_024];
    while !heard.contains("event: health") {
        if heard.contains("welcome") {
            let reason = windlass_http::Reason::new("no_node", "gone");
            events.send(Arc::new(Event::Health { reasons: vec![reason] })).unwrap();
        }
        let read = timeout(Duration::from_secs(10), socket.read(&mut bytes)).await.unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert!(heard.contains("data: {\"event\":\"health\",\"reasons\":[{\"code\":\"no_node\""), "{heard}");
    // Well before the five seconds that a stop gives to other requests.
    timeout(Duration::from_secs(3), handle.stop()).await.unwrap();
    running.await.unwrap().unwrap();
}
