//! What a revocation list of an outside authority takes from those who are not connected.
//!
//! A list gives serial numbers. Whose they are is known in two ways: sessions and retained messages remember what lists name
//! the certificate of their author by ([`Lineage`]), and the registry knows the certificates of a holder.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::quality::RandomState;
use signet_core::Condemned;
use signet_identity::{CertificateId, Issued, Lineage, Principal, PrincipalKey};
use signet_registry::{Certificate, Standing, Wall};

use crate::reload;
use crate::server::Broker;
use crate::tls::Trust;

type Keys = HashSet<PrincipalKey, RandomState>;

/// The revocation lists in force at any address. For what somebody has left behind a list counts wherever it is configured:
/// it is the word of the authority, and nobody knows at which address its bearer would come back.
pub(crate) struct Listed {
    trusts: Vec<Arc<Trust>>,
    /// The keys of authorities that a list names, as far as paths are known that go through them.
    keys: HashSet<[u8; 32], RandomState>,
}

impl Listed {
    /// The lists in force now.
    pub(crate) fn in_force(broker: &Broker) -> Self {
        let trusts = reload::in_force(broker).map(|tls| tls.trust());
        let trusts = trusts.filter(|trust| trust.crls().next().is_some()).collect();
        Self { trusts, keys: HashSet::default() }
    }

    /// Learns from a path which authorities are named. The registry knows of a certificate by which key it was signed, and not
    /// what is above that.
    pub(crate) fn learn(&mut self, lineage: &Lineage) {
        if self.is_empty() {
            return;
        }
        for (below, authority) in lineage.iter().zip(lineage.iter().skip(1)) {
            if self.name(authority) {
                self.keys.insert(*below.issuer);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.trusts.is_empty()
    }

    fn name(&self, issued: Issued<'_>) -> bool {
        self.keys.contains(issued.issuer) || self.trusts.iter().any(|trust| trust.lists(issued))
    }

    /// Whether a list names a certificate, or an authority above it.
    fn name_any(&self, lineage: &Lineage) -> bool {
        lineage.iter().any(|issued| self.name(issued))
    }

    fn name_registered(&self, certificate: &Certificate) -> bool {
        let facts = &certificate.facts;
        self.name(Issued { issuer: facts.issuer.as_bytes(), serial: facts.serial.as_bytes() })
    }
}

/// Whether a certificate of `holder`, besides `except`, may connect now or again: it is in force or suspended, has not
/// ended, and is on no list. Without a registry nobody knows.
pub(crate) fn another_remains(
    broker: &Broker,
    lists: &Listed,
    holder: &PrincipalKey,
    except: Option<&CertificateId>,
) -> bool {
    let Some(registry) = broker.registry() else { return false };
    let (known, now) = (registry.registry(), registry.now());
    let grace = i64::try_from(broker.config.load().standing.expired_grace.as_secs()).unwrap_or(i64::MAX);
    let others = known.certificates_of_holder(holder).iter().filter(|id| Some(*id) != except);
    others.filter_map(|id| known.certificate(id)).any(|other| {
        let standing = known.standing_of(other, now);
        let may = matches!(standing, Standing::Active(_) | Standing::Inactive(_) | Standing::Pending { .. });
        let ended = other.facts.not_after.saturating_add(grace) < unix_secs(now);
        may && !ended && !lists.name_registered(other)
    })
}

fn unix_secs(now: Wall) -> i64 {
    i64::try_from(now.0 / 1000).unwrap_or(i64::MAX)
}

/// Takes what is left of those whom the `lists` have left no certificate, and who are not among the `staying`: the holders
/// of connections that go on. What is taken is what a revocation in the registry takes.
pub(crate) fn sweep(broker: &Broker, lists: Listed, staying: &HashSet<&PrincipalKey>) {
    if !lists.is_empty() {
        take(broker, lists, |key| staying.contains(key), |_| false);
    }
}

/// The same when what an earlier process kept has been brought back, with those whom `is_gone` says nobody knows any more.
pub(crate) fn sweep_at_start(broker: &Broker, is_gone: impl Fn(&Principal) -> bool) {
    take(broker, Listed::in_force(broker), |_| false, is_gone);
}

fn take(
    broker: &Broker,
    mut lists: Listed,
    stays: impl Fn(&PrincipalKey) -> bool,
    is_gone: impl Fn(&Principal) -> bool,
) {
    let known = broker.registry().map(|registry| registry.registry());
    let authors = distinct(broker.hub().authors());
    authors.iter().for_each(|author| lists.learn(author.lineage()));
    let lists = &lists;
    let registered = |author: &Principal| {
        let Some(known) = &known else { return false };
        let held = known.certificates_of_holder(author.key()).iter();
        held.filter_map(|id| known.certificate(id)).any(|held| lists.name_registered(held))
    };
    let gone =
        |author: &&Principal| lists.name_any(author.lineage()) || registered(author) || is_gone(author);
    let mut principals: Keys = authors.iter().filter(gone).map(|author| author.key().clone()).collect();
    principals.retain(|key| !stays(key) && !another_remains(broker, lists, key, None));
    if known.is_none() {
        // Then it is by what was left behind that another certificate is known.
        for author in authors.iter().filter(|author| !lists.name_any(author.lineage())) {
            principals.remove(author.key());
        }
    }
    if principals.is_empty() {
        return;
    }
    for holder in &principals {
        tracing::warn!(%holder, "has no certificate left: what it left behind is taken");
    }
    let condemned = Condemned { principals, ..Condemned::default() };
    let purged = broker.hub().purge(&condemned, &broker.consequences.load(), broker.clock.now());
    tracing::info!(
        holders = condemned.principals.len(),
        sessions = purged.sessions,
        retained = purged.retained,
        "taken from those who are revoked and not connected"
    );
}

/// One of each certificate.
fn distinct(mut authors: Vec<Principal>) -> Vec<Principal> {
    let mut seen: HashSet<CertificateId, RandomState> = HashSet::default();
    authors.retain(|author| seen.insert(*author.certificate()));
    authors
}
