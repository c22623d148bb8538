//! The server on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use windlass_http::{Config, Error, Filter, Health, Server, Source, SourceError};

/// Lists nothing, and takes a moment for readings.
struct Empty;

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
    async fn devices(&self, _: Filter) -> Result<Vec<Value>, SourceError> {
        Ok(vec![])
    }
    async fn readings(&self, _: Filter) -> Result<Vec<Value>, SourceError> {
        sleep(Duration::from_millis(300)).await;
        Ok(vec![])
    }
    async fn batches(&self, _: Filter) -> Result<Vec<Value>, SourceError> {
        Ok(vec![])
    }
    async fn lanes(&self, _: Filter) -> Result<Vec<Value>, SourceError> {
        Ok(vec![])
    }
    async fn quarantine(&self, _: Filter) -> Result<Vec<Value>, SourceError> {
        Ok(vec![])
    }
    async fn proof(&self, _: &str, _: u64) -> Result<Option<Value>, SourceError> {
        Ok(None)
    }
}

fn config() -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap() }
}

async fn request(server: std::net::SocketAddr, line: &str) -> String {
    let mut socket = TcpStream::connect(server).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[actix_web::test]
async fn it_answers_and_a_stop_lets_the_open_request_end() {
    let server = Server::bind(config(), Arc::new(Empty)).unwrap();
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
    let server = Server::bind(config(), Arc::new(Empty)).unwrap();
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
    let first = Server::bind(config(), Arc::new(Empty)).unwrap();
    let listen = first.local_addr();
    let second = Server::bind(Config { listen }, Arc::new(Empty));
    let Err(error @ Error::Bind { .. }) = second else { panic!("bound twice") };
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}
