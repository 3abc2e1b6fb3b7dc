//! Commanded rotation: devices are told to renew their certificates, on `devices/<name>/certs/rotate`, and each is followed to
//! the end.
//!
//! The broker publishes as an operator would, so the access policy must let operators write that topic and devices read it.
//! What each device does is seen in the registry: a successor of its certificate, which then connects. A rotation is kept in a
//! file beside the registry, so it goes on after a restart.

mod campaign;
mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, Opts};
use serde::Serialize;
use signet_acl::Subject;
use signet_core::Hears;
use signet_identity::{CertificateId, Principal, PrincipalKey, Role, ThingName};
use signet_registry::{Actor, Change, Line, Registry, Standing, Thing, Topic, Wall};
use signet_wire::{ClientId, QoS, TopicName};
use tokio::sync::Notify;

pub(crate) use campaign::{Campaign, Phase, State};
use campaign::{Plan, Told};
use kept::Kept;

use crate::server::Broker;
use crate::store::RegistryService;

/// Devices of one rotation.
pub(crate) const DEVICES_MAX: usize = 200_000;
/// Rotations that go on or are held at one time.
const RUNNING_MAX: usize = 8;
/// Rotations that are remembered, those that are over included.
const KEPT_MAX: usize = 32;
/// Devices that are told in one round.
const TOLD_AT_ONCE: usize = 500;
/// Between two rounds while a rotation goes on.
const ROUND: Duration = Duration::from_millis(200);
/// The name by which the broker commands, and its client id.
const OPERATOR: &str = "signet-rotation";

/// What an operator asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// These devices; all that the others pick when empty.
    pub(crate) names: Vec<ThingName>,
    /// Those whose newest certificate ends within this time.
    pub(crate) expiring: Option<Duration>,
    /// Those in this group.
    pub(crate) group: Option<String>,
    /// Those of this type.
    pub(crate) thing_type: Option<String>,
    /// Over how long the commands are spread.
    pub(crate) spread: Duration,
    /// How many of a hundred go first; 0: all go at once.
    pub(crate) canary_percent: u8,
    /// How long it may take in all.
    pub(crate) within: Duration,
    /// How long a device has to begin before it is told again.
    pub(crate) ask_again: Duration,
    /// The template that the devices are told to ask for.
    pub(crate) template: Option<String>,
}

/// Why no rotation was begun, or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RotationError {
    /// Nobody is picked.
    #[error("no device is picked: name one, or widen --expiring, --group or --type")]
    Nobody,
    /// A device that was named cannot renew.
    #[error("{name}: {why}")]
    Device {
        /// The device.
        name: ThingName,
        /// Why not.
        why: String,
    },
    /// Too many.
    #[error(
        "{count} devices are picked, at most {DEVICES_MAX} go in one rotation: pick fewer by --group or --type"
    )]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Too many rotations.
    #[error("{RUNNING_MAX} rotations go on: wait for one of them, or cancel it")]
    TooManyRotations,
    /// The access policy keeps the command back.
    #[error(
        "the access policy does not let operators write {topic}\n  hint: in the section `role operator` of the ACL file, write `topic write devices/+/certs/rotate`"
    )]
    NotAuthorized {
        /// The topic of the first device.
        topic: String,
    },
    /// There is no such rotation.
    #[error("there is no rotation {0}")]
    Unknown(String),
    /// The rotation is in another phase.
    #[error("the rotation {id} is {phase}: it cannot be {asked}")]
    Phase {
        /// Which.
        id: String,
        /// Where it stands.
        phase: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// It cannot be kept on disk.
    #[error("the rotation cannot be kept: {0}")]
    Disk(String),
}

/// The rotations of a broker.
#[derive(Debug)]
pub(crate) struct Rotations {
    kept: Mutex<Vec<Kept>>,
    /// Whether any is not over: what happens is of no interest else.
    active: AtomicBool,
    /// Devices that something happened to since the last round: they connected, or their certificates changed.
    arrived: Mutex<BTreeSet<ThingName>>,
    changed: Mutex<BTreeSet<ThingName>>,
    wake: Notify,
    told: IntCounterVec,
}

