//! What follows when certificates lose their standing: which connections end, and what is taken from whom.

use std::collections::HashSet;
use std::sync::Arc;

use signet_config::{Checked, RetainedOfRevoked, SessionOfRevoked, WillOfRevoked};
use signet_core::{CloseReason, Condemned, Consequences, RetainedTaken};
use signet_identity::{PrincipalKey, Role};
use signet_registry::{Change, Standing};

use crate::directory::Live;
use crate::listed::{self, Listed};
use crate::server::Broker;
use crate::standing::{self, Lost};
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
    for lost in &effects.lost {
        let ended = matches!(lost.standing, Standing::Revoked { .. } | Standing::Unknown);
        // Another certificate may have come into force since: then somebody is left to whom all of it belongs.
        let remains = lost.holder_remains || still_stands(broker, lost);
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
        for live in broker.directory.snapshot() {
            if effects.rejudge.contains(live.principal.key()) {
                // A claim has bounds besides those in its principal, such as its end.
                let bounded = live.principal.role() == Role::Claim;
                let other = || bounded.then(|| Lost::Rights(live.principal.clone()));
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
        Change::ClaimSuspended { suspended: false, .. } | Change::CertificateDeleted { .. } => {
            broker.penalties.forget_all();
        }
        _ => {}
    }
}

fn still_stands(broker: &Broker, lost: &signet_registry::Lost) -> bool {
    broker.registry().is_some_and(|registry| registry.registry().stands(&lost.holder, registry.now()))
}

/// A live connection's certificate stands in a revocation list: what follows is the same as for a revocation in the
/// registry, unless the same holder has another certificate in force. False: the connection is gone.
pub(crate) fn close_listed(broker: &Broker, live: &Live, lists: &Listed) -> bool {
    let own = live.judged.certificate();
    if listed::another_remains(broker, lists, live.principal.key(), Some(&own)) {
        broker.hub().close_connection(live.number, CloseReason::CertificateRevoked)
    } else {
        broker.hub().condemn_connection(live.number, &broker.consequences.load())
    }
}
