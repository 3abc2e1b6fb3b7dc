//! The end of a connection that the core has closed: its last words, and the time that the peer has to read them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use signet_core::{CloseReason, Now};
use tokio::io::AsyncWrite as _;
use tokio_util::io::poll_read_buf;

use super::{Link, Phase};

/// How long the last words may take.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
/// What is read and thrown away after a farewell, so that the peer sees it instead of a reset.
const FAREWELL_BYTES_MAX: usize = 16 * 1024;

/// The phase of a connection that was closed for `reason`. `withheld`: all output but the last words is taken back.
/// `said_all`: no output waits.
pub(super) fn begin(reason: &CloseReason, withheld: bool, said_all: bool, now: Now) -> Phase {
    let until = now.mono.after(FAREWELL_WITHIN);
    Phase::Farewell {
        until,
        lingers: !took_its_leave(reason) || !said_all,
        withheld,
        shut: false,
        drained: 0,
    }
}

impl Link {
    /// The last words are written, the sending half is closed, and what the peer still says is read for a moment:
    /// closing a socket with unread bytes would reset it, and the peer might never see why it was closed. A peer that has
    /// said DISCONNECT says no more ([MQTT-3.14.4-1]): when nothing of ours is under way to it either, closing is enough.
    ///
    /// A certificate that is revoked meanwhile ends all that at once: nothing more is written.
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>, now: Now) -> Poll<()> {
        if matches!(self.phase, Phase::Farewell { withheld: false, .. }) && self.connection.is_withheld() {
            return Poll::Ready(());
        }
        if self.poll_outbound(cx).is_err() {
            return Poll::Ready(());
        }
        let Phase::Farewell { until, lingers, shut, drained, .. } = &mut self.phase else {
            return Poll::Ready(());
        };
        if now.mono >= *until || *drained >= FAREWELL_BYTES_MAX {
            self.give_up_held(cx);
            return Poll::Ready(());
        }
        let until = *until;
        let lingers = *lingers;
        if self.outbound.is_empty() && !*shut {
            if !lingers {
                self.stream.get_mut().0.close_at_once();
            }
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => *shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if *shut {
            loop {
                self.inbound.clear();
                match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbound) {
                    Poll::Ready(Ok(count)) if count > 0 && *drained < FAREWELL_BYTES_MAX => *drained += count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if !lingers => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
        }
        self.arm(until);
        match self.timer.as_mut().map(|timer| timer.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {
                self.give_up_held(cx);
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }

    /// The disk did not keep up until the end. What would acknowledge something that may be lost is cut out of the output;
    /// the last words go out if the socket takes them at once.
    fn give_up_held(&mut self, cx: &mut Context<'_>) {
        if !self.holds.any() {
            return;
        }
        let held = self.holds.give_up(self.outbound.len());
        self.outbound.cut(held);
        if self.poll_outbound(cx).is_ok() {
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
        }
    }
}

/// Whether it is the peer that ended the connection, by its own word or by leaving.
const fn took_its_leave(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Disconnected | CloseReason::DisconnectedWithWill(_) | CloseReason::PeerClosed
    )
}
