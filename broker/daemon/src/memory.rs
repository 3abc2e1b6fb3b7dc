//! The ceiling of the process's memory: how much there is, and what follows when it runs short.
//!
//! What the kernel says is resident is what counts, since it is what the kernel kills for. It is looked at ten times a
//! second, and besides whenever so much has come in that it could have changed: who reads, and who makes a connection,
//! says how much. So between two looks no more than a part of the reserve can have been taken.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use signet_config::{Checked, MemoryMax};
use signet_core::{CloseReason, Hub, Mono, Pressure};
use signet_wire::TopicName;
use tokio::sync::Notify;

use crate::allocator::Threads;
use crate::directory::Buffers;
use crate::server::Broker;

const MIB: u64 = 1024 * 1024;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// The reserve below the ceiling: an eighth of it, and so much at least where that is no more than a quarter.
const RESERVE_BYTES_MIN: u64 = 16 * MIB;
/// Connections that are closed at one look to make room.
const CLOSED_AT_ONCE_MAX: usize = 64;
/// Half-open peers that are dropped at one look to make room.
const DROPPED_AT_ONCE_MAX: usize = 256;
/// Who holds less is not closed at first: somebody who reads and writes as it should holds as much.
const HELD_BYTES_MIN: usize = 64 * 1024;
/// Where nobody is left who holds as much and memory still runs short, many hold a little: half as much is looked for each
/// time, but never less than this. What is below is a connection's own, and closing it makes no room that lasts.
const HELD_BYTES_FLOOR: usize = 4 * 1024;
/// When memory has run short for so long, those who hold the most are closed although there is some left: by itself it does
/// not get better.
const SHORT_FOR: Duration = Duration::from_secs(3);
/// So long it takes until what was closed has given back what it held. Meanwhile nobody else is closed, unless there is less
/// than before.
const EFFECT_AFTER: Duration = Duration::from_secs(1);
/// Who has sent so many times what its buffers hold in whole packets lately, and for whom no more than [`HELD_BYTES_FLOOR`] waits, has
/// half a packet there since nobody reads it while memory is short: it is not what memory is short of.
const HEARD_SHARE: u64 = 4;
/// What a peer has sent since the look before the last was sent lately: looks are so far apart. While memory is short there are none,
/// since whoever has half a packet there is not heard.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// Who has taken one in so many of the bytes that it has to take since the look before the last, which is a second or two, makes
/// progress: in about a minute or two it is done.
const PROGRESS_SHARE: u64 = 64;
/// Peers that may be on their way in while the reserve is half used up: those who come for what waits make room.
const LET_IN_AT_ONCE_MAX: usize = 8;
/// What a peer takes from accept to the end of its handshake, in bytes.
pub(crate) const HANDSHAKE_BYTES: usize = 48 * 1024;

/// How much memory the process has, and may have.
#[derive(Debug, Default)]
pub struct Memory {
    /// 0: there is no ceiling.
    ceiling: AtomicU64,
    resident: AtomicU64,
    resident_max: AtomicU64,
    /// Taken at the edge since the last look.
    taken: AtomicUsize,
    statm: Mutex<Option<File>>,
    short: Notify,
}

/// Where things begin to change, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    /// Those who hold more than their share are refused what is new.
    tight: u64,
    shed: u64,
    full: u64,
    /// Nobody is let in any more.
    brim: u64,
    /// Below it nobody is refused anything who holds no more than its share,
    calm: u64,
    /// and below this nobody at all.
    ease: u64,
    /// After so much has been taken there is another look.
    step: usize,
    /// What a name may hold and still be served where memory begins to be tight.
    share: u64,
}

