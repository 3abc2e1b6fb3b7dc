//! Pairs of a publisher and a subscriber that go on quietly while something else happens, and the latency of their messages.
//!
//! They have a thread of their own, so that it is the broker that is measured and not the queue of the load generator's tasks. Where it
//! is allowed (root), that thread goes before others of this machine, as a measuring instrument should; the load may go behind
//! them ([`Place`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use mqttbytes::QoS;
use mqttbytes::v4::{Packet, Publish};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::behind::{Behind, MEASURING, Place};
use crate::client::{Client, codec};
use crate::latency::Latencies;
use crate::pki::Device;

/// The nice value of the measuring thread.
const URGENT: i32 = -10;
/// For messages under way when everything ends.
const SETTLE: Duration = Duration::from_millis(500);

/// When a message was sent, and how long it took.
#[derive(Clone, Copy)]
struct Sample {
    sent: Instant,
    took: Duration,
}

/// Running pairs.
pub(crate) struct Steady {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<Vec<Sample>>>,
    behind: Option<Behind>,
}

/// What the pairs saw.
pub(crate) struct Seen {
    samples: Vec<Sample>,
}

impl Seen {
    /// Of the messages that were sent in this time.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Latencies {
        let within = self.samples.iter().filter(|sample| (from..to).contains(&sample.sent));
        within.map(|sample| sample.took).collect()
    }
}

impl Steady {
    /// Connects a pair for each device, which publishes so many messages of 64 bytes per second at QoS 0, and begins. The `load`
    /// takes its place from then on.
    pub(crate) async fn start(
        address: SocketAddr,
        devices: Vec<Device>,
        admin: Device,
        per_second: u32,
        load: Place,
    ) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (ready, begun) = oneshot::channel();
        let thread = std::thread::Builder::new().name(MEASURING.to_owned()).spawn(move || {
            // Not allowed to everybody, and then the figures are a little worse.
            let _ = rustix::process::setpriority_process(None, URGENT);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(pairs(address, devices, admin, per_second, ready, stopped))
        })?;
        let mut steady = Self { stop, thread, behind: None };
        match begun.await {
            Ok(()) => {
                steady.behind = (load == Place::Behind).then(Behind::step_back);
                Ok(steady)
            }
            Err(_) => match steady.finish().await {
                Ok(_) => bail!("the steady pairs did not begin"),
                Err(error) => Err(error.context("connecting the steady pairs")),
            },
        }
    }

    /// Ends the pairs; an error if one lost its connection or a message.
    pub(crate) async fn finish(self) -> Result<Seen> {
        // Nobody listens when the thread has ended by an error, which it then gives.
        let _ = self.stop.send(true);
        drop(self.behind);
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        let samples = ended.map_err(|_| anyhow::anyhow!("the thread of the steady pairs panicked"))??;
        Ok(Seen { samples })
    }
}

async fn pairs(
    address: SocketAddr,
    devices: Vec<Device>,
    admin: Device,
    per_second: u32,
    ready: oneshot::Sender<()>,
    stopped: watch::Receiver<bool>,
) -> Result<Vec<Sample>> {
    let epoch = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let (mut publishers, mut subscribers) = (JoinSet::new(), JoinSet::new());
    let period = Duration::from_secs(1) / per_second;
    for (number, device) in devices.iter().enumerate() {
        let mut subscriber = Client::connect(address, &admin, &format!("steady-{number}")).await?;
        subscriber.subscribe(&format!("devices/{}/telemetry/#", device.name), QoS::AtMostOnce).await?;
        let publisher = Client::connect(address, device, &device.name).await?;
        let first = period * u32::try_from(number)? / u32::try_from(devices.len())?;
        subscribers.spawn(receive(subscriber, epoch, stopped.clone()));
        let topic = format!("devices/{}/telemetry/t", device.name);
        let beat = Beat { epoch, first, period };
        publishers.spawn(publish(publisher, topic, beat, Arc::clone(&sent), stopped.clone()));
    }
    let _ = ready.send(());
    // Held until the end: a close is no part of the measurement.
    let mut held = Vec::new();
    while let Some(publisher) = publishers.join_next().await {
        held.push(publisher??);
    }
    let mut samples = Vec::new();
    while let Some(subscriber) = subscribers.join_next().await {
        samples.extend(subscriber??);
    }
    let (sent, received) = (sent.load(Ordering::Relaxed), samples.len() as u64);
    anyhow::ensure!(received == sent, "of {sent} steady messages {received} arrived");
    Ok(samples)
}

/// When a publisher speaks.
struct Beat {
    epoch: Instant,
    first: Duration,
    period: Duration,
}

async fn publish(
    mut client: Client,
    topic: String,
    beat: Beat,
    sent: Arc<AtomicU64>,
    mut stopped: watch::Receiver<bool>,
) -> Result<Client> {
    let start = tokio::time::Instant::now() + beat.first;
    let mut ticks = tokio::time::interval_at(start, beat.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut out = BytesMut::new();
    loop {
        tokio::select! {
            biased;
            ended = told_to_stop(&mut stopped) => return ended.map(|()| client),
            _ = ticks.tick() => {}
        }
        let mut payload = [0; 64];
        stamp(&mut payload, beat.epoch);
        out.clear();
        Publish::new(&topic, QoS::AtMostOnce, payload).write(&mut out).map_err(codec)?;
        client.write(&out).await?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

async fn receive(
    mut client: Client,
    epoch: Instant,
    mut stopped: watch::Receiver<bool>,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let ended = async move {
        let told = told_to_stop(&mut stopped).await;
        tokio::time::sleep(SETTLE).await;
        told
    };
    tokio::pin!(ended);
    loop {
        let packet = tokio::select! {
            biased;
            packet = client.read() => packet?,
            told = &mut ended => return told.map(|()| samples),
        };
        let Packet::Publish(publish) = packet else { bail!("unexpected at a subscriber: {packet:?}") };
        let sent = stamped(&publish.payload, epoch).context("a message of somebody else")?;
        samples.push(Sample { sent, took: sent.elapsed() });
    }
}

/// Returns when the run is over.
pub(crate) async fn told_to_stop(stopped: &mut watch::Receiver<bool>) -> Result<()> {
    stopped.wait_for(|stop| *stop).await?;
    Ok(())
}

/// Writes the time since `epoch` into the beginning of a payload.
pub(crate) fn stamp(payload: &mut [u8], epoch: Instant) {
    let nanos = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if let Some(place) = payload.first_chunk_mut() {
        *place = nanos.to_be_bytes();
    }
}

/// The moment that [`stamp`] wrote.
pub(crate) fn stamped(payload: &[u8], epoch: Instant) -> Option<Instant> {
    epoch.checked_add(Duration::from_nanos(u64::from_be_bytes(*payload.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let epoch = Instant::now();
        let (before, mut payload) = (Instant::now(), [0; 8]);
        stamp(&mut payload, epoch);
        let read = stamped(&payload, epoch).unwrap();
        assert!(before <= read && read <= Instant::now());
        assert_eq!(stamped(&payload[1..], epoch), None);
    }
}
