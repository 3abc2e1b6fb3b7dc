//! Thousands of sensors in real time against a broker.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use signet_device_core::factory::Claim;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use crate::board::{Orders, Shared, View};
use crate::faults::{Dice, Level};
use crate::link::Broker;
use crate::outcome::{Happened, Outcome};
use crate::sensor::Sensor;
use crate::unit::{Begin, Given, Unit};

/// How often the fleet is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The broker's address.
    pub broker: SocketAddr,
    /// The name in its certificate.
    pub server_name: String,
    /// The roots that it is verified against, PEM.
    pub roots: Vec<PathBuf>,
    /// How many devices.
    pub devices: usize,
    /// What their serial numbers begin with.
    pub prefix: String,
    /// What all of them are given.
    pub given: Given,
    /// What goes wrong.
    pub level: Level,
    /// How many start in a second.
    pub ramp: u32,
    /// How long faults go on at least, even when all are enrolled.
    pub faults_for: Duration,
    /// How long each part of the run may take.
    pub timeout: Duration,
    /// Whether all rotate once.
    pub rotate: bool,
    /// Restarts the broker, once in each part of the run.
    pub restart: Option<Restart>,
    /// New firmware, when all are enrolled.
    pub update: Option<Update>,
}

/// New firmware for the fleet.
#[derive(Clone)]
pub struct Update {
    version: String,
    give: Arc<Give>,
}

/// What the operator does, given the names of the devices.
type Give = dyn Fn(&[String]) -> Result<()> + Send + Sync;

impl Update {
    /// By calling this with the names of the devices, on a thread where it may block; then all are to run `version`.
    pub fn new(version: &str, give: impl Fn(&[String]) -> Result<()> + Send + Sync + 'static) -> Self {
        Self { version: version.to_owned(), give: Arc::new(give) }
    }
}

impl std::fmt::Debug for Update {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Update").field("version", &self.version).finish_non_exhaustive()
    }
}

/// How the broker is restarted.
#[derive(Clone)]
pub struct Restart(Arc<dyn Fn() -> Result<()> + Send + Sync>);

impl Restart {
    /// By calling this, on a thread where it may block.
    pub fn new(restart: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(restart))
    }
}

impl std::fmt::Debug for Restart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Restart(..)")
    }
}