impl Marks {
    fn of(ceiling: u64) -> Self {
        let reserve = (ceiling / 8).max(RESERVE_BYTES_MIN.min(ceiling / 4));
        Self {
            tight: ceiling - reserve - reserve / 2,
            shed: ceiling - reserve,
            full: ceiling - reserve / 2,
            brim: ceiling - reserve / 8,
            calm: ceiling - reserve - reserve / 8,
            ease: ceiling - reserve - reserve / 2 - reserve / 8,
            step: usize::try_from(reserve / 16).unwrap_or(usize::MAX),
            share: ceiling / FAIR_SHARE,
        }
    }

    /// What a name may hold and still be served with so much resident while memory is tight. It shrinks as memory fills:
    /// however many names hold a little each, those with the most are refused first, and before everybody is.
    fn fair_share(self, resident: u64) -> usize {
        let span = self.shed - self.tight;
        let left = self.shed.saturating_sub(resident).min(span);
        // What was taken on is written to the store a little later, and takes room there too: so it shrinks early.
        let (left, span) = (u128::from(left), u128::from(span.max(1)));
        let share = u128::from(self.share) * left * left / (span * span);
        let least = self.share / FAIR_SHARE_LEAST;
        usize::try_from(share).unwrap_or(usize::MAX).max(usize::try_from(least).unwrap_or(usize::MAX))
    }

    fn pressure(self, resident: u64, before: Pressure) -> Pressure {
        if resident >= self.full {
            Pressure::Full
        } else if resident >= self.shed || (before >= Pressure::Shed && resident >= self.calm) {
            Pressure::Shed
        } else if resident >= self.tight || (before != Pressure::None && resident >= self.ease) {
            Pressure::Tight
        } else {
            Pressure::None
        }
    }
}

impl Memory {
    pub(crate) fn new(config: &Checked) -> Self {
        let memory = Self::default();
        memory.configure(config);
        memory
    }

    /// Another ceiling, from the next look on.
    pub(crate) fn configure(&self, config: &Checked) {
        self.ceiling.store(ceiling_of(config).unwrap_or(0), Ordering::Relaxed);
        crate::pages::choose(self.ceiling());
    }

