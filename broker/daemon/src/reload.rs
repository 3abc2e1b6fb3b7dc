//! Reload: the next state is built whole and tried; it replaces the one in force, or nothing changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use signet_config::{Checked, Https, Listener};
use signet_registry::Actor;

use crate::admin::api::Reloaded;
use crate::ca::{Authorities, AuthorityError, Opened};
use crate::lists::Memory;
use crate::server::Broker;
use crate::start;
use crate::state::{self, BuildError, Built, Digest};
use crate::tls::{Edition, TlsListener};
use crate::trail;

/// What the last attempt was made of, so that the file watch tries a bad state once and not every second.
#[derive(Debug)]
pub(crate) struct Tried {
    digest: Digest,
    /// The files that the digest is of.
    files: Vec<PathBuf>,
    /// The SHA-256 of the policy in force.
    policy: Digest,
    /// Which revocation lists were seen.
    lists: Memory,
}

impl Tried {
    pub(crate) fn new(config: &Checked, built: &Built, lists: Memory) -> Self {
        let files = state::files_of(config);
        Self { digest: built.digest, files, policy: built.policy_hash, lists }
    }

    /// Whatever comes of it, the contents of these files have been tried.
    fn cover(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        self.files = files.into_iter().collect();
        self.files.sort();
        self.files.dedup();
        self.digest = state::digest_of(&self.files);
    }
}

/// Why the state in force stays.
#[derive(Debug, thiserror::Error)]
pub enum ReloadRefused {
    /// The configuration has problems.
    #[error("{}", signet_config::render(.0))]
    Config(Vec<signet_config::Problem>),
    /// Files that the configuration names have problems.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The authority has problems.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// `[ca]` was another each time that it was read.
    #[error(
        "[ca] or the authority's certificate changed again and again while it was read\n  hint: reload when they are as they are to be"
    )]
    Unsettled,
}

/// How often a reload begins anew because [ca] changed while its authorities were being opened.
const UNSETTLED_TRIES_MAX: usize = 3;

/// Why an attempt put nothing in force.
enum Stop {
    /// The authorities that were opened are no longer those that are asked for.
    Unsettled,
    Refused(ReloadRefused),
}

impl<E: Into<ReloadRefused>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl ReloadRefused {
    /// One sentence each.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Config(problems) => problems.iter().map(ToString::to_string).collect(),
            Self::Build(error) => error.problems.clone(),
            Self::Authority(_) | Self::Unsettled => vec![self.to_string()],
        }
    }
}

/// Whether a file has changed since the last attempt that the state in force is made of, or was to be made of then.
pub(crate) fn files_changed(broker: &Broker) -> bool {
    let Some(tried) = broker.reloading.try_lock() else { return false };
    state::digest_of(&tried.files) != tried.digest
}

/// As [`files_changed`]; waits for a reload that is under way, which may have read a file before it changed.
pub(crate) fn files_have_changed(broker: &Broker) -> bool {
    let tried = broker.reloading.lock();
    state::digest_of(&tried.files) != tried.digest
}

