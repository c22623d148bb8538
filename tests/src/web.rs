//! Plain HTTP over loopback: the gateway's pages and the node's JSON-RPC.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

pub(crate) fn exchange(port: u16, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Status and body of a GET; `None` when nobody listens.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"))
}

/// The whole answer to a JSON-RPC call, error or result; `None` when the node does not answer.
pub fn call(port: u16, method: &str, params: Value) -> Option<Value> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let request = format!(
        "POST / HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (_, text) = exchange(port, &request)?;
    serde_json::from_str(&text).ok()
}

/// The result of a JSON-RPC call to the node; `None` when it does not answer.
pub fn rpc(port: u16, method: &str, params: Value) -> Option<Value> {
    let answer = call(port, method, params)?;
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer.get("result").cloned()
}