    /// The ceiling in force, in bytes; `None`: there is none.
    pub fn ceiling(&self) -> Option<u64> {
        Some(self.ceiling.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Resident memory at the last look, in bytes.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// The most that was resident at any look, in bytes.
    pub fn resident_max(&self) -> u64 {
        self.resident_max.load(Ordering::Relaxed)
    }

    /// Somebody has taken about so many bytes, or made the core take some: when it may be too much, there is a look.
    pub(crate) fn taken(&self, hub: &Hub, bytes: usize) {
        let ceiling = self.ceiling.load(Ordering::Relaxed);
        if ceiling == 0 {
            return;
        }
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if taken.saturating_add(hub.growth()) >= Marks::of(ceiling).step {
            self.look(hub);
        }
    }

    /// Whether one more peer may begin a handshake, beside the `half_open` that are on their way.
    pub(crate) fn lets_in(&self, hub: &Hub, half_open: usize) -> bool {
        let Some(ceiling) = self.ceiling() else { return true };
        hub.pressure() != Pressure::Full
            || (half_open < LET_IN_AT_ONCE_MAX && self.resident() < Marks::of(ceiling).brim)
    }

    /// Looks how much there is, and says so to the core.
    pub(crate) fn look(&self, hub: &Hub) -> Pressure {
        let ceiling = self.ceiling.load(Ordering::Relaxed);
        self.taken.store(0, Ordering::Relaxed);
        hub.reset_growth();
        let Some(resident) = self.read() else { return hub.pressure() };
        self.resident.store(resident, Ordering::Relaxed);
        self.resident_max.fetch_max(resident, Ordering::Relaxed);
        let before = hub.pressure();
        let pressure =
            if ceiling == 0 { Pressure::None } else { Marks::of(ceiling).pressure(resident, before) };
        if ceiling > 0 {
            hub.set_fair_share(Marks::of(ceiling).fair_share(resident));
        }
        hub.set_pressure(pressure);
        if pressure == Pressure::Full && before != Pressure::Full {
            self.short.notify_one();
        }
        pressure
    }

    /// What is resident, in bytes. The file stays open: without a descriptor left it is needed most.
    fn read(&self) -> Option<u64> {
        let mut held = self.statm.lock();
        if held.is_none() {
            *held = File::open("/proc/self/statm").ok();
        }
        let mut text = [0; 128];
        let length = held.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

/// The ceiling that the settings ask for, in bytes; `None`: there is none.
pub(crate) fn ceiling_of(config: &Checked) -> Option<u64> {
    match config.limits.memory_max {
        MemoryMax::Unbounded => None,
        MemoryMax::Bytes(bytes) => Some(bytes.get()),
        // The kernel's own buffers count there too.
        MemoryMax::ControlGroup => control_group().map(|bytes| bytes - bytes / 8),
    }
}

/// As many peers may be on their way in at once: they take at most an eighth of the ceiling.
pub(crate) fn half_open_max(config: &Checked) -> usize {
    let asked = config.limits.handshakes_in_flight_max.get() as usize;
    let Some(ceiling) = ceiling_of(config) else { return asked };
    let room = usize::try_from(ceiling / 8).unwrap_or(usize::MAX) / HANDSHAKE_BYTES;
    asked.min(room.max(1))
}

/// Nobody who holds less than one in so many bytes of the ceiling is refused anything when memory begins to be tight.
const FAIR_SHARE: u64 = 64;
/// That share becomes smaller as memory fills, down to one in so many bytes of it.
const FAIR_SHARE_LEAST: u64 = 64;

/// What the control group of this process allows, in bytes; `None`: everything, or it cannot be told.
fn control_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(|line| limit_of(line, |path| std::fs::read_to_string(path).ok())).min()
}

/// The limit of one line of `/proc/self/cgroup`, of version 2 (`0::/path`) or of the memory controller of version 1.
fn limit_of(line: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?.trim_end_matches('/'));
    let text = match controllers {
        "" => read(&format!("/sys/fs/cgroup{group}/memory.max")),
        // Inside of a container the group's own folder is the root.
        "memory" => read(&format!("/sys/fs/cgroup/memory{group}/memory.limit_in_bytes"))
            .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes")),
        _ => None,
    }?;
    // "max", and the largest number of pages, mean that there is none.
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

/// Looks again and again, and makes room when there is none. `threads` are those that may keep what was given back.
pub(crate) async fn watch(broker: Arc<Broker>, mut threads: Threads) {
    let mut said = Pressure::None;
    let mut last: Option<(Mono, u64)> = None;
    let mut short_since = None;
    let mut held_min = HELD_BYTES_MIN;
    let (mut looked, mut heard): (Option<Mono>, Option<Mono>) = (None, None);
    loop {
        let pressure = broker.memory.look(broker.hub());
        if pressure != said {
            tell(&broker, said, pressure);
            said = pressure;
        }
        let (now, resident) = (broker.clock.mono(), broker.memory.resident());
        let waits = last.is_some_and(|(at, held)| now.since(at) < EFFECT_AFTER && resident <= held);
        let since = match pressure {
            Pressure::None | Pressure::Tight => None,
            Pressure::Shed | Pressure::Full => Some(short_since.unwrap_or(now)),
        };
        short_since = since;
        let lasts = since.is_some_and(|since| now.since(since) >= SHORT_FOR);
        if pressure < Pressure::Shed {
            held_min = HELD_BYTES_MIN;
        }
        if (pressure == Pressure::Full || lasts) && !waits {
            held_min = make_room(&broker, held_min, lasts);
            last = Some((now, resident));
        }
        if pressure >= Pressure::Shed {
            threads.give_back(now);
        }
        let is_due = |last: Option<Mono>, every| last.is_none_or(|at| now.since(at) >= every);
        if broker.memory.ceiling().is_some() && is_due(looked, EFFECT_AFTER) {
            broker.directory.look(|live| &live.taken);
            looked = Some(now);
        }
        if broker.memory.ceiling().is_some() && pressure < Pressure::Shed && is_due(heard, HEARD_WITHIN) {
            broker.directory.look(|live| &live.heard);
            heard = Some(now);
        }
        drop(tokio::time::timeout(LOOK, broker.memory.short.notified()).await);
    }
}

fn tell(broker: &Broker, before: Pressure, now: Pressure) {
    let (resident, ceiling) = (broker.memory.resident(), broker.memory.ceiling().unwrap_or(0));
    if now == Pressure::None {
        tracing::info!(resident, ceiling, "there is memory enough again");
    } else if now == Pressure::Tight {
        tracing::info!(
            resident,
            ceiling,
            "memory is tight: whoever holds more than its share is refused what is new; see [limits] memory-max"
        );
    } else if before < now {
        broker.metrics.memory_short.inc();
        tracing::warn!(
            resident, ceiling, level = ?now,
            "memory runs short: nothing new is taken on until it is less; see [limits] memory-max"
        );
    }
}

/// What a connection holds, and what its peer has taken and sent in whole packets lately, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Holding {
    buffers: usize,
    /// Of what waits for it, what its end gives back.
    backlog: usize,
    /// What waits for it, whoever else holds it too.
    to_take: usize,
    taken: u64,
    heard: u64,
}

impl Holding {
    fn bytes(self) -> usize {
        self.buffers + self.backlog
    }

    /// It is not what memory is short of.
    fn is_spared(self) -> bool {
        let left = self.buffers.saturating_add(self.to_take.max(self.backlog)) as u64;
        let takes = self.taken > 0 && self.taken.saturating_mul(PROGRESS_SHARE) >= left;
        // Who has half a packet there is not heard, so it cannot acknowledge the exchange that is open.
        let waits = self.to_take.max(self.backlog) > HELD_BYTES_FLOOR;
        takes || (!waits && self.heard >= (self.buffers as u64).saturating_mul(HEARD_SHARE))
    }
}

/// Whose end gives `wanted` bytes back, those with the most first: of those who hold `held_min` or more, and, with `spares`,
/// are not spared.
fn to_close(held: &HashMap<u64, Holding>, wanted: usize, held_min: usize, spares: bool) -> Vec<u64> {
    let closable = |held: &Holding| held.bytes() >= held_min && !(spares && held.is_spared());
    let mut held: Vec<_> = held.iter().filter(|(_, held)| closable(held)).collect();
    held.sort_unstable_by_key(|(_, held)| std::cmp::Reverse(held.bytes()));
    let mut left = wanted;
    let mut chosen = Vec::new();
    for (number, held) in held.into_iter().take(CLOSED_AT_ONCE_MAX) {
        if left == 0 {
            break;
        }
        chosen.push(*number);
        left = left.saturating_sub(held.bytes());
    }
    chosen
}

/// Closes those whose end gives the most back, `held_min` bytes or more, and drops the peers that wait longest to say who they are. What
/// is to be looked for next time: half as much where nobody was found. When it `lasts` there is no time for that: half as
/// much is looked for now, again and again.
fn make_room(broker: &Broker, held_min: usize, lasts: bool) -> usize {
    let ceiling = broker.memory.ceiling().unwrap_or(u64::MAX);
    let (resident, marks) = (broker.memory.resident(), Marks::of(ceiling));
    let wanted = usize::try_from(resident.saturating_sub(marks.calm)).unwrap_or(usize::MAX);
    let dropped = broker.admission.make_room(DROPPED_AT_ONCE_MAX.min(wanted / HANDSHAKE_BYTES + 1));
    let wanted = wanted.saturating_sub(dropped * HANDSHAKE_BYTES);
    let holding = |own: Buffers| Holding {
        buffers: own.bytes,
        taken: own.taken,
        heard: own.heard,
        ..Holding::default()
    };
    let mut held: HashMap<u64, Holding> =
        broker.directory.buffers().map(|own| (own.connection, holding(own))).collect();
    for backlog in broker.hub().backlogs() {
        let held = held.entry(backlog.connection).or_default();
        held.backlog += backlog.bytes;
        held.to_take += backlog.to_take;
    }
    // Above the brim the ceiling itself is at stake.
    let look = |held_min: usize| to_close(&held, wanted, held_min, resident < marks.brim);
    let (mut held_min, mut chosen) = (held_min, look(held_min));
    while lasts && chosen.is_empty() && held_min > HELD_BYTES_FLOOR {
        held_min /= 2;
        chosen = look(held_min);
    }
    let closed = chosen.into_iter().filter(|number| broker.hub().close_slow(*number)).count();
    if closed > 0 {
        tracing::warn!(closed, "connections that held the most memory were closed");
        held_min
    } else {
        (held_min / 2).max(HELD_BYTES_FLOOR)
    }
}

/// What Mosquitto's dashboards know as the heap: here all that is resident.
pub(crate) fn publish_sys(broker: &Broker) {
    let values = [("current", broker.memory.resident()), ("maximum", broker.memory.resident_max())];
    for (name, bytes) in values {
        if let Ok(topic) = TopicName::try_from(format!("$SYS/broker/heap/{name}")) {
            let value = Bytes::from(bytes.to_string());
            // Never refused: the topic begins with '$'.
            let _ = broker.hub().publish_internal(topic, value, true, broker.clock.now());
        }
    }
}

/// Why a peer that has not said CONNECT is closed to make room.
pub(crate) const MADE_ROOM: CloseReason = CloseReason::Overloaded;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_ceiling_keeps_a_quarter_in_reserve_and_a_large_one_an_eighth() {
        let small = Marks::of(64 * MIB);
        assert_eq!((small.shed, small.full, small.calm), (48 * MIB, 56 * MIB, 46 * MIB));
        assert_eq!((small.brim, small.tight, small.ease), (62 * MIB, 40 * MIB, 38 * MIB));
        let large = Marks::of(1024 * MIB);
        assert_eq!((large.shed, large.full), (896 * MIB, 960 * MIB));
        assert!(Marks::of(1).shed <= 1);
    }

    #[test]
    fn what_was_short_stays_so_until_it_is_clearly_less() {
        let marks = Marks::of(64 * MIB);
        assert_eq!(marks.pressure(39 * MIB, Pressure::None), Pressure::None);
        assert_eq!(marks.pressure(40 * MIB, Pressure::None), Pressure::Tight);
        assert_eq!(marks.pressure(39 * MIB, Pressure::Tight), Pressure::Tight);
        assert_eq!(marks.pressure(47 * MIB, Pressure::Tight), Pressure::Tight);
        assert_eq!(marks.pressure(48 * MIB, Pressure::None), Pressure::Shed);
        assert_eq!(marks.pressure(47 * MIB, Pressure::Shed), Pressure::Shed);
        assert_eq!(marks.pressure(56 * MIB, Pressure::Shed), Pressure::Full);
        assert_eq!(marks.pressure(55 * MIB, Pressure::Full), Pressure::Shed);
        assert_eq!(marks.pressure(45 * MIB, Pressure::Full), Pressure::Tight);
        assert_eq!(marks.pressure(37 * MIB, Pressure::Full), Pressure::None);
        assert_eq!(marks.pressure(37 * MIB, Pressure::Tight), Pressure::None);
    }

    #[test]
    fn who_gives_the_most_back_is_closed_first_and_whoever_makes_progress_is_left_alone() {
        let holding = |kib: usize, taken| Holding { backlog: kib * 1024, taken, ..Holding::default() };
        let held: HashMap<_, _> = [
            (1, holding(4096, 64 * 1024)),
            (2, holding(4096, 1024)),
            (3, holding(512, 0)),
            (4, holding(128, 2048)),
            (5, holding(32, 0)),
            (6, holding(0, 0)),
        ]
        .into();
        let lots = usize::MAX;
        assert_eq!(to_close(&held, lots, HELD_BYTES_MIN, true), [2, 3], "1 and 4 take what waits for them");
        assert_eq!(to_close(&held, 1, HELD_BYTES_MIN, true), [2], "that is enough");
        assert_eq!(to_close(&held, lots, HELD_BYTES_FLOOR, true), [2, 3, 5], "nobody who gives nothing back");
        let pressed = to_close(&held, lots, HELD_BYTES_MIN, false);
        assert_eq!((pressed.len(), &pressed[2..]), (4, &[3, 4][..]), "nobody is spared");
        assert!(to_close(&held, 0, HELD_BYTES_FLOOR, false).is_empty());
    }

    #[test]
    fn a_trickle_spares_nobody_for_whom_much_waits_that_others_hold_too() {
        let kib = |kib: usize| kib * 1024;
        // A thousand readers of one topic: of the queue of each, nearly everything is the others' too.
        let trickles = Holding {
            buffers: kib(64),
            backlog: kib(4),
            to_take: kib(4096),
            taken: 2048,
            ..Holding::default()
        };
        let reads = Holding { taken: 70 * 1024, ..trickles };
        let held: HashMap<_, _> = [(1, trickles), (2, reads)].into();
        assert_eq!(to_close(&held, usize::MAX, HELD_BYTES_MIN, true), [1], "an hour is no progress");
        let shared = Holding { backlog: 0, taken: 0, heard: u64::MAX, ..trickles };
        assert!(!shared.is_spared(), "what it sends does not make up for what it does not take");
    }

    #[test]
    fn who_writes_is_not_closed_for_the_packet_that_nobody_reads_while_memory_is_short() {
        let kib = |kib: usize| kib * 1024;
        let writer = Holding { buffers: kib(100), heard: 400 * 1024, ..Holding::default() };
        let silent = Holding { heard: 300 * 1024, ..writer };
        // A message is on its way to it, and nobody reads its acknowledgement.
        let answers = Holding { backlog: 300, to_take: 80, ..writer };
        let consumer = Holding { backlog: kib(4) + 1, ..writer };
        let shares = Holding { to_take: kib(4) + 1, ..answers };
        let held: HashMap<_, _> = [(1, writer), (2, silent), (3, consumer), (4, answers), (5, shares)].into();
        let chosen = to_close(&held, usize::MAX, HELD_BYTES_MIN, true);
        assert_eq!(chosen, [3, 5, 2], "one has sent little but half a packet, and for two much waits");
        assert_eq!(to_close(&held, usize::MAX, HELD_BYTES_MIN, false).len(), 5, "the ceiling is at stake");
    }

    #[test]
    fn the_share_of_a_name_shrinks_as_memory_fills_and_is_never_nothing() {
        let marks = Marks::of(64 * MIB);
        let kib = |resident: u64| marks.fair_share(resident * MIB) / 1024;
        assert_eq!((kib(0), kib(40), kib(44), kib(47)), (1024, 1024, 256, 16));
        assert_eq!((kib(48), kib(64)), (16, 16));
        // Sixteen names that hold as much as each may come to rest before everybody is refused.
        let base = 37 * MIB;
        let held = (1..=1024).rev().find(|kib| {
            let resident = base + 16 * kib * 1024;
            marks.fair_share(resident) as u64 >= kib * 1024
        });
        assert!(base + 16 * held.unwrap() * 1024 < marks.calm, "{held:?} KiB each");
    }

    #[test]
    fn the_core_gives_one_name_a_sixteenth_of_the_ceiling_unless_it_is_written() {
        let limits = |limits: &str| {
            let text = format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"a\"\nprivate-key = \"b\"\nclient-ca = [\"c\"]\n\
                 [acl]\nfile = \"acl.conf\"\n[limits]\n{limits}"
            );
            let config = signet_config::parse(&text, std::path::Path::new("signet.toml")).unwrap();
            let limits = crate::start::core_limits(&config);
            let mib = |bytes: usize| bytes as u64 / MIB;
            (mib(limits.queued_bytes_per_principal_max), mib(limits.retained_bytes_per_principal_max))
        };
        assert_eq!(limits("memory-max = 0"), (64, 16));
        assert_eq!(limits("memory-max = \"128MiB\""), (8, 8));
        assert_eq!(limits("memory-max = \"128MiB\"\nretained-bytes-per-principal-max = \"32MiB\""), (8, 32));
    }

