//! The agent's loop.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::Future;
use core::pin::pin;

use embassy_futures::select::{Either, Either3, select, select3};
use rust_mqtt::buffer::AllocBuffer;
use signet_device_core::https::Ask;
use signet_device_core::platform::Platform;
use signet_device_core::{Action, Connect, Device, Failure, Input, RebootReason};

use crate::mqtt::Session;
use crate::runtime::{Connector, Runtime};
use crate::watched::Watched;

/// Runs the device until it wants to start again. `started` is what [`Device::new`] gave.
pub async fn run<P, C, R>(
    device: &mut Device<P>,
    started: Vec<Action>,
    connector: &mut C,
    runtime: &mut R,
) -> RebootReason
where
    P: Platform,
    C: Connector,
    R: Runtime,
{
    let mut agent = Agent { device, runtime, todo: started.into(), out: Vec::new() };
    agent.handle(Input::Tick);
    let mut next = agent.without_connection().await;
    loop {
        next = match next {
            Next::Reboot(reason) => return reason,
            Next::Connect(with) => agent.with_connection(connector, &with).await,
            Next::Ask(ask) => agent.with_question(connector, &ask).await,
            Next::Nothing => agent.without_connection().await,
        };
    }
}

/// What follows on a connection or its absence.
pub(crate) enum Next {
    Connect(Connect),
    Ask(Ask),
    Nothing,
    Reboot(RebootReason),
}

impl Next {
    /// What an action that ends a connection leads to; `None` for one that needs a connection.
    pub(crate) fn after(action: Action) -> Option<Self> {
        match action {
            Action::Connect(with) => Some(Self::Connect(with)),
            Action::Ask(ask) => Some(Self::Ask(ask)),
            Action::Reboot(reason) => Some(Self::Reboot(reason)),
            _ => None,
        }
    }
}

pub(crate) struct Agent<'a, P: Platform, R> {
    pub(crate) device: &'a mut Device<P>,
    pub(crate) runtime: &'a mut R,
    pub(crate) todo: VecDeque<Action>,
    /// Kept for its memory.
    pub(crate) out: Vec<Action>,
}