impl Rotations {
    /// None yet, with their metrics in `registry`.
    pub(crate) fn new(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let told = IntCounterVec::new(
            Opts::new(
                "rotation_commands_total",
                "Devices that were looked for to tell them to renew their certificate.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(told.clone()))?;
        Ok(Self {
            kept: Mutex::default(),
            active: AtomicBool::new(false),
            arrived: Mutex::default(),
            changed: Mutex::default(),
            wake: Notify::new(),
            told,
        })
    }

    /// A device has connected.
    pub(crate) fn connected(&self, key: &PrincipalKey) {
        if key.role == Role::Device && self.active.load(Ordering::Relaxed) {
            self.arrived.lock().insert(key.name.clone());
            self.wake.notify_one();
        }
    }

    /// Whether any goes on may have changed.
    fn recount(&self, kept: &[Kept]) {
        self.active.store(kept.iter().any(|kept| !kept.campaign.is_over()), Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Calls `with` with every rotation, the newest first.
    pub(crate) fn each<T>(&self, mut with: impl FnMut(&Campaign) -> T) -> Vec<T> {
        self.kept.lock().iter().rev().map(|kept| with(&kept.campaign)).collect()
    }

    /// Calls `with` with the rotation `id`, or the newest one.
    pub(crate) fn one<T>(
        &self,
        id: Option<&str>,
        with: impl FnOnce(&Campaign) -> T,
    ) -> Result<T, RotationError> {
        let kept = self.kept.lock();
        let found = kept.iter().rev().find(|kept| id.is_none_or(|id| kept.campaign.plan.id.starts_with(id)));
        let unknown = || RotationError::Unknown(id.unwrap_or("yet").to_owned());
        found.map(|kept| with(&kept.campaign)).ok_or_else(unknown)
    }
}

/// Begins a rotation. It waits for the disk.
pub(crate) fn start(
    broker: &Broker,
    service: &RegistryService,
    wanted: &Wanted,
    actor: &Actor,
) -> Result<String, RotationError> {
    let (registry, now) = (service.snapshot(), service.now());
    let rotations = &broker.rotations;
    let busy: BTreeSet<ThingName> = rotations
        .each(
            |campaign| {
                if campaign.is_over() { Vec::new() } else { campaign.members.keys().cloned().collect() }
            },
        )
        .into_iter()
        .flatten()
        .collect();
    let devices = pick(&registry, wanted, now, &busy)?;
    let Some(first) = devices.keys().next() else { return Err(RotationError::Nobody) };
    if devices.len() > DEVICES_MAX {
        return Err(RotationError::TooMany { count: devices.len() });
    }
    let first = topic_of(first).ok_or(RotationError::Nobody)?;
    let (operator, client_id) = speaker().ok_or(RotationError::Nobody)?;
    let subject = Subject { principal: &operator, client_id: &client_id };
    if broker.hub().policy().may_publish(&subject, &first).is_err() {
        return Err(RotationError::NotAuthorized { topic: first.to_string() });
    }
    let connected: BTreeSet<ThingName> = broker
        .hub()
        .connections()
        .into_iter()
        .filter(|connection| connection.admitted.is_some() && connection.principal.role == Role::Device)
        .map(|connection| connection.principal.name)
        .collect();
    let id = signet_registry::ca::random_serial().map_err(|error| RotationError::Disk(error.to_string()))?;
    let id: String = id.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let canaries = match wanted.canary_percent {
        0 => 0,
        percent => (devices.len() * usize::from(percent)).div_ceil(100),
    };
    let plan = Plan {
        id: id.clone(),
        created: now,
        by: Line::new(&actor.to_string()),
        spread: wanted.spread,
        deadline: now.after(wanted.within),
        ask_again: wanted.ask_again,
        template: wanted.template.clone(),
    };
    let count = devices.len();
    let mut campaign = Campaign::new(plan, &devices, canaries, &connected);
    let names: Vec<ThingName> = campaign.members.keys().cloned().collect();
    for name in &names {
        campaign.observe(name, &registry, now);
    }
    let mut kept = rotations.kept.lock();
    if kept.iter().filter(|kept| !kept.campaign.is_over()).count() >= RUNNING_MAX {
        return Err(RotationError::TooManyRotations);
    }
    let mut new = Kept::new(campaign);
    new.save(service.directory()).map_err(|error| RotationError::Disk(error.to_string()))?;
    kept.push(new);
    kept::forget(&mut kept, KEPT_MAX, service.directory());
    rotations.recount(&kept);
    drop(kept);
    let text = format!(
        "rotation {id}: {count} devices are told to renew their certificates, {canaries} of them first"
    );
    service.note(Topic::Command, &text, actor.clone());
    tracing::info!(rotation = id, devices = count, canaries, "devices are told to renew their certificates");
    Ok(id)
}

/// The devices that are to renew, each with the certificate that is to be replaced.
fn pick(
    registry: &Registry,
    wanted: &Wanted,
    now: Wall,
    busy: &BTreeSet<ThingName>,
) -> Result<BTreeMap<ThingName, CertificateId>, RotationError> {
    let mut picked = BTreeMap::new();
    if !wanted.names.is_empty() {
        for name in &wanted.names {
            let refused = |why: &str| RotationError::Device { name: name.clone(), why: why.to_owned() };
            let thing = registry.thing(name.as_str()).ok_or_else(|| refused("there is no such device"))?;
            let (old, _) = newest(registry, thing, now).ok_or_else(|| {
                refused("it has no certificate in force: give it one, by `signet device add` or a claim")
            })?;
            if busy.contains(name) {
                return Err(refused("it is in a rotation already: see `signet device rotate --status`"));
            }
            picked.insert(name.clone(), old);
        }
        return Ok(picked);
    }
    let within = wanted.expiring.and_then(|within| i64::try_from(within.as_secs()).ok());
    let horizon = within.map(|within| now.unix_secs().saturating_add(within));
    for thing in registry.things(None) {
        let spec = &thing.spec;
        let kind = spec.thing_type.as_ref().map(|kind| kind.0.as_str());
        let grouped = |wanted: &str| spec.groups.as_slice().iter().any(|group| group.as_str() == wanted);
        if busy.contains(&spec.name)
            || wanted.thing_type.as_deref().is_some_and(|wanted| kind != Some(wanted))
            || wanted.group.as_deref().is_some_and(|wanted| !grouped(wanted))
        {
            continue;
        }
        if let Some((old, not_after)) = newest(registry, thing, now)
            && horizon.is_none_or(|horizon| not_after <= horizon)
        {
            picked.insert(spec.name.clone(), old);
        }
    }
    Ok(picked)
}

/// The certificate in force of a device that ends last, and when.
fn newest(registry: &Registry, thing: &Thing, now: Wall) -> Option<(CertificateId, i64)> {
    let held = thing.certificates().iter().filter_map(|id| registry.certificate(id));
    let in_force = held.filter(|found| matches!(registry.standing_of(found, now), Standing::Active(_)));
    in_force.map(|found| (*found.id(), found.facts.not_after)).max_by_key(|(_, not_after)| *not_after)
}

/// Ends a rotation, or lets it go on after its first devices whatever became of them. It waits for the disk.
pub(crate) fn change(
    broker: &Broker,
    service: &RegistryService,
    id: &str,
    cancel: bool,
    actor: &Actor,
) -> Result<(), RotationError> {
    let mut kept = broker.rotations.kept.lock();
    let found = kept.iter_mut().find(|kept| kept.campaign.plan.id == id);
    let found = found.ok_or_else(|| RotationError::Unknown(id.to_owned()))?;
    let phase = found.campaign.phase.word();
    let (changed, asked) = if cancel {
        (found.campaign.cancel(), "cancelled")
    } else {
        (found.campaign.go_on(service.now()), "continued")
    };
    if !changed {
        return Err(RotationError::Phase { id: id.to_owned(), phase, asked });
    }
    found.save(service.directory()).map_err(|error| RotationError::Disk(error.to_string()))?;
    broker.rotations.recount(&kept);
    drop(kept);
    service.note(Topic::Command, &format!("rotation {id}: {asked}"), actor.clone());
    tracing::info!(rotation = id, asked, "a rotation was changed");
    Ok(())
}

/// Reads the rotations of earlier runs, and follows all of them until the broker ends.
pub(crate) async fn follow(broker: Arc<Broker>) {
    let Some(service) = broker.registry().cloned() else { return };
    // Not the broker: the registry is its own, and would then keep it.
    let watching = Arc::clone(&broker.rotations);
    service.subscribe(move |applied, registry| {
        if watching.active.load(Ordering::Relaxed) {
            let names: Vec<_> =
                applied.events.iter().filter_map(|event| concerned(&event.change, registry)).collect();
            if !names.is_empty() {
                watching.changed.lock().extend(names);
                watching.wake.notify_one();
            }
        }
    });
    let (reading, from) = (Arc::clone(&broker), Arc::clone(&service));
    let read = tokio::task::spawn_blocking(move || {
        let kept = kept::read(from.directory(), &from.snapshot(), from.now());
        let mut all = reading.rotations.kept.lock();
        all.splice(0..0, kept);
        reading.rotations.recount(&all);
    });
    if let Err(error) = read.await {
        tracing::error!(%error, "the rotations of earlier runs cannot be read");
    }
    loop {
        let woken = broker.rotations.wake.notified();
        if broker.rotations.active.load(Ordering::Relaxed) {
            drop(tokio::time::timeout(ROUND, woken).await);
        } else {
            woken.await;
        }
        let (at, by) = (Arc::clone(&broker), Arc::clone(&service));
        if let Err(error) = tokio::task::spawn_blocking(move || round(&at, &by)).await {
            tracing::error!(%error, "a round of the rotations failed");
        }
    }
}

/// The device whose certificates a change is about, when it can be one of a rotation.
fn concerned(change: &Change, registry: &Registry) -> Option<ThingName> {
    let of = |id: &CertificateId| {
        let holder = registry.certificate(id)?.holder.as_ref()?;
        (holder.role == Role::Device).then(|| holder.name.clone())
    };
    match change {
        Change::RotationStarted { old, .. }
        | Change::RotationCompleted { old, .. }
        | Change::RotationAbandoned { old, .. } => of(old),
        Change::CertificateRevoked { certificate, .. }
        | Change::CertificateSuspended { certificate, .. }
        | Change::CertificateActivated { certificate, .. } => of(certificate),
        Change::CertificateDeleted { holder: Some(holder), .. } => Some(holder.name.clone()),
        Change::ThingDeleted { thing } => Some(thing.clone()),
        _ => None,
    }
}

/// Takes what has happened, tells those whose turn it is, and keeps what changed.
fn round(broker: &Broker, service: &RegistryService) {
    let rotations = &broker.rotations;
    let changed = std::mem::take(&mut *rotations.changed.lock());
    let arrived = std::mem::take(&mut *rotations.arrived.lock());
    let (registry, now) = (service.snapshot(), service.now());
    let mut due: Vec<(Plan, ThingName)> = Vec::new();
    for kept in rotations.kept.lock().iter_mut().filter(|kept| !kept.campaign.is_over()) {
        let campaign = &mut kept.campaign;
        for name in &changed {
            campaign.observe(name, &registry, now);
        }
        for name in &arrived {
            campaign.arrived(name, now);
        }
        campaign.expire(now);
        let names = campaign.due(now, TOLD_AT_ONCE);
        due.extend(names.into_iter().map(|name| (campaign.plan.clone(), name)));
    }
    // Without the lock: a device that answers at once is noticed in the next round.
    let told: Vec<_> = due
        .into_iter()
        .map(|(plan, name)| {
            let told = tell(broker, &plan, &name, now);
            rotations.told.with_label_values(&[word(told)]).inc();
            (plan.id, name, told)
        })
        .collect();
    let mut all = rotations.kept.lock();
    for (id, name, told) in told {
        if let Some(kept) = all.iter_mut().find(|kept| kept.campaign.plan.id == id) {
            kept.campaign.told(&name, told, now);
        }
    }
    for kept in all.iter_mut().filter(|kept| kept.is_news()) {
        announce(service, &kept.campaign);
        if let Err(error) = kept.save(service.directory()) {
            let id = &kept.campaign.plan.id;
            tracing::error!(rotation = id, %error, "a rotation cannot be kept; after a restart it goes on from before");
        }
    }
    rotations.active.store(all.iter().any(|kept| !kept.campaign.is_over()), Ordering::Relaxed);
}

/// A phase that has begun by itself, for the log and the audit trail.
fn announce(service: &RegistryService, campaign: &Campaign) {
    let id = &campaign.plan.id;
    let text = match &campaign.phase {
        Phase::All { .. } => format!("rotation {id}: the first devices are through, the others are told"),
        Phase::Held { why } => format!("rotation {id}: held, nobody else is told: {why}"),
        Phase::Finished => {
            let failed =
                campaign.members.values().filter(|m| matches!(m.state, State::Failed { .. })).count();
            format!(
                "rotation {id}: finished, {} devices through, {failed} failed",
                campaign.members.len() - failed
            )
        }
        Phase::Canary { .. } | Phase::Cancelled => return,
    };
    match campaign.phase {
        Phase::Held { .. } => tracing::warn!("{text}"),
        _ => tracing::info!("{text}"),
    }
    service.note(Topic::Command, &text, Actor::Broker);
}

/// What a device is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Order<'a> {
    request_id: &'a str,
    /// Unix seconds: its turn, for a device that gets this late and wants to know how late.
    not_before: i64,
    /// Unix seconds: when it is of no more use.
    not_after: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'a str>,
}

/// Tells one device, if it hears.
fn tell(broker: &Broker, plan: &Plan, name: &ThingName, now: Wall) -> Told {
    let (Some(topic), Some((operator, client_id))) = (topic_of(name), speaker()) else {
        return Told::Refused;
    };
    let key = PrincipalKey { role: Role::Device, name: name.clone() };
    match broker.hub().hears(&key, &topic) {
        Hears::No => return Told::Unheard,
        Hears::Denied => return Told::Refused,
        Hears::Yes => {}
    }
    let order = Order {
        request_id: &plan.id,
        not_before: now.unix_secs(),
        not_after: plan.deadline.unix_secs(),
        template: plan.template.as_deref(),
    };
    let Ok(payload) = serde_json::to_vec(&order) else { return Told::Refused };
    let message = (topic, Bytes::from(payload), QoS::AtLeastOnce);
    match broker.hub().publish_for(&operator, &client_id, message, broker.clock.now()) {
        Ok(()) => Told::Heard,
        Err(_) => Told::Refused,
    }
}

const fn word(told: Told) -> &'static str {
    match told {
        Told::Heard => "heard",
        Told::Unheard => "offline",
        Told::Refused => "refused",
    }
}

/// A name is one topic level, so this is a topic.
fn topic_of(name: &ThingName) -> Option<TopicName> {
    TopicName::try_from(format!("devices/{name}/certs/rotate")).ok()
}

/// As whom the broker commands: an operator without a certificate, for the access policy to judge.
fn speaker() -> Option<(Principal, ClientId)> {
    let name = ThingName::try_from(OPERATOR).ok()?;
    let client_id = ClientId::try_from(OPERATOR).ok()?;
    Some((Principal::operator(name, CertificateId::from_bytes([0; 32]), Vec::new()), client_id))
}