/// Builds the next state and puts it in force, or leaves everything as it is.
pub(crate) fn reload(broker: &Broker, because: &str, actor: &Actor) -> Result<Reloaded, ReloadRefused> {
    // A token that is slow, or hangs, holds up nobody else: whoever has the lock does not wait for it.
    let (mut tried, policy_before, outcome) = (0..UNSETTLED_TRIES_MAX)
        .find_map(|_| {
            let opened = open_authorities(broker);
            let mut tried = broker.reloading.lock();
            let policy_before = tried.policy;
            match attempt(broker, &mut tried, opened) {
                Err(Stop::Unsettled) => None,
                Err(Stop::Refused(refused)) => Some((tried, policy_before, Err(refused))),
                Ok(reloaded) => Some((tried, policy_before, Ok(reloaded))),
            }
        })
        .unwrap_or_else(|| {
            let tried = broker.reloading.lock();
            let policy_before = tried.policy;
            (tried, policy_before, Err(ReloadRefused::Unsettled))
        });
    match &outcome {
        Ok(reloaded) => {
            let lists = see_lists(broker, &mut tried);
            let policy = (policy_before != tried.policy).then_some((policy_before, tried.policy));
            trail::reloaded(broker, because, reloaded, policy, &lists, actor);
            broker.metrics.reloads.with_label_values(&["accepted"]).inc();
            for warning in &reloaded.warnings {
                tracing::warn!("{warning}");
            }
            for setting in &reloaded.needs_restart {
                tracing::warn!("{setting}");
            }
            tracing::info!(because, generation = reloaded.generation, changed = ?reloaded.changed, "reloaded");
        }
        Err(refused) => {
            trail::refused(broker, because, refused, actor);
            broker.metrics.reloads.with_label_values(&["refused"]).inc();
            for problem in refused.problems() {
                tracing::error!(because, "reload refused, the old state stays: {problem}");
            }
        }
    }
    outcome
}

/// Remembers the revocation lists that are in force now; those that are news.
fn see_lists(broker: &Broker, tried: &mut Tried) -> Vec<Edition> {
    let listeners: Vec<_> = in_force(broker).collect();
    let (news, written) = tried.lists.see(listeners.iter());
    if let Err(error) = written {
        crate::lists::tell_unwritten(broker, &error);
    }
    news
}

/// Remembers a list from outside that is to be published, unless a newer one was seen, by this process or an earlier one.
pub(crate) fn admits_list(broker: &Broker, edition: Edition) -> bool {
    let admitted = broker.reloading.lock().lists.admit(edition);
    if let Ok(Err(error)) = &admitted {
        crate::lists::tell_unwritten(broker, error);
    }
    admitted.is_ok()
}

/// The TLS of the listeners, and then of `[[https]]`.
pub(crate) fn in_force(broker: &Broker) -> impl Iterator<Item = Arc<TlsListener>> {
    let listeners = broker.listeners.iter().map(|listening| listening.tls.load_full());
    listeners.chain(broker.doors.iter().map(|door| door.tls()))
}