impl<P: Platform, R: Runtime> Agent<'_, P, R> {
    pub(crate) fn handle(&mut self, input: Input<'_>) {
        let now = self.runtime.now();
        self.device.handle(now, input, &mut self.out);
        self.todo.extend(self.out.drain(..));
    }

    /// Does what needs no connection; gives the action back when it does.
    pub(crate) async fn perform(&mut self, action: Action) -> Option<Action> {
        match action {
            Action::SetClock => self.runtime.set_clock(),
            Action::Sample => {
                let reading = self.runtime.sample().await;
                self.handle(Input::Sampled(reading));
            }
            Action::Identify(secs) => self.runtime.identify(secs),
            Action::Event(event) => self.runtime.note(&event),
            other => return Some(other),
        }
        None
    }

    /// Waits for the device to want a connection.
    async fn without_connection(&mut self) -> Next {
        loop {
            while let Some(action) = self.todo.pop_front() {
                // What is for a connection that is gone is forgotten.
                if let Some(Some(next)) = self.perform(action).await.map(Next::after) {
                    return next;
                }
            }
            self.wait().await;
            self.look_for_orders();
            self.handle(Input::Tick);
        }
    }

    /// A person may have asked for a rotation.
    fn look_for_orders(&mut self) -> bool {
        let wanted = self.runtime.rotation_wanted();
        if wanted {
            self.handle(Input::RotateNow);
        }
        wanted
    }

    /// Until the device's next deadline, or somebody wants it.
    async fn wait(&self) {
        select(self.runtime.until(self.device.next_deadline()), self.runtime.roused()).await;
    }

    /// Connects and stays connected for as long as both sides want.
    async fn with_connection<C: Connector>(&mut self, connector: &mut C, with: &Connect) -> Next {
        let judged = Cell::new(None);
        let mut buffer = AllocBuffer;
        let give_up = self.runtime.now().mono.saturating_add(with.timeout_ms.into());
        let opened = {
            let open = pin!(async {
                let stream = connector.connect(with).await?;
                let stream = Watched::new(stream, C::judge, &judged);
                Session::open(&mut buffer, stream, with).await
            });
            select(open, self.runtime.until(give_up)).await
        };
        let ended = match opened {
            Either::First(Ok(session)) => {
                self.handle(Input::Connected);
                self.converse(session, with).await
            }
            Either::First(Err(failure)) => Err(failure),
            Either::Second(()) => Err(Failure::Unreachable),
        };
        ended.unwrap_or_else(|failure| {
            self.handle(Input::Ended(failure));
            Next::Nothing
        })
    }

    async fn converse<S>(&mut self, mut session: Session<'_, S>, with: &Connect) -> Result<Next, Failure>
    where
        S: embedded_io_async::Read + embedded_io_async::Write,
    {
        let mut keep_alive = KeepAlive::new(with.keep_alive_secs, self.runtime.now().mono);
        loop {
            while let Some(action) = self.todo.pop_front() {
                if matches!(action, Action::Publish(_)) && !session.has_room() {
                    self.todo.push_front(action);
                    break;
                }
                match self.perform(action).await {
                    None => {}
                    Some(Action::Subscribe { id, filters }) => {
                        in_time(self.runtime, session.subscribe(id, &filters)).await?;
                    }
                    Some(Action::Publish(publish)) => {
                        in_time(self.runtime, session.publish(&publish)).await?;
                    }
                    Some(last) => {
                        // The connection is given up either way.
                        let goodbye = async {
                            session.close().await;
                            Ok(())
                        };
                        let _ = in_time(self.runtime, goodbye).await;
                        return Ok(Next::after(last).unwrap_or(Next::Nothing));
                    }
                }
            }
            if self.look_for_orders() {
                continue;
            }
            let until = self.device.next_deadline().min(keep_alive.due());
            match select3(session.header(), self.runtime.until(until), self.runtime.roused()).await {
                Either3::First(header) => {
                    let header = header?;
                    keep_alive.heard();
                    let Self { device, runtime, todo, out } = self;
                    let runtime: &R = runtime;
                    let mut taken = false;
                    let heard = session.body(header, |input| {
                        taken = matches!(input, Input::Acknowledged { accepted: true, .. });
                        device.handle(runtime.now(), input, out);
                        todo.extend(out.drain(..));
                    });
                    let late = runtime.until(keep_alive.lost_at(runtime.now().mono));
                    // A packet that has begun must end: otherwise the peer is gone.
                    match select(heard, late).await {
                        Either::First(heard) => heard?,
                        Either::Second(()) => return Err(Failure::Lost),
                    }
                    if taken {
                        self.runtime.acknowledged();
                    }
                }
                Either3::Second(()) | Either3::Third(()) => {
                    match keep_alive.check(self.runtime.now().mono) {
                        Pulse::Fine => {}
                        Pulse::Ping => in_time(self.runtime, session.ping()).await?,
                        Pulse::Lost => return Err(Failure::Lost),
                    }
                    self.handle(Input::Tick);
                }
            }
        }
    }
}

/// How long a packet may take to leave, in milliseconds. A peer that is gone without a word takes nothing, and neither TLS nor
/// TCP would ever say so.
const SENT_WITHIN_MS: u64 = 30_000;

/// Sends something, or finds the connection lost.
async fn in_time<R: Runtime, T>(
    runtime: &R,
    sending: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let give_up = runtime.now().mono.saturating_add(SENT_WITHIN_MS);
    match select(sending, runtime.until(give_up)).await {
        Either::First(sent) => sent,
        Either::Second(()) => Err(Failure::Lost),
    }
}

/// The heartbeat: PINGREQ at half the keep alive, and an answer before the next.
struct KeepAlive {
    interval_ms: u64,
    ping_at: u64,
    awaiting: bool,
}

/// What the heartbeat asks for.
enum Pulse {
    Fine,
    Ping,
    Lost,
}

impl KeepAlive {
    fn new(secs: u16, now: u64) -> Self {
        let interval_ms = if secs == 0 { u64::MAX / 2 } else { u64::from(secs) * 500 };
        Self { interval_ms, ping_at: now.saturating_add(interval_ms), awaiting: false }
    }

    fn due(&self) -> u64 {
        self.ping_at
    }

    /// Any packet shows that the broker is there. PINGREQ is sent at its time all the same: it is for the broker.
    fn heard(&mut self) {
        self.awaiting = false;
    }

    fn lost_at(&self, now: u64) -> u64 {
        now.saturating_add(self.interval_ms)
    }

    fn check(&mut self, now: u64) -> Pulse {
        if now < self.ping_at {
            return Pulse::Fine;
        }
        if self.awaiting {
            return Pulse::Lost;
        }
        self.awaiting = true;
        self.ping_at = now.saturating_add(self.interval_ms);
        Pulse::Ping
    }
}
