//! The wire of one connection, and what goes wrong with it: it is slow, segments are lost and come late, it breaks with a word or
//! without one. A chip without power neither reads nor writes.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::board::Board;

/// At most so many bytes at a time over a slow wire.
const SLOW_PART: usize = 256;
/// The pause after each of them.
const SLOW_PAUSE: Duration = Duration::from_millis(120);
/// After how long a lost segment is sent again at first (RFC 6298, with the least that Linux takes); then after twice as long.
const RETRANSMITTED_AFTER: Duration = Duration::from_millis(200);
/// So often in a row a segment is lost at most.
const LOST_IN_A_ROW_MAX: u32 = 5;

/// The end of a wire.
enum Break {
    /// The connection is reset.
    Loud,
    /// Nothing comes and nothing goes, and nobody says so.
    Silent,
}

/// A connection of TCP with its faults.
pub(crate) struct Wire {
    tcp: TcpStream,
    board: Rc<Board>,
    slow: bool,
    /// Parts that are lost, of a thousand.
    losses: u32,
    breaks: Option<(Pin<Box<Sleep>>, Break)>,
    broken: bool,
    /// The next part is not here before.
    late: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// `tcp`, with what the board's dice say of it.
    pub(crate) fn new(tcp: TcpStream, board: Rc<Board>) -> Self {
        let faults = board.faults();
        let slow = board.happens(faults.map_or(0, |faults| faults.slow));
        let breaks = faults.and_then(|faults| {
            let after = board.next(faults.breaks?);
            let kind = if board.happens(faults.silent_breaks) { Break::Silent } else { Break::Loud };
            Some((Box::pin(sleep_until(Instant::now() + after)), kind))
        });
        board.shared.view().counts.slow += u64::from(slow);
        let losses = faults.map_or(0, |faults| faults.losses);
        Self { tcp, board, slow, losses, breaks, broken: false, late: None }
    }

    /// Whether bytes pass. An error when the connection was reset; pending when there is nobody or nothing any more.
    fn passes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.board.is_alive() {
            return Poll::Pending;
        }
        let Some((at, kind)) = &mut self.breaks else { return Poll::Ready(Ok(())) };
        if at.as_mut().poll(context).is_pending() {
            return Poll::Ready(Ok(()));
        }
        if !self.broken && !self.board.is_faulty() {
            // The faults ended before.
            self.breaks = None;
            return Poll::Ready(Ok(()));
        }
        if !self.broken {
            self.broken = true;
            self.board.shared.view().counts.breaks += 1;
        }
        match kind {
            Break::Loud => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Break::Silent => Poll::Pending,
        }
    }

    /// Says when the next part is here.
    fn delay(&mut self) {
        let mut pause = if self.slow { SLOW_PAUSE } else { Duration::ZERO };
        if self.losses > 0 && self.board.is_faulty() {
            let mut again = RETRANSMITTED_AFTER;
            for _ in 0..LOST_IN_A_ROW_MAX {
                if !self.board.happens(self.losses) {
                    break;
                }
                self.board.shared.view().counts.losses += 1;
                pause += again;
                again *= 2;
            }
        }
        self.late = (!pause.is_zero()).then(|| Box::pin(sleep_until(Instant::now() + pause)));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.board.shared.view().online = false;
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.passes(context))?;
        if let Some(late) = &mut self.late {
            std::task::ready!(late.as_mut().poll(context));
        }
        if !self.slow && self.losses == 0 {
            return Pin::new(&mut self.tcp).poll_read(context, into);
        }
        let polled = if self.slow {
            let mut part = [0; SLOW_PART];
            let wanted = into.remaining().min(SLOW_PART);
            let mut part = ReadBuf::new(&mut part[..wanted]);
            let polled = Pin::new(&mut self.tcp).poll_read(context, &mut part);
            into.put_slice(part.filled());
            polled
        } else {
            Pin::new(&mut self.tcp).poll_read(context, into)
        };
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.delay();
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.passes(context))?;
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.passes(context))?;
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