    #[test]
    fn what_a_peer_has_taken_counts_until_the_look_after_the_next() {
        let taken = crate::directory::Flow::default();
        taken.add(100);
        assert_eq!(taken.lately(), 100);
        taken.look();
        taken.add(10);
        assert_eq!(taken.lately(), 110);
        taken.look();
        assert_eq!(taken.lately(), 10);
        taken.look();
        assert_eq!(taken.lately(), 0, "it has stopped");
    }

    #[test]
    fn the_limit_of_a_control_group_is_found_in_both_versions() {
        let files = |path: &str| match path {
            "/sys/fs/cgroup/system.slice/signet.service/memory.max" => Some("67108864\n".to_owned()),
            "/sys/fs/cgroup/memory/box/memory.limit_in_bytes" => Some("1048576\n".to_owned()),
            "/sys/fs/cgroup/memory.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some("9223372036854771712\n".to_owned()),
            _ => None,
        };
        assert_eq!(limit_of("0::/system.slice/signet.service", files), Some(67_108_864));
        assert_eq!(limit_of("4:memory:/box", files), Some(1_048_576));
        assert_eq!(limit_of("0::/", files), None);
        assert_eq!(limit_of("4:memory:/other", files), None);
        assert_eq!(limit_of("2:cpuacct:/box", files), None);
        assert_eq!(limit_of("nonsense", files), None);
    }

