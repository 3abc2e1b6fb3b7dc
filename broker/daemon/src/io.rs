//! The byte stream below TLS, made so that it can move from one runtime to another.
//!
//! A handshake costs a hundred times what a message costs, so handshakes run on a runtime of their own and the
//! socket is handed to the traffic runtime afterwards. A tokio socket is bound to the reactor that registered it,
//! and a TLS stream cannot be taken apart: [`PeerIo`] is therefore a socket that can be lifted out of the finished
//! stream and put back on the other side.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::holds_back;

/// An alert and what TLS puts around it. More is never held back.
const HELD_BYTES_MAX: usize = 512;

/// A TCP socket with the bytes that were read from it before TLS began (the ClientHello).
#[derive(Debug)]
pub struct PeerIo {
    socket: Option<TcpStream>,
    replay: BytesMut,
    /// While the handshake lasts, what is said to a peer that has to wait for it; `None` once it is over.
    held: Option<BytesMut>,
    /// While the handshake lasts, how many bytes the peer may still send; `None`: as many as it likes.
    left: Option<usize>,
    /// The socket is closed as soon as TLS has ended, so that its sending half need not be closed before.
    closing: bool,
    /// Bytes that the socket has taken.
    sent: u64,
}

impl PeerIo {
    /// A stream that yields `replay` first, then what the socket brings.
    pub fn new(socket: TcpStream, replay: BytesMut) -> Self {
        Self {
            socket: Some(socket),
            replay,
            held: Some(BytesMut::new()),
            left: None,
            closing: false,
            sent: 0,
        }
    }

    /// From here on a shutdown of the stream leaves the socket as it is: whoever calls this drops it next.
    pub fn close_at_once(&mut self) {
        self.closing = true;
    }

    /// Bytes that the socket has taken since there is one, those of the handshake included.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Lets the peer send `bytes` in all, those that were read before included, until [`PeerIo::unbounded`].
    #[must_use]
    pub fn within(self, bytes: usize) -> Self {
        let left = bytes.saturating_sub(self.replay.len());
        Self { left: Some(left), ..self }
    }

    /// The peer has shown who it is, and may send what it likes.
    pub fn unbounded(&mut self) {
        self.left = None;
    }

    /// Takes the socket off its reactor. Until [`PeerIo::attach`] every operation fails with `NotConnected`.
    pub fn detach(&mut self) -> io::Result<std::net::TcpStream> {
        self.held = None;
        self.unbounded();
        self.socket.take().ok_or_else(not_attached)?.into_std()
    }

    /// Registers the socket with the reactor of the runtime that this is called on.
    pub fn attach(&mut self, socket: std::net::TcpStream) -> io::Result<()> {
        self.socket = Some(TcpStream::from_std(socket)?);
        Ok(())
    }

    /// Says what was held back; from then on nothing is.
    pub async fn release(&mut self) -> io::Result<()> {
        let held = self.held.take().unwrap_or_default();
        self.write_all(&held).await
    }

    /// Keeps an answer that is to wait, and says how much of it that was; `None`: it need not wait.
    fn hold_back(&mut self, bufs: &[io::IoSlice<'_>]) -> Option<usize> {
        let held = self.held.as_mut().filter(|_| holds_back())?;
        let room = HELD_BYTES_MAX.saturating_sub(held.len());
        bufs.iter().flat_map(|buf| buf.iter()).take(room).for_each(|byte| held.put_u8(*byte));
        Some(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn count(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &polled {
            self.sent += *count as u64;
        }
        polled
    }

    fn socket(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(not_attached)
    }
}

/// What says that a handshake was too long.
pub(crate) const TOO_MUCH: &str = "the peer sent more than handshake-bytes-max before its handshake was over";

fn too_much() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, TOO_MUCH)
}

fn not_attached() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket is between two runtimes")
}

impl AsyncRead for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.replay.is_empty() {
            let count = self.replay.len().min(buf.remaining());
            buf.put_slice(&self.replay[..count]);
            self.replay.advance(count);
            if self.replay.is_empty() {
                self.replay = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        // What a record of the handshake brings behind its end is not refused: only who goes on is.
        if self.left == Some(0) {
            return Poll::Ready(Err(too_much()));
        }
        let before = buf.filled().len();
        let polled = self.socket()?.poll_read(cx, buf);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(buf.filled().len() - before);
        }
        polled
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(count) = self.hold_back(&[io::IoSlice::new(buf)]) {
            return Poll::Ready(Ok(count));
        }
        let polled = self.socket()?.poll_write(cx, buf);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(count) = self.hold_back(bufs) {
            return Poll::Ready(Ok(count));
        }
        let polled = self.socket()?.poll_write_vectored(cx, bufs);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing {
            return Poll::Ready(Ok(()));
        }
        self.socket()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[test]
    fn a_stream_moves_to_another_runtime_and_keeps_its_replayed_bytes() {
        let first = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut io, mut peer) = first.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            (PeerIo::new(socket, BytesMut::from(&b"hello"[..])), peer)
        });
        let socket = io.detach().unwrap();
        std::io::Write::write_all(&mut peer, b" world").unwrap();
        let text = second.block_on(async {
            io.attach(socket).unwrap();
            let mut text = [0u8; 11];
            io.read_exact(&mut text).await.unwrap();
            io.write_all(b"ok").await.unwrap();
            assert_eq!(io.sent(), 2);
            text
        });
        assert_eq!(&text, b"hello world");
        let mut answer = [0u8; 2];
        std::io::Read::read_exact(&mut peer, &mut answer).unwrap();
        assert_eq!(&answer, b"ok");
    }

    #[test]
    fn a_peer_that_sends_more_than_it_may_before_it_is_known_is_cut_off_and_later_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut io = PeerIo::new(socket, BytesMut::from(&b"hello"[..])).within(10);
            std::io::Write::write_all(&mut peer, b"12345678").unwrap();
            let mut bytes = [0; 5];
            io.read_exact(&mut bytes).await.unwrap();
            io.read_exact(&mut bytes).await.unwrap();
            let error = io.read(&mut bytes).await.unwrap_err();
            assert!(error.to_string().contains("handshake-bytes-max"), "{error}");
            io.unbounded();
            assert_eq!(io.read(&mut bytes).await.unwrap(), 3);
        });
    }

    #[test]
    fn a_detached_stream_fails_instead_of_hanging() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut io = PeerIo::new(socket, BytesMut::new());
            let _socket = io.detach().unwrap();
            let error = io.write_all(b"x").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        });
    }
}
