//! The registry in memory.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use equivalent::{Comparable, Equivalent};
use imbl::{HashMap, OrdMap, OrdSet};
use signet_identity::{CertificateId, PrincipalKey, Role, TemplateName, ThingName};

use crate::certificate::{Certificate, Facts, Status, StatusKind};
use crate::event::Event;
use crate::provisioning::{Claim, Template, Token};
use crate::standing::{Active, Rights, Standing, Suspended};
use crate::thing::{Groups, Held, Thing};
use crate::{Approval, Ca, CaId, KeyHash, RequestId, RevocationReason, SerialNumber, TokenHash, Wall};

/// The most certificates that a holder may have in force at one time: the old and the new one of a rotation.
pub const ACTIVE_MAX: usize = 2;

/// The most certificates that wait for one device to register itself again: a device asks for one at a time, and begins again
/// when an answer got lost. Beyond that the oldest is deleted.
pub const PENDING_PER_DEVICE_MAX: usize = 4;

/// The bounds of the registry's tables. They bound what is decided from now on, not what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most things.
    pub things_max: usize,
    /// The most certificates in any state.
    pub certificates_max: usize,
    /// The most certificates of one holder, in any state.
    pub certificates_per_holder_max: usize,
    /// The most pending certificates of enrolments.
    pub pending_max: usize,
    /// The most pending certificates that one claim has asked for.
    pub pending_per_claim_max: u32,
    /// The most certificates of one outside authority that wait for somebody to activate them. They are not among
    /// `pending_max`, so no authority holds up those who enrol.
    pub waiting_per_ca_max: u32,
    /// The most serial numbers that are revoked without their certificate being known.
    pub revoked_serials_max: usize,
    /// The most authorities.
    pub cas_max: usize,
    /// The most claims.
    pub claims_max: usize,
    /// The most device serial numbers in one claim's list.
    pub serials_per_claim_max: usize,
    /// The most templates.
    pub templates_max: usize,
    /// The most one-time tokens, used or not.
    pub tokens_max: usize,
    /// The most requests that wait for an operator's approval, or for their device after it.
    pub approvals_max: usize,
    /// How far the clock may be behind the last event before nothing is issued any more.
    pub clock_behind_max: Duration,
    /// How long after its end a certificate keeps its place and can still ask for its successor. Whether it may connect for that
    /// is the verifier's.
    pub expired_grace: Duration,
    /// How long after a thing was registered by a claim it can be registered again by that claim, when its certificate never
    /// connected: the answer got lost. Before that, whoever was first has won.
    pub start_over_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            things_max: 2_000_000,
            certificates_max: 4_000_000,
            certificates_per_holder_max: 64,
            pending_max: 100_000,
            pending_per_claim_max: 10_000,
            waiting_per_ca_max: 10_000,
            revoked_serials_max: 1_000_000,
            cas_max: 256,
            claims_max: 10_000,
            serials_per_claim_max: 1_000_000,
            templates_max: 1_000,
            tokens_max: 1_000_000,
            approvals_max: 1_024,
            clock_behind_max: Duration::from_secs(60),
            expired_grace: Duration::ZERO,
            start_over_after: Duration::from_secs(3),
        }
    }
}

/// Every thing, certificate, authority, claim, token and template, in persistent maps.
///
/// Cloning it copies a few dozen pointers whatever its size, and a change copies the few nodes on its path. So the
/// daemon's one writer keeps a working copy: it decides a batch of commands against it, applies their events, stores
/// them in one transaction, and then publishes a clone as the snapshot that connections read without a lock; if the
/// transaction fails, it goes back to the clone from before. Sharded maps with interior locks would be somewhat faster
/// to read, but give neither that way back nor a consistent view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    pub(crate) limits: Limits,
    pub(crate) things: OrdMap<ThingName, Arc<Thing>>,
    pub(crate) certificates: HashMap<CertificateId, Arc<Certificate>>,
    pub(crate) by_serial: OrdSet<BySerial>,
    pub(crate) by_key: OrdSet<ByKey>,
    pub(crate) operators: OrdMap<ThingName, Held>,
    pub(crate) cas: OrdMap<KeyHash, Arc<Ca>>,
    pub(crate) ca_keys: OrdMap<CaId, KeyHash>,
    pub(crate) revoked_serials: OrdMap<(KeyHash, SerialNumber), (Wall, RevocationReason)>,
    /// Deadlines of pending certificates that have one.
    pub(crate) deadlines: OrdSet<(Wall, CertificateId)>,
    pub(crate) ownership: OrdMap<TokenHash, CertificateId>,
    /// Pending certificates that devices have asked for, of each device in the order of their deadlines.
    pub(crate) pending_of_devices: OrdSet<(ThingName, Wall, CertificateId)>,
    /// How many certificates of an issuer's key wait for somebody to activate them; none is no entry.
    pub(crate) waiting: OrdMap<KeyHash, u32>,
    /// When certificates that a rotation replaced are revoked.
    pub(crate) retiring: OrdSet<(Wall, CertificateId)>,
    pub(crate) claims: OrdMap<ThingName, Arc<Claim>>,
    pub(crate) tokens: OrdMap<TokenHash, Arc<Token>>,
    pub(crate) token_deadlines: OrdSet<(Wall, TokenHash)>,
    /// The things that tokens are for.
    pub(crate) tokens_of: OrdSet<(ThingName, TokenHash)>,
    pub(crate) approvals: OrdMap<RequestId, Arc<Approval>>,
    pub(crate) templates: OrdMap<TemplateName, Arc<Template>>,
    pub(crate) counts: Counts,
    pub(crate) last: Wall,
    pub(crate) events: u64,
}