/// Reads a claim: a folder of `signet claim create`, or a certificate with its key beside it.
///
/// # Errors
/// A file is missing or cannot be read.
pub fn read_claim(path: &std::path::Path, key: Option<&std::path::Path>) -> Result<Claim> {
    let certificate = if path.is_dir() { path.join("device.crt") } else { path.to_owned() };
    let key = key.map_or_else(|| certificate.with_extension("key"), std::path::Path::to_owned);
    let certificate = CertificateDer::from_pem_file(&certificate)
        .with_context(|| format!("{}: no certificate of a claim", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key)
        .with_context(|| format!("{}: no key of a claim; name it with --claim-key", key.display()))?;
    Ok(Claim { certificate: certificate.to_vec(), key: key.secret_der().to_vec().into() })
}

/// A fleet that runs.
struct Fleet {
    sensors: Vec<Shared>,
    orders: watch::Sender<Orders>,
    threads: Vec<JoinHandle<()>>,
    began: Instant,
    bar: ProgressBar,
    restarts: u64,
}

/// Runs the plan. The bar shows how far it is; hide it by giving a hidden one.
///
/// # Errors
/// The plan cannot be begun: a file, a name. What goes wrong with devices is in the outcome.
pub async fn run(plan: &Plan, bar: ProgressBar) -> Result<Outcome> {
    if plan.devices == 0 {
        bail!("a fleet has at least one device");
    }
    room_for(plan.devices)?;
    bar.set_length(plan.devices as u64);
    bar.set_style(ProgressStyle::with_template(
        "{prefix:10} {wide_bar} {pos}/{len} {msg} {elapsed_precise}",
    )?);
    let mut fleet = start(plan, bar).await?;
    let mut outcome = Outcome { devices: plan.devices, seed: plan.given.seed, ..Outcome::default() };

    fleet.bar.set_prefix("enrolling");
    let enrolled = |fleet: &Fleet| fleet.count(|view| view.enrolled_after.is_some());
    if !fleet.until(plan, enrolled).await {
        let missing = plan.devices - enrolled(&fleet);
        outcome.problem(format!("{missing} devices were not enrolled within {:?}", plan.timeout));
    }
    let coming = fleet.began.elapsed();
    if plan.level != Level::None {
        sleep(plan.faults_for.saturating_sub(fleet.began.elapsed())).await;
    }
    if plan.rotate {
        fleet.bar.set_prefix("rotating");
        outcome.rotated = Some(fleet.rotate(plan, &mut outcome).await);
    }
    if let Some(update) = &plan.update {
        fleet.bar.set_prefix("updating");
        outcome.updated = Some(fleet.update(plan, update, &mut outcome).await?);
    }

    fleet.bar.set_prefix("calm");
    let calm = Instant::now();
    fleet.orders.send_modify(|orders| orders.faults = false);
    let heard =
        move |fleet: &Fleet| fleet.count(|view| view.online && view.acknowledged.is_some_and(|at| at > calm));
    fleet.until_quietly(plan.timeout, heard, plan.devices).await;
    outcome.online = heard(&fleet);
    fleet.bar.finish_and_clear();
    fleet.judge(&mut outcome, calm, coming);
    fleet.end().await?;
    Ok(outcome)
}

/// Makes room for that many sockets, as far as the system allows.
fn room_for(devices: usize) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// Files that are open besides the connections.
    const OTHERS: u64 = 64;
    let wanted = devices as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let most = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })
        .context("the limit of open files")?;
    if most < wanted {
        bail!(
            "{devices} devices need {wanted} open files, and the system allows {most}: raise it with ulimit -n"
        );
    }
    Ok(())
}

async fn start(plan: &Plan, bar: ProgressBar) -> Result<Fleet> {
    let mut roots = RootCertStore::empty();
    for path in &plan.roots {
        for certificate in CertificateDer::pem_file_iter(path)
            .with_context(|| format!("{}: no certificate", path.display()))?
        {
            roots.add(certificate.with_context(|| path.display().to_string())?)?;
        }
    }
    let name = ServerName::try_from(plan.server_name.clone())
        .with_context(|| format!("{} is no name of a server", plan.server_name))?;
    let broker = Broker { address: plan.broker, name, roots: Arc::new(roots) };
    let faulty = plan.level != Level::None;
    let (orders, watching) = watch::channel(Orders { faults: faulty, rotations: 0 });
    let bad_claim = bad_claim()?;
    let mut sensors = Vec::with_capacity(plan.devices);
    let mut shares: Vec<Vec<(Duration, Sensor)>> = Vec::new();
    shares.resize_with(workers(plan.devices), Vec::new);
    let pause = Duration::from_secs(1) / plan.ramp.max(1);
    for number in 0..plan.devices {
        let serial = format!("{}{number:05}", plan.prefix);
        let mut dice = Dice::new(plan.given.seed, number as u64);
        if let Begin::Tokens(_, tokens) = &plan.given.begin
            && !tokens.contains_key(&serial)
        {
            bail!("there is no token for {serial}; make one with signet token create {serial}");
        }
        let unit = Unit::new(&plan.given, serial.clone());
        let shared = Shared::default();
        shared.view().serial = serial;
        let by_claim = matches!(plan.given.begin, Begin::Claim(_));
        if dice.happens(plan.level.faults().bad_claims) && by_claim {
            unit.put_claim(&bad_claim).context("a claim for the working region")?;
            shared.view().counts.bad_claims += 1;
        }
        let sensor = Sensor {
            unit,
            broker: broker.clone(),
            faults: plan.level.faults(),
            dice,
            orders: watching.clone(),
            shared: shared.clone(),
        };
        let delay = pause * u32::try_from(number).unwrap_or(u32::MAX);
        let share = number % shares.len();
        shares[share].push((delay, sensor));
        sensors.push(shared);
    }
    let threads = shares.into_iter().map(work).collect::<Result<_>>()?;
    Ok(Fleet { sensors, orders, threads, began: Instant::now(), bar, restarts: 0 })
}

