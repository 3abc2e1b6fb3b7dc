//! Work that goes on beside the connections: the core's timers, the `$SYS` tree, the look at changed files.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use signet_registry::{Actor, CaId, Command, Line, Topic};

use crate::ca::Authority;
use crate::clock::{Jump, JumpWatch};
use crate::server::Broker;
use crate::store::RegistryService;

/// How long the `$SYS` task and the file watch sleep while they are switched off, before they look again.
const OFF_LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Delayed wills, session expiry and everything else that the core does when nobody sends a packet.
pub(crate) async fn timers(broker: Arc<Broker>) {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    broker.hub().set_timer_waker(waker);
    loop {
        let next = broker.hub().tick(broker.clock.now());
        let mut sleep = Box::pin(async {
            match next {
                Some(at) => tokio::time::sleep_until(broker.clock.instant(at)).await,
                None => std::future::pending().await,
            }
        });
        // Either the deadline comes, or the core wakes this task because an earlier one was set.
        let mut polled = false;
        poll_fn(|cx| {
            if sleep.as_mut().poll(cx).is_ready() || polled {
                return Poll::Ready(());
            }
            polled = true;
            Poll::Pending
        })
        .await;
    }
}

/// Between two portions of connections that are closed.
const CLOSE_EVERY: Duration = Duration::from_millis(1);