/// How many certificates are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `PENDING_ACTIVATION`.
    pub pending: usize,
    /// `ACTIVE`.
    pub active: usize,
    /// `INACTIVE`.
    pub inactive: usize,
    /// `REVOKED`.
    pub revoked: usize,
}

impl Counts {
    pub(crate) const fn of(&mut self, kind: StatusKind) -> &mut usize {
        match kind {
            StatusKind::PendingActivation => &mut self.pending,
            StatusKind::Active => &mut self.active,
            StatusKind::Inactive => &mut self.inactive,
            StatusKind::Revoked => &mut self.revoked,
        }
    }
}

/// Facts in the order of issuer and serial number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BySerial(pub(crate) Arc<Facts>);

/// Facts in the order of public key and certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByKey(pub(crate) Arc<Facts>);

/// A place in the order of [`BySerial`].
pub(crate) struct SerialPlace<'a>(pub(crate) &'a KeyHash, pub(crate) &'a SerialNumber);

/// A place in the order of [`ByKey`].
pub(crate) struct KeyPlace<'a>(pub(crate) &'a KeyHash, pub(crate) CertificateId);

impl Ord for BySerial {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.0.issuer, &self.0.serial).cmp(&(&other.0.issuer, &other.0.serial))
    }
}

impl PartialOrd for BySerial {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.0.public_key, &self.0.id).cmp(&(&other.0.public_key, &other.0.id))
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Equivalent<BySerial> for SerialPlace<'_> {
    fn equivalent(&self, key: &BySerial) -> bool {
        self.compare(key) == Ordering::Equal
    }
}

impl Comparable<BySerial> for SerialPlace<'_> {
    fn compare(&self, key: &BySerial) -> Ordering {
        (self.0, self.1).cmp(&(&key.0.issuer, &key.0.serial))
    }
}

impl Equivalent<ByKey> for KeyPlace<'_> {
    fn equivalent(&self, key: &ByKey) -> bool {
        self.compare(key) == Ordering::Equal
    }
}

impl Comparable<ByKey> for KeyPlace<'_> {
    fn compare(&self, key: &ByKey) -> Ordering {
        (self.0, &self.1).cmp(&(&key.0.public_key, &key.0.id))
    }
}