/// One for each core, and none without a device.
fn workers(devices: usize) -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).clamp(1, devices)
}

/// A thread that runs its share of the sensors until the fleet is gone. An agent is a future of one thread, as on the chip.
fn work(share: Vec<(Duration, Sensor)>) -> Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let run = move || {
        let local = LocalSet::new();
        for (delay, sensor) in share {
            let shared = sensor.shared.clone();
            let running = local.spawn_local(async move {
                sleep(delay).await;
                sensor.run().await;
            });
            local.spawn_local(async move {
                if let Err(error) = running.await {
                    let mut view = shared.view();
                    view.online = false;
                    view.last_alarm = Some(format!("the agent panicked: {error}"));
                }
            });
        }
        runtime.block_on(local);
    };
    std::thread::Builder::new().name("sensors".into()).spawn(run).context("a thread")
}

/// A claim that no broker takes: signed by itself.
fn bad_claim() -> Result<Claim> {
    let signed = rcgen::generate_simple_self_signed(vec!["revoked.invalid".to_owned()])?;
    let key = signed.signing_key.serialize_der();
    Ok(Claim { certificate: signed.cert.der().to_vec(), key: key.into() })
}

impl Fleet {
    fn count(&self, holds: impl Fn(&View) -> bool) -> usize {
        self.sensors.iter().filter(|sensor| holds(&sensor.view())).count()
    }

