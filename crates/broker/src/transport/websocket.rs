//! MQTT over WebSocket: binary frames whose borders mean nothing (MQTT 5 section 6).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        self, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use super::Io;

/// The subprotocol that MQTT 3.1.1 and 5 prescribe.
const SUBPROTOCOL: &str = "mqtt";
/// A client may put several packets into a frame; so much more than one packet is taken.
const FRAME_SLACK_BYTES: usize = 64 * 1024;
/// Written at once; tungstenite would keep 128 KiB for each connection.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// The bytes of the frames, as a stream.
pub(super) struct Frames<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

/// Answers the HTTP upgrade. A client that does not offer the subprotocol is refused.
pub(super) async fn accept<S: Io>(stream: S, max_packet_bytes: u32) -> Result<Frames<S>, tungstenite::Error> {
    let most = usize::try_from(max_packet_bytes).unwrap_or(usize::MAX).saturating_add(FRAME_SLACK_BYTES);
    let config = WebSocketConfig::default()
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
        .read_buffer_size(WRITE_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX);
    let socket = accept_hdr_async_with_config(stream, negotiate, Some(config)).await?;
    Ok(Frames { socket, unread: Bytes::new() })
}

#[allow(clippy::result_large_err, reason = "the library's callback is so")]
fn negotiate(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == SUBPROTOCOL);
    if offered {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(Some("MQTT over WebSocket needs the subprotocol \"mqtt\"\n".to_owned()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    Err(refusal)
}

fn failed(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<S: Io> AsyncRead for Frames<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.unread.has_remaining() {
                let taken = self.unread.len().min(buffer.remaining());
                buffer.put_slice(&self.unread.split_to(taken));
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                // "A recipient of any other type of data frame must close the connection."
                Some(Ok(Message::Text(_))) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
    }
}

impl<S: Io> AsyncWrite for Frames<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(failed)?;
        Pin::new(&mut self.socket).start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(failed)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(failed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(failed)
    }
}