    #[test]
    fn there_is_a_look_as_soon_as_much_was_taken_and_none_without_a_ceiling() {
        let policy =
            signet_acl::Policy::parse("", "acl.conf", &signet_acl::ParseOptions::default()).unwrap().0;
        let hub = Hub::new(signet_core::Limits::default(), Arc::new(policy));
        let memory = Memory::default();
        memory.taken(&hub, usize::MAX / 2);
        assert_eq!(memory.resident(), 0, "nobody looks");
        memory.ceiling.store(64 * 1024 * MIB, Ordering::Relaxed);
        let step = Marks::of(64 * 1024 * MIB).step;
        memory.taken.store(0, Ordering::Relaxed);
        memory.taken(&hub, step / 2);
        assert_eq!(memory.resident(), 0, "not yet");
        memory.taken(&hub, step / 2);
        assert!(memory.resident() > MIB);
        assert_eq!(hub.pressure(), Pressure::None);
        memory.ceiling.store(MIB, Ordering::Relaxed);
        assert_eq!(memory.look(&hub), Pressure::Full, "this process has more than that");
        assert!(!memory.lets_in(&hub, 0), "it is far above the brim");
        memory.ceiling.store(memory.resident() * 10 / 9, Ordering::Relaxed);
        hub.set_pressure(Pressure::Full);
        assert!(memory.lets_in(&hub, 0) && !memory.lets_in(&hub, LET_IN_AT_ONCE_MAX));
        memory.ceiling.store(0, Ordering::Relaxed);
        assert_eq!(memory.look(&hub), Pressure::None);
        assert!(memory.lets_in(&hub, 100_000));
    }
}
