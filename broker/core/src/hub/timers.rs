//! What happens to sessions without a connection when time passes: delayed wills and session expiry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::counters::count;
use crate::hub::{Draft, Hub, Scratch, SendError};
use crate::session::{ArmedWill, Session, SessionRef};
use crate::time::{Mono, Now};

/// So many sessions are looked at in one [`Hub::tick`], so that a fleet that vanished does not hold up its caller.
const TICK_SESSIONS_MAX: usize = 1000;
/// At most this often expired retained messages are swept. Until then they take room, but are never delivered.
const RETAINED_SWEEP: Duration = Duration::from_secs(1);

/// Sessions by the deadline that they wait for; each at most once.
#[derive(Debug, Default)]
pub(super) struct Timers(Mutex<Wheel>);

#[derive(Debug, Default)]
struct Wheel {
    due: BTreeMap<(Mono, u64), SessionRef>,
    waker: Option<Waker>,
    next_sweep: Mono,
}

impl Hub {
    /// Who is to be called when [`Self::next_deadline`] becomes earlier.
    pub fn set_timer_waker(&self, waker: Waker) {
        self.timers.0.lock().waker = Some(waker);
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let wheel = self.timers.0.lock();
        let sweep = self.retained.next_expiry().map(|at| at.max(wheel.next_sweep));
        let session = wheel.due.first_key_value().map(|((at, _), _)| *at);
        [sweep, session].into_iter().flatten().min()
    }

    /// Does what is due at `now` and says when to come again. The answer may be `now` itself: there is more.
    pub fn tick(&self, now: Now) -> Option<Mono> {
        for _ in 0..TICK_SESSIONS_MAX {
            let Some((at, cell)) = self.pop_due(now.mono) else { break };
            self.session_due(at, &cell, now);
        }
        self.sweep_retained(now.mono);
        self.next_deadline()
    }

    fn sweep_retained(&self, now: Mono) {
        if self.timers.0.lock().next_sweep > now {
            return;
        }
        self.retained.expire(now);
        let more = self.retained.next_expiry().is_some_and(|at| at <= now);
        self.timers.0.lock().next_sweep = if more { now } else { now.after(RETAINED_SWEEP) };
    }

    fn pop_due(&self, now: Mono) -> Option<(Mono, SessionRef)> {
        let mut wheel = self.timers.0.lock();
        let entry = wheel.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((at, _), cell) = entry.remove_entry();
        Some((at, cell))
    }

    fn session_due(&self, at: Mono, cell: &SessionRef, now: Now) {
        let _together = self.together(cell.number);
        let mut state = cell.state.lock();
        if state.ended || state.timer != Some(at) {
            return;
        }
        state.timer = None;
        if state.ends.is_some_and(|(ends, _)| ends <= now.mono) {
            count(&self.counters.shard(cell.number).sessions_expired);
            let aftermath = self.end(cell, state);
            self.settle(aftermath, now);
            return;
        }
        let fires = if state.will_due.is_some_and(|(due, _)| due <= now.mono) {
            state.will_due = None;
            let will = state.will.take();
            self.record(cell, &state);
            will
        } else {
            None
        };
        let next = state.next_deadline();
        self.set_timer(cell, &mut state, next);
        drop(state);
        if let Some(armed) = fires {
            self.send_will(*armed, cell.number, &mut Scratch::default(), now);
        }
    }

    /// Puts the session under another deadline, or none.
    pub(super) fn set_timer(&self, cell: &SessionRef, state: &mut Session, at: Option<Mono>) {
        if state.timer == at {
            return;
        }
        let mut wheel = self.timers.0.lock();
        if let Some(old) = state.timer {
            wheel.due.remove(&(old, cell.number));
        }
        state.timer = at;
        let Some(at) = at else { return };
        wheel.due.insert((at, cell.number), Arc::clone(cell));
        let first = wheel
            .due
            .first_key_value()
            .is_some_and(|((first, number), _)| (*first, *number) == (at, cell.number));
        let waker = if first { wheel.waker.clone() } else { None };
        drop(wheel);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Sends a will, judged by the policy of this moment (`[MQTT5-3.1.2-8]`, `[MQTT5-3.1.2-14]`, `[MQTT5-3.1.2-15]`).
    pub(super) fn send_will(&self, armed: ArmedWill, from: u64, scratch: &mut Scratch, now: Now) {
        let ArmedWill { will, author } = armed;
        let mut draft = Draft {
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            properties: will.properties,
            // Who sent it is gone.
            can_be_refused: false,
            receivers: None,
        };
        let counters = self.counters.shard(from);
        match self.send(&mut draft, &author, from, scratch, now) {
            Ok(routed) => {
                count(&counters.wills_sent);
                if routed.unretained {
                    count(&counters.quota_retained);
                }
            }
            Err(SendError::Denied(_) | SendError::ResponseTopic(_)) => count(&counters.denied_will),
            Err(SendError::RetainedQuota) => count(&counters.quota_retained),
            // A will is not turned away: there is one for each connection at most.
            Err(SendError::Overloaded) => count(&counters.shed_publish),
        }
    }
}
