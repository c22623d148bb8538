//! TLS with and without client certificates, WebSocket, and both together.

use std::{path::Path, sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};
use windlass_broker::{ClientAuth, Limits, Listener, Tls};

use crate::harness::{Bench, PATIENCE, accept, bench_on, code_of, connect, puback, publish};

/// An authority with certificates that it signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for a common name, as PEM.
    fn signed(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn server_files(&self, dir: &Path) {
        let (certificate, key) = self.signed("localhost");
        std::fs::write(dir.join("server.pem"), certificate).unwrap();
        std::fs::write(dir.join("server.key"), key).unwrap();
        std::fs::write(dir.join("ca.pem"), &self.pem).unwrap();
    }

    fn client(&self, certificate: Option<&(String, String)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

fn tls(client_auth: Option<ClientAuth>) -> Option<Tls> {
    Some(Tls {
        certificate: "server.pem".into(),
        key: "server.key".into(),
        client_ca: client_auth.map(|_| "ca.pem".into()),
        client_auth: client_auth.unwrap_or_default(),
    })
}

/// A broker with one listener for each of `doors`, whose certificates are the authority's.
async fn secured(doors: Vec<(bool, Option<Tls>)>) -> (Bench, Authority, TempDir) {
    let (authority, dir) = (Authority::new(), TempDir::new().unwrap());
    authority.server_files(dir.path());
    let plain = Listener::plain(([127, 0, 0, 1], 0).into());
    let listeners = doors.into_iter().map(|(websocket, tls)| Listener { websocket, tls, ..plain.clone() }).collect();
    let limits = Limits { connect_timeout: Duration::from_secs(2), ..Limits::default() };
    (bench_on(listeners, limits, dir.path(), Arc::default()).await, authority, dir)
}

async fn shake(bench: &Bench, door: usize, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(bench.addresses[door]).await?;
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The CONNACK's code; `None` when the broker closed instead.
async fn greeted(stream: &mut TlsStream<TcpStream>, id: &str, credentials: Option<(&str, &str)>) -> Option<u8> {
    stream.write_all(&connect(4, id, credentials, 0)).await.ok()?;
    let mut connack = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut connack)).await.unwrap().ok()?;
    assert_eq!(connack[0], 0x20);
    Some(connack[3])
}

#[tokio::test]
async fn a_reading_over_tls_is_acknowledged() {
    let (mut bench, authority, _dir) = secured(vec![(false, tls(None))]).await;
    let mut stream = shake(&bench, 0, &authority.client(None)).await.unwrap();
    assert_eq!(greeted(&mut stream, "a", Some(("a", "wrong"))).await, Some(4));
    let mut stream = shake(&bench, 0, &authority.client(None)).await.unwrap();
    assert_eq!(greeted(&mut stream, "a", Some(("a", "secret of a"))).await, Some(0));
    stream.write_all(&publish(4, 0x32, "devices/a/readings", b"42", Some(7))).await.unwrap();
    assert_eq!(accept(bench.publish().await, 1), "42");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..], puback(7));
}

#[tokio::test]
async fn a_client_certificate_is_the_devices_name() {
    let (bench, authority, _dir) =
        secured(vec![(false, tls(Some(ClientAuth::Required))), (false, tls(Some(ClientAuth::Optional)))]).await;
    let a = authority.signed("a");
    for door in [0, 1] {
        let mut stream = shake(&bench, door, &authority.client(Some(&a))).await.unwrap();
        assert_eq!(greeted(&mut stream, "a", None).await, Some(0));
        let mut stream = shake(&bench, door, &authority.client(Some(&a))).await.unwrap();
        assert_eq!(greeted(&mut stream, "b", None).await, Some(2), "the client id is another device's");
        let mut stream = shake(&bench, door, &authority.client(Some(&a))).await.unwrap();
        assert_eq!(greeted(&mut stream, "b", Some(("b", "secret of b"))).await, Some(5), "two devices at once");
        // In TLS 1.3 the client learns of a refused certificate with its first read.
        let stranger = Authority::new().signed("a");
        if let Ok(mut stream) = shake(&bench, door, &authority.client(Some(&stranger))).await {
            assert_eq!(greeted(&mut stream, "a", None).await, None, "another authority's certificate");
        }
    }
    let no_certificate = authority.client(None);
    if let Ok(mut stream) = shake(&bench, 0, &no_certificate).await {
        assert_eq!(greeted(&mut stream, "a", Some(("a", "secret of a"))).await, None, "required");
    }
    let mut stream = shake(&bench, 1, &no_certificate).await.unwrap();
    assert_eq!(greeted(&mut stream, "a", Some(("a", "secret of a"))).await, Some(0), "optional");
}

