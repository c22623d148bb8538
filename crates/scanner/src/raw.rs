//! A connection whose bytes are ours to send or to withhold, for what an MQTT client library would never do.

use std::io;

use bytes::{Bytes, BytesMut};
use rumqttc::{
    mqttbytes::v4,
    tokio_rustls::{TlsConnector, rustls::pki_types::ServerName},
    v5::mqttbytes::{QoS, v5},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::load::{Load, Protocol, Scanner};

/// No answer that is waited for is longer.
const MAX_PACKET_BYTES: usize = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What the broker said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// CONNACK, and whether it lets the client in.
    Connected(bool),
    /// PUBACK, and whether it took the reading.
    Acknowledged(bool),
    /// Nothing that matters here.
    Other,
}

/// The connection.
pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    input: BytesMut,
    protocol: Protocol,
}

impl Raw {
    /// A connection without any packet on it yet; TLS is done.
    pub(crate) async fn open(load: &Load, scanner: &Scanner) -> io::Result<Self> {
        let (host, port) = load.address().unwrap_or_default();
        // An IPv6 address has brackets for the sake of the port only.
        let host = host.trim_matches(['[', ']']);
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match load.tls_of(scanner) {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(config).connect(name, tcp).await?)
            }
        };
        Ok(Self { stream, input: BytesMut::new(), protocol: load.protocol })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next packet. An error also when the broker closes.
    pub(crate) async fn next(&mut self) -> io::Result<Answer> {
        loop {
            if let Some(answer) = self.parse()? {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<Answer>> {
        match self.protocol {
            Protocol::V311 => match v4::Packet::read(&mut self.input, MAX_PACKET_BYTES) {
                Ok(v4::Packet::ConnAck(ack)) => Ok(Some(Answer::Connected(ack.code == v4::ConnectReturnCode::Success))),
                Ok(v4::Packet::PubAck(_)) => Ok(Some(Answer::Acknowledged(true))),
                Ok(_) => Ok(Some(Answer::Other)),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
                Err(error) => Err(io::Error::other(error)),
            },
            Protocol::V5 => match v5::Packet::read(&mut self.input, u32::try_from(MAX_PACKET_BYTES).ok()) {
                Ok(v5::Packet::ConnAck(ack)) => Ok(Some(Answer::Connected(ack.code == v5::ConnectReturnCode::Success))),
                Ok(v5::Packet::PubAck(ack)) => {
                    let taken =
                        matches!(ack.reason, v5::PubAckReason::Success | v5::PubAckReason::NoMatchingSubscribers);
                    Ok(Some(Answer::Acknowledged(taken)))
                }
                Ok(_) => Ok(Some(Answer::Other)),
                Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
                Err(error) => Err(io::Error::other(format!("{error:?}"))),
            },
        }
    }
}

/// The bytes of a CONNECT. With `keep` a session that the broker has is kept as it is.
pub(crate) fn connect(protocol: Protocol, scanner: &Scanner, secret: Option<&str>, keep: bool) -> Bytes {
    let id = scanner.id.as_str();
    let mut bytes = BytesMut::new();
    // The limits are far above; a packet that cannot be written stays empty, and the broker waits for it.
    match protocol {
        Protocol::V311 => {
            let mut connect = v4::Connect::new(id);
            connect.clean_session = !keep;
            if let Some(secret) = secret {
                connect.set_login(id, secret);
            }
            drop(connect.write(&mut bytes));
        }
        Protocol::V5 => {
            let properties = keep.then(|| {
                let mut properties = v5::ConnectProperties::new();
                properties.session_expiry_interval = Some(crate::link::SESSION_EXPIRY_SECONDS);
                properties
            });
            let connect = v5::Connect { keep_alive: 60, client_id: id.to_owned(), clean_start: !keep, properties };
            let login = secret.map(|secret| v5::Login { username: id.to_owned(), password: secret.to_owned() });
            drop(v5::Packet::Connect(connect, None, login).write(&mut bytes, None));
        }
    }
    bytes.freeze()
}

/// The bytes of a PUBLISH at QoS 1.
pub(crate) fn publish(protocol: Protocol, topic: &str, packet_id: u16, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    match protocol {
        Protocol::V311 => {
            let mut publish = v4::Publish::new(topic, rumqttc::QoS::AtLeastOnce, payload);
            publish.pkid = packet_id;
            drop(publish.write(&mut bytes));
        }
        Protocol::V5 => {
            let payload = Bytes::copy_from_slice(payload);
            let mut publish = v5::Publish::new(topic, QoS::AtLeastOnce, payload, None);
            publish.pkid = packet_id;
            drop(publish.write(&mut bytes));
        }
    }
    bytes.freeze()
}
