//! What events took away.

use std::collections::BTreeSet;

use signet_identity::{CertificateId, PrincipalKey};

use crate::certificate::Certificate;
use crate::event::{Change, Event};
use crate::{CaId, KeyHash, Registry, Source, Standing, Status, Wall};

/// A certificate that could connect before and no longer can, or was suspended and is now gone for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The certificate.
    pub certificate: CertificateId,
    /// Whose it is.
    pub holder: PrincipalKey,
    /// Where it stands now: the reason. [`Standing::Unknown`] when it was deleted.
    pub standing: Standing,
    /// Whether another certificate of the same holder can still connect. Then only the connections of this one end;
    /// otherwise the holder's sessions, queues, wills and retained messages are concerned too.
    pub holder_remains: bool,
}

/// What follows from events for those who keep connections, sessions and revocation lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// The certificates that lost their standing, in the order of their ids.
    pub lost: Vec<Lost>,
    /// Who may have other rights than before and keeps its standing: a thing or a claim's bounds changed.
    pub rejudge: BTreeSet<PrincipalKey>,
    /// The keys of this broker whose revocation lists are out of date.
    pub lists: BTreeSet<KeyHash>,
    /// Whether the set of authorities that may be connected from changed: what was cached of trust is void.
    pub trust_changed: bool,
    /// Certificates whose record is gone, for [`SeenBook::forget`](crate::SeenBook::forget).
    pub deleted: Vec<CertificateId>,
    /// Outside certificates that wait for somebody to activate them, to be announced, with their authority.
    pub waiting: Vec<(CaId, CertificateId)>,
}

impl Registry {
    /// What `events` took away, where `before` is the registry before they were applied and `self` after.
    ///
    /// Its cost grows with the number of certificates that the events are about: for a change of an authority, all of
    /// that authority's.
    #[must_use]
    pub fn effects(&self, before: &Self, events: &[Event], now: Wall) -> Effects {
        let mut effects = Effects::default();
        let mut touched = BTreeSet::new();
        for event in events {
            self.gather(before, &event.change, &mut touched, &mut effects);
        }
        for id in touched {
            let Some(old) = before.certificate(&id) else { continue };
            let Some(holder) = &old.holder else { continue };
            let stood = before.standing_of(old, now);
            let standing = self.certificate(&id).map_or(Standing::Unknown, |new| self.standing_of(new, now));
            // A suspended certificate keeps its holder's sessions for its return; revoked or deleted, it will not return.
            let ended = matches!(standing, Standing::Revoked { .. } | Standing::Unknown);
            let lost = match stood {
                Standing::Active(_) => !matches!(standing, Standing::Active(_)),
                Standing::Inactive(_) => ended,
                _ => false,
            };
            if !lost {
                continue;
            }
            let holder_remains = self.stands(holder, now);
            effects.lost.push(Lost { certificate: id, holder: holder.clone(), standing, holder_remains });
        }
        effects
    }

    /// Whether some certificate of `holder` may connect at `now`.
    #[must_use]
    pub fn stands(&self, holder: &PrincipalKey, now: Wall) -> bool {
        self.active_of(holder, now)
            .any(|certificate| matches!(self.standing_of(certificate, now), Standing::Active(_)))
    }

    fn gather(
        &self,
        before: &Self,
        change: &Change,
        touched: &mut BTreeSet<CertificateId>,
        effects: &mut Effects,
    ) {
        match change {
            Change::CertificateAdded {
                facts,
                status: Status::Pending(pending),
                source: Source::Outside,
                ..
            } if pending.until.is_none() => {
                effects.waiting.extend(self.ca_by_key(&facts.issuer).map(|ca| (ca.id, facts.id)));
            }
            Change::CertificateActivated { certificate, .. }
            | Change::CertificateSuspended { certificate, .. } => {
                touched.insert(*certificate);
            }
            Change::CertificateRevoked { certificate, .. } => {
                touched.insert(*certificate);
                effects.lists.extend(self.certificate(certificate).and_then(|c| self.own_key(c)));
            }
            Change::CertificateDeleted { certificate, .. } => {
                touched.insert(*certificate);
                effects.deleted.push(*certificate);
            }
            Change::SerialRevoked { issuer, .. } => {
                let own = self.ca_by_key(issuer).is_some_and(|ca| ca.source == Source::Own);
                effects.lists.extend(own.then_some(*issuer));
            }
            Change::ThingChanged { thing, .. } => {
                effects
                    .rejudge
                    .insert(PrincipalKey { role: signet_identity::Role::Device, name: thing.name.clone() });
            }
            Change::ThingQuarantined { thing, .. } | Change::ThingReleased { thing } => {
                effects
                    .rejudge
                    .insert(PrincipalKey { role: signet_identity::Role::Device, name: thing.clone() });
            }
            Change::ClaimChanged { claim } => {
                self.gather_claim(&claim.name, touched);
                effects.rejudge.insert(claim_key(&claim.name));
            }
            Change::ClaimSuspended { claim, .. } => self.gather_claim(claim, touched),
            Change::CaAdded { .. } => effects.trust_changed = true,
            Change::CaChanged { ca, .. } | Change::CaRevoked { ca, .. } | Change::CaDeleted { ca } => {
                effects.trust_changed = true;
                if let Some(ca) = before.ca(ca) {
                    touched
                        .extend(before.certificates_of_issuer(&ca.key).map(|certificate| *certificate.id()));
                }
            }
            _ => {}
        }
    }

    fn gather_claim(&self, claim: &str, touched: &mut BTreeSet<CertificateId>) {
        touched.extend(self.claim(claim).into_iter().flat_map(|claim| claim.certificates()));
    }

    fn own_key(&self, certificate: &Certificate) -> Option<KeyHash> {
        (certificate.source == Source::Own).then_some(certificate.facts.issuer)
    }
}

fn claim_key(name: &signet_identity::ThingName) -> PrincipalKey {
    PrincipalKey { role: signet_identity::Role::Claim, name: name.clone() }
}
