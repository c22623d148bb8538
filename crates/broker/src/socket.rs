//! A client's socket with its buffers: the handshakes, the first packet, bounded reads and writes.

use std::{
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    task::{Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    time::timeout,
};

use crate::{
    handshake::Refusal,
    metrics,
    session::End,
    transport::{Io, Opened},
    wire::{self, Connack, Connect, Decoder, Version},
};

/// Read at once, at most; a connection's buffer grows to one packet beyond it.
const READ_BYTES: usize = 8 * 1024;
/// A larger buffer of answers is given back once they are written.
const KEPT_BYTES: usize = 256;
/// The first byte of a connection: CONNECT, whose flags are reserved and zero.
const CONNECT: u8 = 0x10;
/// A client that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the goodbye of TLS and WebSocket.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The socket with its buffers.
pub(crate) struct Socket {
    io: Box<dyn Io>,
    pub(crate) decoder: Decoder,
    pub(crate) input: BytesMut,
    pub(crate) out: BytesMut,
}

impl Socket {
    /// Waits for the transport's handshakes and reads the CONNECT; with the name in the client's certificate.
    pub(crate) async fn greet(
        opening: impl Future<Output = Result<Opened, metrics::Connect>>,
        max_packet_bytes: u32,
    ) -> Result<(Self, Connect, Option<String>), metrics::Connect> {
        let opened = opening.await?;
        let decoder = Decoder::new(max_packet_bytes);
        let mut socket = Self { io: opened.io, decoder, input: BytesMut::new(), out: BytesMut::new() };
        let connect = socket.connect().await?;
        Ok((socket, connect, opened.certified))
    }

    /// Reads the CONNECT. Bytes that are none end the connection, with a CONNACK where a protocol can be told.
    async fn connect(&mut self) -> Result<Connect, metrics::Connect> {
        if !matches!(self.read().await, Ok(1..)) {
            return Err(metrics::Connect::Closed);
        }
        // Another protocol's first bytes may announce a long packet; there is no point in waiting for it.
        if self.input.first() != Some(&CONNECT) {
            return Err(metrics::Connect::Malformed);
        }
        loop {
            if let Some(packet) = self.decoder.next(&mut self.input) {
                let fault = match packet.and_then(|raw| wire::parse_connect(&raw)) {
                    Ok(connect) => return Ok(connect),
                    Err(fault) => fault,
                };
                let Some((refusal, version)) = Refusal::of(fault) else { return Err(metrics::Connect::Malformed) };
                self.refuse(refusal.code(version), version).await;
                return Err(refusal.outcome);
            }
            match self.read().await {
                Ok(0) | Err(_) => return Err(metrics::Connect::Closed),
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn refuse(&mut self, code: u8, version: Version) {
        wire::connack(&mut self.out, version, &Connack { code, ..Connack::default() });
        let _ = self.flush().await;
    }

    /// Cancel safe. Reads by way of the stack: a connection that waits holds no buffer.
    pub(crate) async fn read(&mut self) -> std::io::Result<usize> {
        poll_fn(|context| {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
            if self.input.is_empty() {
                self.input = BytesMut::with_capacity(buffer.filled().len());
            }
            self.input.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
        .await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = async {
            self.io.write_all(&self.out).await?;
            self.io.flush().await
        };
        match timeout(WRITE_TIMEOUT, written).await {
            Ok(Ok(())) => self.out.clear(),
            Ok(Err(_)) | Err(_) => return Err(End::Lost),
        }
        if self.out.capacity() > KEPT_BYTES {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Says goodbye at the transport's level, to a peer that may not listen any more.
    pub(crate) async fn close(&mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.io.shutdown()).await;
    }
}