fn attempt(
    broker: &Broker,
    tried: &mut Tried,
    opened: Option<Result<Opened, AuthorityError>>,
) -> Result<Reloaded, Stop> {
    let old = broker.config.load_full();
    // Whatever comes of it, these contents have been tried.
    tried.cover(state::files_of(&old));
    let new = start::read(&broker.source).map_err(ReloadRefused::Config)?;
    // From here on a change of the files that only the new settings name is a reason to try again.
    tried.cover(state::files_of(&old).into_iter().chain(state::files_of(&new)));
    let previous: Vec<_> = in_force(broker).collect();
    let (merged, needs_restart) = merge(&old, new);
    if let Err(error) = start::check_descriptors(&merged) {
        return Err(BuildError { problems: vec![error.to_string()] }.into());
    }
    let built = state::build(&merged, Some(&previous), tried.lists.editions(), broker.judge())?;
    let authorities = new_authorities(broker, &old, &merged, opened)?;
    tried.files = state::files_of(&merged);
    tried.digest = built.digest;
    let same_rules = is_same_policy((&old, tried.policy), (&merged, built.policy_hash));
    tried.policy = built.policy_hash;
    let mut warnings: Vec<String> = merged.warnings.iter().map(ToString::to_string).collect();
    warnings.extend(built.warnings);
    // A list alone makes nobody good whom the registry refuses.
    let anchors =
        |all: &[Arc<TlsListener>]| all.iter().map(|tls| tls.trust().anchors_hash()).collect::<Vec<_>>();
    let now: Vec<_> = built.listeners.iter().chain(&built.https).map(Arc::clone).collect();
    let lists_alone = *old == merged && authorities.is_none() && anchors(&previous) == anchors(&now);
    let mut changed = Vec::new();
    if let Some(authorities) = authorities {
        let subject = authorities.current.as_ref().map(|authority| authority.issuer().subject().to_string());
        changed.push(format!("the authority: \"{}\" issues now", subject.unwrap_or_default()));
        broker.set_authorities(authorities);
    }
    for ((listening, tls), settings) in broker.listeners.iter().zip(built.listeners).zip(&merged.listeners) {
        listening.replace(settings, tls);
    }
    for ((door, tls), settings) in broker.doors.iter().zip(built.https).zip(&merged.https) {
        door.replace(settings, tls);
    }
    broker.admission.set_limits(start::admission_limits(&merged));
    broker.hub().set_limits(start::core_limits(&merged));
    broker.memory.configure(&merged);
    broker.rates.store(Arc::new(crate::principals::Rates::of(&merged)));
    crate::lifecycle::configure(broker, merged.events.lifecycle);
    if *old != merged {
        changed.push("the configuration".to_owned());
    }
    broker.consequences.store(Arc::new(crate::consequences::of_settings(&merged)));
    broker.config.store(Arc::new(merged));
    if lists_alone {
        broker.penalties.forget_listed();
    } else {
        broker.penalties.forget_all();
    }
    // Before the policy: who may not go on under the new settings must not gain rights by the new rules meanwhile.
    let other_lists = editions(&previous) != editions(&now);
    let closed = crate::live::judge_live(broker, lists_alone && other_lists);
    // A new policy has everybody judged by it, and nobody is to be disturbed for nothing.
    if !same_rules {
        broker.hub().set_policy(Arc::new(built.policy));
    }
    if closed > 0 {
        changed.push(format!(
            "{closed} connections were closed: their certificates or rights are no longer as they were"
        ));
    }
    let generation = broker.generation.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(Reloaded { generation, changed, needs_restart, warnings })
}

/// Which revocation lists are in force.
fn editions(all: &[Arc<TlsListener>]) -> Vec<Edition> {
    let mut editions: Vec<_> =
        all.iter().flat_map(|tls| tls.trust().editions().collect::<Vec<_>>()).collect();
    // The lists of one address come in no particular order.
    editions.sort_unstable_by(|a, b| {
        (a.issuer_key, a.point, &a.number, a.this_update).cmp(&(
            b.issuer_key,
            b.point,
            &b.number,
            b.this_update,
        ))
    });
    editions
}

/// Whether the policy says what it said: its text, how it is read, and what is left in quarantine.
fn is_same_policy((old, old_hash): (&Checked, Digest), (new, new_hash): (&Checked, Digest)) -> bool {
    old_hash == new_hash && old.acl == new.acl && old.standing.recovery_topics == new.standing.recovery_topics
}

/// Reads and opens the authorities that the files name now, when they are others than those in force. Without the lock of
/// the reload, so all of it is looked at again under it. `None`: nothing is to be opened, or what is wrong is said there.
fn open_authorities(broker: &Broker) -> Option<Result<Opened, AuthorityError>> {
    let registry = broker.registry()?;
    let old = broker.config.load_full();
    let (merged, _) = merge(&old, start::read(&broker.source).ok()?);
    if broker.authorities().are_unchanged(old.ca.as_ref(), merged.ca.as_ref()) {
        return None;
    }
    Some(Opened::read(merged.ca.as_ref(), registry.now()))
}

/// The authorities of the new settings, when they are others than those in force.
fn new_authorities(
    broker: &Broker,
    old: &Checked,
    new: &Checked,
    opened: Option<Result<Opened, AuthorityError>>,
) -> Result<Option<Authorities>, Stop> {
    let Some(registry) = broker.registry() else { return Ok(None) };
    if broker.authorities().are_unchanged(old.ca.as_ref(), new.ca.as_ref()) {
        return Ok(None);
    }
    let opened = opened.ok_or(Stop::Unsettled)??;
    if !opened.are_of(new.ca.as_ref()) {
        return Err(Stop::Unsettled);
    }
    Ok(Some(opened.register(registry)?))
}

