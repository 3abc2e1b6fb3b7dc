//! What follows when certificates lose their standing: which connections end, and what is taken from whom.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::sync::Arc;

use signet_config::{Checked, RetainedOfRevoked, SessionOfRevoked, WillOfRevoked};
use signet_core::{CloseReason, Condemned, Consequences, RetainedTaken};
use signet_identity::{PrincipalKey, Role};
use signet_registry::{Change, Lost, RevocationReason, Standing};

use crate::directory::Live;
use crate::listed::{self, Listed};
use crate::live;
use crate::server::Broker;
use crate::standing::{self, Lost as LostRights};
use crate::store::Applied;

/// What the settings say that follows a revocation, in the terms of the core.
pub(crate) fn of_settings(config: &Checked) -> Consequences {
    let settings = &config.revocation;
    Consequences {
        send_will: settings.will == WillOfRevoked::Send,
        keep_sessions: settings.session == SessionOfRevoked::Keep,
        retained: match &settings.retained {
            RetainedOfRevoked::Keep => RetainedTaken::None,
            RetainedOfRevoked::All => RetainedTaken::All,
            RetainedOfRevoked::Status(topics) => RetainedTaken::Of(Arc::new(topics.policy())),
        },
    }
}

/// Lets every change of the registry reach the live connections. Called by the registry's writer, which must not wait.
pub(crate) fn enforce_changes(broker: &Arc<Broker>) {
    let Some(registry) = broker.registry() else { return };
    let broker = Arc::downgrade(broker);
    registry.subscribe(move |applied, _| {
        if let Some(broker) = broker.upgrade() {
            enforce(&broker, applied);
        }
    });
}

fn enforce(broker: &Broker, applied: &Applied) {
    for event in &applied.events {
        pardon(broker, &event.change);
    }
    let effects = &applied.effects;
    let mut condemned = Condemned::default();
    let mut suspended = HashSet::new();
    let by_lists = LazyCell::new(|| ByLists::look(broker, &effects.lost));
    for lost in &effects.lost {
        let ended = matches!(lost.standing, Standing::Revoked { .. } | Standing::Unknown);
        // Another certificate may have come into force since: then somebody is left to whom all of it belongs.
        let stands = lost.holder_remains || still_stands(broker, lost);
        let remains = stands && (!ended || by_lists.leave_another(broker, lost));
        if ended && !remains {
            condemned.certificates.insert(lost.certificate);
            condemned.principals.insert(lost.holder.clone());
        } else {
            suspended.insert(lost.certificate);
        }
        tracing::warn!(
            holder = %lost.holder, certificate = %lost.certificate, standing = lost.standing.metric_label(),
            holder_remains = remains, "a certificate lost its standing"
        );
    }
    if !condemned.certificates.is_empty() {
        let purged = broker.hub().purge(&condemned, &broker.consequences.load(), broker.clock.now());
        tracing::info!(
            connections = purged.connections,
            sessions = purged.sessions,
            retained = purged.retained,
            "taken from those who are revoked"
        );
    }
    if !suspended.is_empty() {
        let bears = |live: &&Arc<Live>| suspended.contains(&live.judged.certificate());
        for live in broker.directory.snapshot().iter().filter(bears) {
            broker.hub().close_connection(live.number, CloseReason::CertificateRevoked);
        }
    }
    rejudge(broker, applied);
}

/// Who has other rights than before: its next connection has them, and the old one must not go on with those it had.
fn rejudge(broker: &Broker, applied: &Applied) {
    let effects = &applied.effects;
    // A suspended certificate speaks for nobody; a revoked one is the purge's.
    let suspended = effects.lost.iter().filter(|lost| matches!(lost.standing, Standing::Inactive(_)));
    let silent: HashSet<_> = suspended.map(|lost| &lost.holder).collect();
    if effects.rejudge.is_empty() && silent.is_empty() {
        return;
    }
    if !effects.rejudge.is_empty() {
        // One that is refused at CONNECT anyway lives to be told so.
        for live in broker.directory.snapshot().into_iter().filter(|live| !live.refused) {
            if effects.rejudge.contains(live.principal.key()) {
                // A claim has bounds besides those in its principal, such as its end.
                let bounded = live.principal.role() == Role::Claim;
                let other = || bounded.then(|| LostRights::Rights(live.principal.clone()));
                if let Some(lost) = standing::lost(broker, &live).or_else(other) {
                    standing::close_lost(broker, &live, lost);
                }
            }
        }
    }
    let concerned = |key: &PrincipalKey| effects.rejudge.contains(key) || silent.contains(key);
    broker.hub().rejudge_wills(concerned, |author| standing::author_now(broker, author));
}