#[tokio::test]
async fn handshakes_that_stand_still_hold_nobody_up() {
    let (bench, authority, _dir) = secured(vec![(false, tls(None)), (true, None)]).await;
    let mut silent = Vec::new();
    for i in 0..50 {
        let mut stream = TcpStream::connect(bench.addresses[i % 2]).await.unwrap();
        // The first byte of a TLS record, or of an HTTP request; then nothing.
        stream.write_all(if i % 2 == 0 { &[0x16] } else { b"G" }).await.unwrap();
        silent.push(stream);
    }
    let mut stream = shake(&bench, 0, &authority.client(None)).await.unwrap();
    assert_eq!(greeted(&mut stream, "a", Some(("a", "secret of a"))).await, Some(0));
    for mut stream in silent {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed after the connect timeout");
    }
    // Plain MQTT on a TLS listener is refused at once.
    let mut plain = TcpStream::connect(bench.addresses[0]).await.unwrap();
    plain.write_all(&connect(4, "a", None, 0)).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(1), plain.read_to_end(&mut rest)).await.expect("closed at once");
}

#[tokio::test]
async fn new_certificates_serve_new_connections_and_bad_files_change_nothing() {
    let (bench, authority, dir) = secured(vec![(false, tls(None))]).await;
    let mut before = shake(&bench, 0, &authority.client(None)).await.unwrap();
    assert_eq!(greeted(&mut before, "a", Some(("a", "secret of a"))).await, Some(0));
    std::fs::write(dir.path().join("server.key"), "no key").unwrap();
    let problems = bench.certificates.reload();
    assert!(problems.len() == 1 && problems[0].contains("server.key"), "{problems:?}");
    assert!(shake(&bench, 0, &authority.client(None)).await.is_ok());
    let next = Authority::new();
    next.server_files(dir.path());
    assert_eq!(bench.certificates.reload(), Vec::<String>::new());
    assert!(shake(&bench, 0, &authority.client(None)).await.is_err());
    assert!(shake(&bench, 0, &next.client(None)).await.is_ok());
    before.write_all(&[0xC0, 0]).await.unwrap();
    let mut pong = [0; 2];
    before.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, [0xD0, 0]);
}

async fn speaks_mqtt_in_frames(bench: &mut Bench, stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("chat, mqtt"));
    let (mut socket, response) = client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
    // Frames do not follow packets: one packet in two frames, then two packets in one.
    let hello = connect(5, "a", Some(("a", "secret of a")), 0);
    socket.send(Message::Binary(hello[..5].to_vec().into())).await.unwrap();
    socket.send(Message::Ping(Vec::new().into())).await.unwrap();
    let mut rest = hello[5..].to_vec();
    rest.extend(publish(5, 0x32, "devices/a/readings", b"42", Some(7)));
    socket.send(Message::Binary(rest.into())).await.unwrap();
    assert_eq!(accept(bench.publish().await, 1), "42");
    let mut bytes = Vec::new();
    while !bytes.ends_with(&puback(7)) {
        match timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(more) => bytes.extend(more),
            Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((bytes[0], code_of(&bytes)), (0x20, 0));
    socket.send(Message::Text("text".into())).await.unwrap();
    while let Some(Ok(message)) = timeout(PATIENCE, socket.next()).await.unwrap() {
        assert!(!matches!(message, Message::Text(_)), "a text frame ends the connection");
    }
}

#[tokio::test]
async fn mqtt_speaks_over_websocket_with_and_without_tls() {
    let (mut bench, authority, _dir) = secured(vec![(true, None), (true, tls(None))]).await;
    let plain = TcpStream::connect(bench.addresses[0]).await.unwrap();
    speaks_mqtt_in_frames(&mut bench, plain).await;
    let secure = shake(&bench, 1, &authority.client(None)).await.unwrap();
    speaks_mqtt_in_frames(&mut bench, secure).await;
    let stream = TcpStream::connect(bench.addresses[0]).await.unwrap();
    match client_async("ws://localhost/mqtt", stream).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 400, "no subprotocol"),
        other => panic!("{other:?}"),
    }
}