/// Closes connections, many of them a few at a time.
pub(crate) async fn closings(broker: Arc<Broker>) {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    broker.hub().set_closing_waker(waker);
    // A sleep of a millisecond would take two.
    let mut turns = tokio::time::interval(CLOSE_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        if broker.hub().close_some() {
            turns.tick().await;
            continue;
        }
        // Until the core calls.
        let mut polled = false;
        poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// Publishes the `$SYS` tree.
pub(crate) async fn sys_topics(broker: Arc<Broker>) {
    loop {
        let interval = broker.config.load().system.sys_interval;
        tokio::time::sleep(interval.unwrap_or(OFF_LOOK_AGAIN)).await;
        if interval.is_some() {
            broker.hub().publish_sys(broker.clock.now());
            crate::memory::publish_sys(&broker);
        }
    }
}

/// Reloads when the content of a file that the configuration names has changed.
pub(crate) async fn watch_files(broker: Arc<Broker>) {
    loop {
        let interval = broker.config.load().system.watch_files_interval;
        tokio::time::sleep(interval.unwrap_or(OFF_LOOK_AGAIN)).await;
        if interval.is_none() {
            continue;
        }
        let looking = Arc::clone(&broker);
        let looked = tokio::task::spawn_blocking(move || {
            if crate::reload::files_changed(&looking) {
                // The outcome, good or bad, is logged by the reload itself.
                drop(looking.reload("changed files"));
            }
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "the look at changed files failed");
        }
    }
}

/// The shortest time between two revocation lists, and how long one that could not be written waits.
const LIST_PAUSE: Duration = Duration::from_secs(1);
const LIST_RETRY: Duration = Duration::from_secs(30);
/// How long the task sleeps when there is no list to renew.
const LISTS_LOOK_AGAIN: Duration = Duration::from_secs(86_400);

/// Writes the revocation lists of the authority that this broker is, and of those that it was: at the start, after every
/// revocation, and well before they lapse.
pub(crate) async fn revocation_lists(broker: Arc<Broker>) {
    let Some(registry) = broker.registry().map(Arc::clone) else { return };
    let watching = Arc::downgrade(&broker);
    registry.subscribe(move |applied, _| {
        let Some(broker) = watching.upgrade() else { return };
        let concerned =
            |authority: &Arc<Authority>| applied.effects.lists.contains(&authority.issuer().key_hash());
        if broker.authorities().iter().any(concerned) {
            broker.lists_wanted.notify_one();
        }
    });
    let mut told = HashMap::new();
    loop {
        let mut pause = LISTS_LOOK_AGAIN;
        for authority in broker.authorities().iter() {
            pause = pause.min(if authority.signs() {
                write_list(&broker, &registry, authority).await
            } else {
                look_at_list(&broker, &registry, authority, &mut told).await
            });
        }
        tokio::time::sleep(LIST_PAUSE).await;
        // A change during the pause has been noted, so this ends at once.
        drop(tokio::time::timeout(pause, broker.lists_wanted.notified()).await);
    }
}

/// Writes one list; when it is to be written again at the latest.
async fn write_list(
    broker: &Arc<Broker>,
    registry: &Arc<RegistryService>,
    authority: &Arc<Authority>,
) -> Duration {
    let (writing, by) = (Arc::clone(registry), Arc::clone(authority));
    match tokio::task::spawn_blocking(move || by.write_list(&writing)).await {
        Ok(Ok(list)) => {
            crate::trail::list_written(broker, &list, &Actor::Broker);
            tracing::info!(file = %list.path.display(), number = list.number, entries = list.entries, "revocation list written");
            authority.list_renewed_after()
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the revocation list could not be written; the last one stays");
            LIST_RETRY
        }
        Err(error) => {
            tracing::error!(%error, "writing the revocation list failed");
            LIST_RETRY
        }
    }
}

/// Looks at the list of an authority whose key is not here. What is wrong with it is said once, until something else is.
async fn look_at_list(
    broker: &Arc<Broker>,
    registry: &Arc<RegistryService>,
    authority: &Arc<Authority>,
    told: &mut HashMap<CaId, String>,
) -> Duration {
    let (looking, at, asked) = (Arc::clone(registry), Arc::clone(authority), Arc::clone(broker));
    let looked = tokio::task::spawn_blocking(move || {
        at.look_at_list(&looking, |edition| crate::reload::admits_list(&asked, edition))
    })
    .await;
    let subject = authority.issuer().subject();
    let wrong = match looked {
        Ok(Ok(looked)) => {
            if let Some(list) = &looked.news {
                let text =
                    format!("from outside, published from {}: number {}", list.path.display(), list.number);
                crate::trail::own_list(broker, &text);
                tracing::info!(%subject, file = %list.path.display(), number = list.number, "a revocation list came from outside");
            }
            (looked.missing > 0).then(|| {
                format!(
                    "the revocation list of \"{subject}\" lacks {} certificates that are revoked here; who relies on the list \
                     accepts them: sign a new one where the key is, and put it at {}",
                    looked.missing,
                    authority.list_file().display()
                )
            })
        }
        Ok(Err(error)) => Some(format!("there is no new revocation list of \"{subject}\": {error}")),
        Err(error) => Some(format!("the look at the revocation list of \"{subject}\" failed: {error}")),
    };
    let before = told.get(&authority.issuer().id());
    if let Some(wrong) = wrong.as_ref().filter(|wrong| Some(*wrong) != before) {
        tracing::error!("{wrong}");
        // The trail is for what happened; what to do is in the log.
        crate::trail::alarm(broker, &wrong.lines().next().unwrap_or_default());
    }
    match wrong {
        Some(wrong) => told.insert(authority.issuer().id(), wrong),
        None => told.remove(&authority.issuer().id()),
    };
    authority.list_renewed_after()
}

/// Between two looks at whether a token is late.
const TOKENS_LOOK: Duration = Duration::from_secs(2);

/// Says in the audit trail that a token did not answer in time, and that it does again. The log says so at each call.
pub(crate) async fn watch_tokens(broker: Arc<Broker>) {
    let mut late: HashMap<String, bool> = HashMap::new();
    let mut missed: HashMap<String, u64> = HashMap::new();
    loop {
        for authority in broker.authorities().iter() {
            let Some(token) = authority.token() else { continue };
            let name = token.token();
            let before = missed.insert(name.to_owned(), token.overdue()).unwrap_or(0);
            let is_late = token.stuck_for().is_some();
            let was_late = late.insert(name.to_owned(), is_late).unwrap_or(false);
            if token.overdue() > before && !was_late {
                let seconds = crate::ca::pkcs11::DEADLINE.as_secs();
                let text = format!(
                    "the token {name:?} with the authority's key did not answer within {seconds} seconds: nothing is issued until \
                     it does, and connections go on"
                );
                crate::trail::alarm(&broker, &text);
            }
            if was_late && !is_late {
                tracing::info!(token = name, "the authority's token answers again");
                crate::trail::alarm(
                    &broker,
                    &format!("the token {name:?} with the authority's key answers again"),
                );
            }
        }
        tokio::time::sleep(TOKENS_LOOK).await;
    }
}

/// Between two looks at the clocks.
const CLOCK_LOOK: Duration = Duration::from_secs(5);

/// Says when the wall clock was set. Nobody's connection ends by that: what ends is reckoned on the monotonic clock.
pub(crate) async fn watch_clock(broker: Arc<Broker>) {
    let mut watch = JumpWatch::new(broker.clock.now());
    loop {
        tokio::time::sleep(CLOCK_LOOK).await;
        if let Some(jump) = watch.look(broker.clock.now()) {
            broker.clock_was_set(jump);
        }
    }
}

impl Broker {
    /// The wall clock was set: tells it, and does again what was done by the time before.
    pub fn clock_was_set(&self, jump: Jump) {
        tell_jump(self, jump);
        // What was refused by the other time may be good by this one.
        self.penalties.forget_all();
        // A list may have lapsed, or may begin in what is the future now.
        self.lists_wanted.notify_one();
    }
}

fn tell_jump(broker: &Broker, jump: Jump) {
    let direction = if jump.forward { "forward" } else { "backward" };
    broker.metrics.standing.clock_jumps.with_label_values(&[direction]).inc();
    let judged_by = if jump.forward {
        "the new time"
    } else {
        "the time as it would be without that, until `signet reload` or SIGHUP says that the new time is right"
    };
    tracing::error!(
        seconds = jump.by.as_secs(),
        direction,
        "the wall clock was set: certificates that connect from now on are judged by {judged_by}, and live connections end \
         when they would have ended; see that the time is right"
    );
    if let Some(registry) = broker.registry() {
        let text = format!("the wall clock was set {direction} by {} seconds", jump.by.as_secs());
        let note = Command::Note { topic: Topic::Alarm, text: Line::new(&text) };
        drop(registry.submit(note, Actor::Broker));
    }
}
