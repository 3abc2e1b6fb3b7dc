//! Work that goes on beside the connections: the core's timers, the `$SYS` tree, the look at changed files.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::server::Broker;

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

/// Publishes the `$SYS` tree.
pub(crate) async fn sys_topics(broker: Arc<Broker>) {
    loop {
        let interval = broker.config.load().system.sys_interval;
        tokio::time::sleep(interval.unwrap_or(OFF_LOOK_AGAIN)).await;
        if interval.is_some() {
            broker.hub().publish_sys(broker.clock.now());
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