/// The new settings, with those that cannot change while running left as they are; and a sentence for each of these.
fn merge(old: &Checked, mut new: Checked) -> (Checked, Vec<String>) {
    let mut needs_restart = Vec::new();
    let mut keep = |differs: bool, what: &str| {
        if differs {
            needs_restart.push(format!("{what} changed: it takes effect at the next start"));
        }
    };
    let addresses = |config: &Checked| config.listeners.iter().map(|l| l.address).collect::<Vec<_>>();
    let same_listeners = addresses(old) == addresses(&new);
    keep(!same_listeners, "the set of [[listener]] addresses");
    if !same_listeners {
        new.listeners = old.listeners.iter().map(|l| counterpart(l, &new.listeners)).collect();
    }
    let doors = |config: &Checked| config.https.iter().map(|door| door.address).collect::<Vec<_>>();
    let same_doors = doors(old) == doors(&new);
    keep(!same_doors, "the set of [[https]] addresses");
    if !same_doors {
        let same =
            |old: &Https| new.https.iter().find(|door| door.address == old.address).unwrap_or(old).clone();
        new.https = old.https.iter().map(same).collect();
    }
    keep(old.registry != new.registry, "[registry]");
    new.registry = old.registry.clone();
    let grace = old.standing.expired_grace;
    keep(grace != new.standing.expired_grace, "[standing] expired-grace");
    new.standing.expired_grace = grace;
    // A broker that was no authority has no threads to sign with.
    if old.ca.is_some() != new.ca.is_some() {
        keep(true, "whether there is a [ca]");
        new.ca = old.ca.clone();
    }
    keep(old.store != new.store, "[store]");
    new.store = old.store.clone();
    keep(old.admin != new.admin, "[admin]");
    new.admin = old.admin.clone();
    keep(old.log != new.log, "[log]");
    new.log = old.log;
    keep(old.provisioning.hooks_max != new.provisioning.hooks_max, "[provisioning] hooks-max");
    new.provisioning.hooks_max = old.provisioning.hooks_max;
    keep(old.provisioning.threads != new.provisioning.threads, "[provisioning] threads");
    new.provisioning.threads = old.provisioning.threads;
    keep(old.system.traffic_threads != new.system.traffic_threads, "[system] traffic-threads");
    new.system.traffic_threads = old.system.traffic_threads;
    keep(old.system.handshake_threads != new.system.handshake_threads, "[system] handshake-threads");
    new.system.handshake_threads = old.system.handshake_threads;
    (new, needs_restart)
}

/// The new settings of the listener that has the address of `old`, or the old ones.
fn counterpart(old: &Listener, new: &[Listener]) -> Listener {
    new.iter().find(|listener| listener.address == old.address).unwrap_or(old).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Checked {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"a.crt\"\nprivate-key = \"a.key\"\n\
             client-ca = [\"ca.crt\"]\nmax-connections = 10\n{more}"
        );
        signet_config::parse(&text, std::path::Path::new("/nowhere/signet.toml")).unwrap()
    }

    #[test]
    fn the_policy_is_another_with_another_text_another_reading_or_other_topics_of_quarantine() {
        let (old, one, two) = (settings("[acl]\nfile = \"acl\"\n"), [1; 32], [2; 32]);
        let lists = settings("crl = [\"ca.crl\"]\n[acl]\nfile = \"acl\"\n");
        assert!(is_same_policy((&old, one), (&lists, one)), "a list is no policy");
        assert!(!is_same_policy((&old, one), (&old, two)));
        let recovery = "[acl]\nfile = \"acl\"\n[standing]\nrecovery-topics = [\"x/%u/#\"]\n";
        for other in [recovery, "[acl]\nfile = \"acl\"\nsubscribe-check = false\n"] {
            assert!(!is_same_policy((&old, one), (&settings(other), one)), "{other}");
        }
    }
}