impl Registry {
    /// An empty registry with these bounds.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The registry that `events` made, in their order.
    #[must_use]
    pub fn replay<'a>(limits: Limits, events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut registry = Self::new(limits);
        for event in events {
            registry.apply(event);
        }
        registry
    }

    /// The bounds.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sets the bounds for what is decided from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The latest moment of any event that was applied.
    #[must_use]
    pub const fn last_event_at(&self) -> Wall {
        self.last
    }

    /// How many events were applied.
    #[must_use]
    pub const fn events_applied(&self) -> u64 {
        self.events
    }

    /// How many certificates are in each state.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The thing `name`.
    #[must_use]
    pub fn thing(&self, name: &str) -> Option<&Arc<Thing>> {
        self.things.get(name)
    }

    /// Things in the order of their names, those after `after` only.
    pub fn things(&self, after: Option<&ThingName>) -> impl Iterator<Item = &Arc<Thing>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.things.range::<_, ThingName>((from, Unbounded)).map(|(_, thing)| thing)
    }

    /// How many things there are.
    #[must_use]
    pub fn things_count(&self) -> usize {
        self.things.len()
    }

    /// The certificate `id`.
    #[must_use]
    pub fn certificate(&self, id: &CertificateId) -> Option<&Arc<Certificate>> {
        self.certificates.get(id)
    }

    /// Every certificate, in no order.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.values()
    }

    /// The certificate that the key `issuer` signed under the number `serial`.
    #[must_use]
    pub fn certificate_by_serial(
        &self,
        issuer: &KeyHash,
        serial: &SerialNumber,
    ) -> Option<&Arc<Certificate>> {
        self.certificate(&self.by_serial.get(&SerialPlace(issuer, serial))?.0.id)
    }

    /// The certificates that the key `issuer` signed, in the order of their numbers.
    pub fn certificates_of_issuer<'a>(
        &'a self,
        issuer: &KeyHash,
    ) -> impl Iterator<Item = &'a Arc<Certificate>> + use<'a> {
        let issuer = *issuer;
        self.by_serial
            .range(SerialPlace(&issuer, &SerialNumber::ZERO)..)
            .take_while(move |entry| entry.0.issuer == issuer)
            .filter_map(|entry| self.certificate(&entry.0.id))
    }

    /// The certificates with the public key `key`.
    pub fn certificates_of_key<'a>(
        &'a self,
        key: &KeyHash,
    ) -> impl Iterator<Item = &'a Arc<Certificate>> + use<'a> {
        let key = *key;
        self.by_key
            .range(KeyPlace(&key, CertificateId::from_bytes([0; 32]))..)
            .take_while(move |entry| entry.0.public_key == key)
            .filter_map(|entry| self.certificate(&entry.0.id))
    }

    /// The certificates of a thing, claim or operator, in any state, in the order in which they became its.
    #[must_use]
    pub fn certificates_of_holder(&self, holder: &PrincipalKey) -> &[CertificateId] {
        match holder.role {
            Role::Device => self.things.get(&holder.name).map(|thing| thing.certificates()),
            Role::Claim => self.claims.get(&holder.name).map(|claim| claim.certificates()),
            Role::Operator => self.operators.get(&holder.name).map(|held| &**held),
        }
        .unwrap_or(&[])
    }

    /// What a revocation list of the key `issuer` names: number, date and reason, certificates past their validity
    /// period left out (RFC 5280 section 3.3).
    pub fn revocations<'a>(
        &'a self,
        issuer: &KeyHash,
        now: Wall,
    ) -> impl Iterator<Item = (SerialNumber, Wall, RevocationReason)> + use<'a> {
        let issuer = *issuer;
        let known =
            self.certificates_of_issuer(&issuer).filter_map(move |certificate| match certificate.status {
                Status::Revoked { since, reason } if certificate.facts.not_after >= now.unix_secs() => {
                    Some((certificate.facts.serial, since, reason))
                }
                _ => None,
            });
        let unknown = self
            .revoked_serials
            .range((issuer, SerialNumber::ZERO)..)
            .take_while(move |((of, _), _)| *of == issuer)
            .map(|((_, serial), (since, reason))| (*serial, *since, *reason));
        known.chain(unknown)
    }

    /// Since when and why the number `serial` of `issuer` is revoked without its certificate being known.
    #[must_use]
    pub fn serial_revoked(
        &self,
        issuer: &KeyHash,
        serial: &SerialNumber,
    ) -> Option<(Wall, RevocationReason)> {
        self.revoked_serials.get(&(*issuer, *serial)).copied()
    }

    /// The authority `id`.
    #[must_use]
    pub fn ca(&self, id: &CaId) -> Option<&Arc<Ca>> {
        self.ca_by_key(self.ca_keys.get(id)?)
    }

    /// The authority with the key `key`.
    #[must_use]
    pub fn ca_by_key(&self, key: &KeyHash) -> Option<&Arc<Ca>> {
        self.cas.get(key)
    }

    /// Every authority.
    pub fn cas(&self) -> impl Iterator<Item = &Arc<Ca>> {
        self.cas.values()
    }

    /// The claim `name`.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Arc<Claim>> {
        self.claims.get(name)
    }

    /// Every claim, in the order of their names.
    pub fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        self.claims.values()
    }

    /// Every operator with a certificate, in any state, and the ids of these, in the order of their names.
    pub fn operators(&self) -> impl Iterator<Item = (&ThingName, &[CertificateId])> {
        self.operators.iter().map(|(name, held)| (name, &**held))
    }

    /// The one-time token with the hash `token`.
    #[must_use]
    pub fn token(&self, token: &TokenHash) -> Option<&Arc<Token>> {
        self.tokens.get(token)
    }

    /// Every one-time token, in the order in which they expire.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.token_deadlines.iter().filter_map(|(_, token)| self.tokens.get(token))
    }

    /// Whether there is a one-time token, used or not, for the thing `name`.
    #[must_use]
    pub fn has_token(&self, name: &ThingName) -> bool {
        let from = (name.clone(), TokenHash::from_bytes([0; 32]));
        self.tokens_of.range(from..).next().is_some_and(|(of, _)| of == name)
    }

    /// Whether there is a one-time token for the thing `name` that can be used at `now`.
    #[must_use]
    pub fn awaits(&self, name: &ThingName, now: Wall) -> bool {
        let from = (name.clone(), TokenHash::from_bytes([0; 32]));
        self.tokens_of
            .range(from..)
            .take_while(|(of, _)| of == name)
            .filter_map(|(_, token)| self.tokens.get(token))
            .any(|token| token.usable(now))
    }

    /// How many certificates of the key `issuer` wait for somebody to activate them.
    #[must_use]
    pub fn waiting_of(&self, issuer: &KeyHash) -> u32 {
        self.waiting.get(issuer).copied().unwrap_or(0)
    }

    /// The template `name`.
    #[must_use]
    pub fn template(&self, name: &str) -> Option<&Arc<Template>> {
        self.templates.get(name)
    }

    /// Every template, in the order of their names.
    pub fn templates(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.templates.values()
    }

    /// The pending certificate that the ownership token `token` is for, whoever shows it and whether or not it is over.
    #[must_use]
    pub fn enrolment(&self, token: &TokenHash) -> Option<&Arc<Certificate>> {
        self.certificate(self.ownership.get(token)?)
    }

    /// The pending certificates that the device `name` has asked for, the oldest first.
    pub(crate) fn pending_of<'a>(
        &'a self,
        name: &ThingName,
    ) -> impl Iterator<Item = &'a Arc<Certificate>> + use<'a> {
        let name = name.clone();
        self.pending_of_devices
            .range((name.clone(), Wall(0), CertificateId::from_bytes([0; 32]))..)
            .take_while(move |(device, ..)| *device == name)
            .filter_map(|(.., id)| self.certificate(id))
    }

    /// When [`ExpirePending`](crate::Command::ExpirePending), [`RetireSuperseded`](crate::Command::RetireSuperseded)
    /// or [`ExpireTokens`](crate::Command::ExpireTokens) has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Wall> {
        let pending = self.deadlines.get_min().map(|(at, _)| *at);
        let retiring = self.retiring.get_min().map(|(at, _)| *at);
        let token = self.token_deadlines.get_min().map(|(at, _)| *at);
        [pending, retiring, token].into_iter().flatten().min()
    }

    /// Whether the certificate is in force and not past its validity period and the grace after it.
    pub(crate) fn in_force(&self, certificate: &Certificate, now: Wall) -> bool {
        let last = Wall::from_unix_secs(certificate.facts.not_after).after(self.limits.expired_grace);
        certificate.status == Status::Active && now.unix_secs() <= last.unix_secs()
    }

    /// The certificates of `holder` that are in force at `now`.
    pub(crate) fn active_of(
        &self,
        holder: &PrincipalKey,
        now: Wall,
    ) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates_of_holder(holder)
            .iter()
            .filter_map(|id| self.certificate(id))
            .filter(move |certificate| self.in_force(certificate, now))
    }

    /// What an active certificate of `holder` lets its owner be.
    pub(crate) fn acts_as(&self, holder: &PrincipalKey, certificate: &Certificate, now: Wall) -> Standing {
        let rights = match holder.role {
            Role::Operator => Rights::Operator,
            Role::Device => Rights::Device(self.groups_of(&holder.name)),
            Role::Claim => match self.claims.get(&holder.name) {
                Some(claim) if claim.is_open(now) => Rights::Claim(Arc::clone(&claim.spec)),
                _ => return Standing::Inactive(Suspended::Claim),
            },
        };
        let replaces_another = self.certificates_of_holder(holder).iter().any(|other| {
            let successor = self.certificate(other).and_then(|other| other.successor.as_deref());
            successor.is_some_and(|s| s.by == *certificate.id() && s.retire_at.is_none())
        });
        let not_after = certificate.facts.not_after;
        let quarantined = holder.role == Role::Device
            && self.thing(&holder.name).is_some_and(|thing| thing.quarantine.is_some());
        Standing::Active(Active { holder: holder.clone(), rights, replaces_another, not_after, quarantined })
    }

    fn groups_of(&self, thing: &ThingName) -> Groups {
        self.things.get(thing).map(|thing| thing.spec.groups.clone()).unwrap_or_default()
    }
}
