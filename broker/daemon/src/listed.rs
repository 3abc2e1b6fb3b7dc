//! What a revocation list of an outside authority takes from those who are not connected.
//!
//! A list gives serial numbers. Whose they are is known in two ways: sessions and retained messages remember what lists name
//! the certificate of their author by ([`Lineage`]), and the registry knows the certificates of a holder.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use foldhash::quality::RandomState;
use rustls_pki_types::UnixTime;
use signet_core::Condemned;
use signet_identity::{CertificateId, Issued, Lineage, Principal, PrincipalKey};
use signet_registry::{Certificate, Standing, Wall};

use crate::portions::Portions;
use crate::reload;
use crate::server::Broker;
use crate::tls::Trust;

type Keys = HashSet<PrincipalKey, RandomState>;

/// The revocation lists in force at any address. For what somebody has left behind a list counts wherever it is configured:
/// it is the word of the authority, and nobody knows at which address its bearer would come back.
///
/// A list names certificates, and an authority may have several of one key: when it is renewed, the old one is listed. Its
/// devices lose what they left when none of its certificates that are known is good.
pub(crate) struct Listed {
    trusts: Vec<Arc<Trust>>,
    now: UnixTime,
    /// The keys of authorities of which a certificate, or one above it, is named, as far as paths are known that go through
    /// them,
    named: HashSet<[u8; 32], RandomState>,
    /// and those of which one is not.
    good: HashSet<[u8; 32], RandomState>,
    /// The keys of trust anchors that are not named, once somebody asks.
    anchors: OnceCell<HashSet<[u8; 32], RandomState>>,
}

impl Listed {
    /// The lists in force now.
    pub(crate) fn in_force(broker: &Broker) -> Self {
        let trusts: Vec<_> = reload::in_force(broker).map(|tls| tls.trust()).collect();
        // Without lists nothing is asked.
        let any = trusts.iter().any(|trust| trust.crls().next().is_some());
        let trusts = if any { trusts } else { Vec::new() };
        let (named, good, anchors) = Default::default();
        Self { trusts, now: broker.judging_time(), named, good, anchors }
    }

    /// Learns from a path which authorities are named. The registry knows of a certificate by which key it was signed, and not
    /// what is above that.
    pub(crate) fn learn(&mut self, lineage: &Lineage) {
        if self.is_empty() {
            return;
        }
        let below: Vec<Issued<'_>> = lineage.iter().collect();
        let mut bad = false;
        for (below, authority) in below.iter().zip(below.iter().skip(1)).rev() {
            bad |= self.name(*authority);
            let known = if bad { &mut self.named } else { &mut self.good };
            known.insert(*below.issuer);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.trusts.is_empty()
    }

    /// Whether an authority of this key is trusted, or has a certificate that is not named.
    fn is_good(&self, key: &[u8; 32]) -> bool {
        let anchors = self.anchors.get_or_init(|| {
            self.trusts.iter().flat_map(|trust| trust.good_anchors(&self.trusts, self.now)).collect()
        });
        self.good.contains(key) || anchors.contains(key)
    }

    fn name(&self, issued: Issued<'_>) -> bool {
        let lists = |trust: &Arc<Trust>| trust.lists(issued);
        let revoked = |trust: &Arc<Trust>| trust.has_revoked_anchor(issued.issuer);
        let authority = self.named.contains(issued.issuer) || self.trusts.iter().any(revoked);
        self.trusts.iter().any(lists) || (authority && !self.is_good(issued.issuer))
    }

    /// Whether a list names a certificate, or an authority above it that has no other.
    pub(crate) fn name_any(&self, lineage: &Lineage) -> bool {
        let mut key = None;
        for issued in lineage.iter() {
            if key.is_some_and(|key| self.is_good(key)) {
                return false;
            }
            if self.name(issued) {
                return true;
            }
            key = Some(issued.issuer);
        }
        false
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

/// The same when what an earlier process kept has been brought back, with those whom `is_gone` says are revoked.
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
    let mut portions = Portions::begin();
    for author in &authors {
        lists.learn(author.lineage());
        portions.pause();
    }
    let lists = &lists;
    let registered = |author: &Principal| {
        let Some(known) = &known else { return false };
        let held = known.certificates_of_holder(author.key()).iter();
        held.filter_map(|id| known.certificate(id)).any(|held| lists.name_registered(held))
    };
    let gone = |author: &Principal| lists.name_any(author.lineage()) || registered(author) || is_gone(author);
    let mut principals = Keys::default();
    for author in &authors {
        if gone(author) {
            principals.insert(author.key().clone());
        }
        portions.pause();
    }
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