    /// Waits until `reached` has counted every device. The broker restarts once, at about the half.
    async fn until(&mut self, plan: &Plan, reached: impl Fn(&Self) -> usize) -> bool {
        let end = Instant::now() + plan.timeout;
        let mut restart = plan.restart.clone();
        loop {
            let count = reached(self);
            self.show(count);
            if count >= plan.devices / 2
                && let Some(restart) = restart.take()
            {
                self.bar.set_message("the broker restarts");
                let done = tokio::task::spawn_blocking(move || restart.0()).await;
                match done {
                    Ok(Ok(())) => self.restarts += 1,
                    Ok(Err(error)) => self.bar.println(format!("the broker was not restarted: {error:#}")),
                    Err(error) => self.bar.println(format!("the broker was not restarted: {error}")),
                }
            }
            if count == plan.devices {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    async fn until_quietly(&self, timeout: Duration, reached: impl Fn(&Self) -> usize, devices: usize) {
        let end = Instant::now() + timeout;
        while reached(self) < devices && Instant::now() < end {
            self.show(reached(self));
            sleep(LOOK).await;
        }
    }

    fn show(&self, count: usize) {
        let online = self.count(|view| view.online);
        let cuts: u64 = self.sensors.iter().map(|sensor| sensor.view().counts.power_cuts).sum();
        self.bar.set_position(count as u64);
        self.bar.set_message(format!("{online} online, {cuts} power cuts"));
    }

    /// Lets every device rotate. Returns how many have another certificate.
    async fn rotate(&mut self, plan: &Plan, outcome: &mut Outcome) -> usize {
        let had: Vec<Option<[u8; 32]>> =
            self.sensors.iter().map(|sensor| sensor.view().certificate).collect();
        self.orders.send_modify(|orders| orders.rotations += 1);
        let rotated = move |fleet: &Self| {
            let now = fleet.sensors.iter().map(|sensor| sensor.view().certificate);
            had.iter().zip(now).filter(|(had, now)| had.is_some() && now.is_some() && **had != *now).count()
        };
        if !self.until(plan, &rotated).await {
            let missing = plan.devices - rotated(self);
            outcome.problem(format!("{missing} devices did not rotate within {:?}", plan.timeout));
        }
        rotated(self)
    }

    /// Lets an operator give everybody new firmware. Returns how many run it, by their own account and that of the broker.
    async fn update(&mut self, plan: &Plan, update: &Update, outcome: &mut Outcome) -> Result<usize> {
        let names: Vec<String> =
            self.sensors.iter().filter_map(|sensor| sensor.view().thing.clone()).collect();
        let give = Arc::clone(&update.give);
        let given = tokio::task::spawn_blocking(move || give(&names));
        let version = update.version.clone();
        let updated = move |fleet: &Self| {
            fleet.count(|view| {
                view.online && view.version.as_ref() == Some(&version) && view.counts.updates > 0
            })
        };
        if !self.until(plan, &updated).await {
            let missing = plan.devices - updated(self);
            outcome.problem(format!("{missing} devices did not take the update within {:?}", plan.timeout));
        }
        if let Err(error) = given.await? {
            outcome.problem(format!("the operator's command failed: {error:#}"));
        }
        Ok(self.count(|view| view.version.as_ref() == Some(&update.version)))
    }

    /// Switches everything off.
    async fn end(self) -> Result<()> {
        let Self { orders, threads, .. } = self;
        drop(orders);
        tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join))
            .await?
            .map_err(|_| anyhow!("a thread of sensors panicked"))
    }

    /// Every device online under its own name, none twice, none lost.
    fn judge(&self, outcome: &mut Outcome, calm: Instant, coming: Duration) {
        let mut names: HashMap<String, String> = HashMap::new();
        let mut certificates: BTreeMap<[u8; 32], String> = BTreeMap::new();
        let mut enrolled = Vec::new();
        let mut happened = Happened { broker_restarts: self.restarts, ..Happened::default() };
        for sensor in &self.sensors {
            let view = sensor.view();
            happened += &view.counts;
            happened.boots += view.counts.power_cuts + view.counts.resets + 1;
            enrolled.extend(view.enrolled_after);
            let serial = &view.serial;
            let alarm = view.last_alarm.as_deref().unwrap_or("no alarm");
            match &view.thing {
                Some(thing) if thing.ends_with(serial.as_str()) => {
                    if let Some(other) = names.insert(thing.clone(), serial.clone()) {
                        outcome.twice += 1;
                        outcome.problem(format!("{serial} and {other} are both {thing}"));
                    }
                }
                Some(thing) => {
                    outcome.lost += 1;
                    outcome.problem(format!("{serial} is called {thing}"));
                    continue;
                }
                None => {
                    outcome.lost += 1;
                    outcome.problem(format!("{serial} has no name: {alarm}"));
                    continue;
                }
            }
            if !view.online || view.acknowledged.is_none_or(|at| at < calm) {
                outcome.lost += 1;
                outcome.problem(format!("{serial} cannot be reached: {alarm}"));
            }
            if let Some(other) = view.certificate.and_then(|id| certificates.insert(id, serial.clone())) {
                outcome.twice += 1;
                outcome.problem(format!("{serial} and {other} have the same certificate"));
            }
        }
        enrolled.sort_unstable();
        let at = |share: f64| {
            let index = ((enrolled.len().saturating_sub(1)) as f64 * share) as usize;
            enrolled.get(index).map_or(0.0, Duration::as_secs_f64)
        };
        outcome.enrolled_after = [at(0.5), at(0.99), at(1.0)];
        outcome.enrolled_per_second = enrolled.len() as f64 / coming.as_secs_f64().max(0.001);
        outcome.seconds = self.began.elapsed().as_secs_f64();
        outcome.happened = happened;
        outcome.ok = outcome.problems.is_empty()
            && outcome.online == outcome.devices
            && outcome.rotated.is_none_or(|rotated| rotated == outcome.devices)
            && outcome.updated.is_none_or(|updated| updated == outcome.devices);
    }
}
