//! A link that is slow: bytes come in small parts with pauses between them.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// At most so many bytes at a time over a slow link.
const PART: usize = 256;

/// A stream that pauses before each part that it reads.
pub(crate) struct Slow<S> {
    inner: S,
    pause: Option<Duration>,
    waiting: Pin<Box<Sleep>>,
}

impl<S> Slow<S> {
    /// `inner`, with this pause before each part; as it is with none.
    pub(crate) fn new(inner: S, pause: Option<Duration>) -> Self {
        Self { inner, pause, waiting: Box::pin(sleep(Duration::ZERO)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Slow<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(pause) = self.pause else { return Pin::new(&mut self.inner).poll_read(context, into) };
        if self.waiting.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let mut part = [0; PART];
        let wanted = into.remaining().min(PART);
        let mut part = ReadBuf::new(&mut part[..wanted]);
        let polled = Pin::new(&mut self.inner).poll_read(context, &mut part);
        if matches!(polled, Poll::Ready(Ok(()))) {
            into.put_slice(part.filled());
            self.waiting.as_mut().reset(Instant::now() + pause);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Slow<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