/// Who may be good again need not wait for what was.
fn pardon(broker: &Broker, change: &Change) {
    match change {
        Change::CertificateAdded { facts, .. } => broker.penalties.forget(&facts.id),
        Change::CertificateActivated { certificate, .. } | Change::CertificateBound { certificate, .. } => {
            broker.penalties.forget(certificate);
        }
        Change::CaAdded { .. } | Change::CaChanged { .. } | Change::ClaimChanged { .. } => {
            broker.penalties.forget_all();
        }
        Change::ThingApproved { until: Some(_), .. }
        | Change::ThingDeleted { .. }
        | Change::TemplateSet { .. } => broker.penalties.forget_not_let_in(),
        // It may have been in the way. What rotations replace is so all the time, and is in nobody's way.
        Change::CertificateRevoked { reason, .. } if *reason != RevocationReason::Superseded => {
            broker.penalties.forget_not_let_in();
        }
        Change::ClaimSuspended { suspended: false, .. } => broker.penalties.forget_all(),
        // Unclaimed ones are all the time: nobody is to be let off by that who is not concerned.
        Change::CertificateDeleted { certificate, .. } => {
            broker.penalties.forget(certificate);
            broker.penalties.forget_namesakes();
        }
        _ => {}
    }
}

/// What revocation lists say of the other certificates of those that lost one. The registry does not know the lists.
struct ByLists {
    lists: Listed,
    /// Who is connected with another certificate that is accepted where it is connected.
    connected: HashSet<PrincipalKey>,
}

impl ByLists {
    fn look(broker: &Broker, lost: &[Lost]) -> Self {
        let mut found = Self { lists: Listed::in_force(broker), connected: HashSet::new() };
        if found.lists.is_empty() {
            return found;
        }
        let certificates: HashSet<_> = lost.iter().map(|lost| lost.certificate).collect();
        let holders: HashSet<_> = lost.iter().map(|lost| &lost.holder).collect();
        for live in broker.directory.snapshot() {
            found.lists.learn(live.principal.lineage());
            let another = holders.contains(live.principal.key())
                && !certificates.contains(&live.judged.certificate())
                && live::holds(broker, &live);
            if another {
                found.connected.insert(live.principal.key().clone());
            }
        }
        found
    }

    /// Whether the lists leave the holder, who has other certificates in the registry, one that may connect.
    fn leave_another(&self, broker: &Broker, lost: &Lost) -> bool {
        self.lists.is_empty()
            || self.connected.contains(&lost.holder)
            || listed::another_remains(broker, &self.lists, &lost.holder, Some(&lost.certificate))
    }
}

fn still_stands(broker: &Broker, lost: &Lost) -> bool {
    broker.registry().is_some_and(|registry| registry.registry().stands(&lost.holder, registry.now()))
}

/// A live connection's certificate stands in a revocation list: what follows is the same as for a revocation in the
/// registry, unless the same holder has another certificate in force, or it is an authority above it that stands there and
/// has another. False: the connection is gone.
pub(crate) fn close_listed(broker: &Broker, live: &Live, lists: &Listed) -> bool {
    let own = live.judged.certificate();
    let may_come_back = !lists.name_any(live.principal.lineage())
        || listed::another_remains(broker, lists, live.principal.key(), Some(&own));
    if may_come_back {
        broker.hub().close_connection(live.number, CloseReason::CertificateRevoked)
    } else {
        broker.hub().condemn_connection(live.number, &broker.consequences.load())
    }
}
