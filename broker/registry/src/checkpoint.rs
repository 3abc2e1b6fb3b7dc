//! The state of the registry as records, so that a start need not read every event there ever was.
//!
//! The events remain the truth. A checkpoint is what they made up to some row of the audit trail; the store keeps the
//! head of that row beside it, and goes on from there. Replaying the events must give the same registry, which a
//! verification of the store can compare.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signet_identity::{CertificateId, ThingName};

use crate::approval::Approval;
use crate::authority::Ca;
use crate::certificate::{Certificate, Status, Succession};
use crate::event::{DecodeError, EVENT_VERSION};
use crate::provisioning::{Claim, SERIALS_AT_ONCE_MAX, Template, Token};
use crate::registry::{ByKey, BySerial, Limits, Registry};
use crate::thing::{Held, Thing};
use crate::{KeyHash, RevocationReason, SerialNumber, Wall};

/// One part of the state. Cloning it and making it from the registry copies pointers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields have the names and types of the tables that they come from")]
pub enum Record {
    /// How many events made this state, and the latest moment of any.
    Basis { events: u64, last: Wall },
    /// A thing and its certificates.
    Thing { thing: Arc<Thing>, certificates: Vec<CertificateId> },
    /// A claim and its certificates.
    Claim { claim: Arc<Claim>, certificates: Vec<CertificateId> },
    /// Some of the serial numbers in a claim's list. They follow their claim.
    ClaimSerials { claim: ThingName, serials: Vec<Arc<str>> },
    /// An operator's certificates.
    Operator { name: ThingName, certificates: Vec<CertificateId> },
    /// A certificate. It follows the claims, which count those that they wait for.
    Certificate { certificate: Arc<Certificate> },
    /// An authority.
    Ca { ca: Arc<Ca> },
    /// A number that was revoked without its certificate being known.
    RevokedSerial { issuer: KeyHash, serial: SerialNumber, since: Wall, reason: RevocationReason },
    /// A one-time token.
    Token { token: Arc<Token> },
    /// A template.
    Template { template: Arc<Template> },
    /// A request that waits for approval, or for its device after it.
    Approval { approval: Arc<Approval> },
}

#[derive(Serialize)]
struct Stored<'a> {
    v: u32,
    record: &'a Record,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restored {
    v: u32,
    record: Record,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Record {
    /// The text that is stored: one JSON object, with the version of the encoding, which is that of events.
    #[must_use]
    pub fn encode(&self) -> String {
        // Strings, numbers, lists and maps with string keys: there is nothing in a record that JSON cannot hold.
        serde_json::to_string(&Stored { v: EVENT_VERSION, record: self }).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for a damaged text and for one of a newer version. A checkpoint that cannot be read can be left
    /// out: the events make the same state.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        match serde_json::from_str::<Restored>(text) {
            Ok(Restored { v: EVENT_VERSION, record }) => Ok(record),
            Ok(Restored { v, .. }) => Err(DecodeError::Newer(v)),
            Err(malformed) => match serde_json::from_str::<Version>(text) {
                Ok(Version { v }) if v > EVENT_VERSION => Err(DecodeError::Newer(v)),
                _ => Err(malformed.into()),
            },
        }
    }
}

impl Registry {
    /// The state as records, in the order in which [`from_records`](Self::from_records) wants them. Taken from a clone, it
    /// can be written while the registry goes on.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let basis = Record::Basis { events: self.events, last: self.last };
        let templates =
            self.templates.values().map(|template| Record::Template { template: Arc::clone(template) });
        let cas = self.cas.values().map(|ca| Record::Ca { ca: Arc::clone(ca) });
        let things = self
            .things
            .values()
            .map(|thing| Record::Thing { thing: Arc::clone(thing), certificates: thing.held.to_vec() });
        let claims = self.claims.values().flat_map(|claim| {
            let record = Record::Claim { claim: Arc::clone(claim), certificates: claim.held.to_vec() };
            std::iter::once(record).chain(serials(claim))
        });
        let operators = self
            .operators
            .iter()
            .map(|(name, held)| Record::Operator { name: name.clone(), certificates: held.to_vec() });
        let certificates = self
            .certificates
            .values()
            .map(|certificate| Record::Certificate { certificate: Arc::clone(certificate) });
        let revoked = self.revoked_serials.iter().map(|((issuer, serial), (since, reason))| {
            Record::RevokedSerial { issuer: *issuer, serial: *serial, since: *since, reason: *reason }
        });
        let tokens = self.tokens.values().map(|token| Record::Token { token: Arc::clone(token) });
        let approvals =
            self.approvals.values().map(|approval| Record::Approval { approval: Arc::clone(approval) });
        std::iter::once(basis)
            .chain(templates)
            .chain(cas)
            .chain(things)
            .chain(claims)
            .chain(operators)
            .chain(certificates)
            .chain(revoked)
            .chain(tokens)
            .chain(approvals)
    }

    /// The registry that gave `records`.
    #[must_use]
    pub fn from_records(limits: Limits, records: impl IntoIterator<Item = Record>) -> Self {
        let mut registry = Self::new(limits);
        for record in records {
            registry.take_record(record);
        }
        registry
    }

    fn take_record(&mut self, record: Record) {
        match record {
            Record::Basis { events, last } => (self.events, self.last) = (events, last),
            Record::Thing { mut thing, certificates } => {
                let held: Held = certificates.into();
                Arc::make_mut(&mut thing).held = held;
                self.things.insert(thing.spec.name.clone(), thing);
            }
            Record::Claim { mut claim, certificates } => {
                let fresh = Arc::make_mut(&mut claim);
                (fresh.held, fresh.pending) = (certificates.into(), 0);
                fresh.serials.clear();
                self.claims.insert(claim.spec.name.clone(), claim);
            }
            Record::ClaimSerials { claim, serials } => {
                if let Some(known) = self.claims.get_mut(&claim) {
                    Arc::make_mut(known).serials.extend(serials);
                }
            }
            Record::Operator { name, certificates } => {
                self.operators.insert(name, certificates.into());
            }
            Record::Certificate { certificate } => self.take_certificate(certificate),
            Record::Ca { ca } => {
                self.ca_keys.insert(ca.id, ca.key);
                self.cas.insert(ca.key, ca);
            }
            Record::RevokedSerial { issuer, serial, since, reason } => {
                self.revoked_serials.insert((issuer, serial), (since, reason));
            }
            Record::Token { token } => self.take_token(token),
            Record::Approval { approval } => {
                self.approvals.insert(approval.request.id, approval);
            }
            Record::Template { template } => {
                self.templates.insert(template.spec.name.clone(), template);
            }
        }
    }

    fn take_certificate(&mut self, certificate: Arc<Certificate>) {
        let id = *certificate.id();
        *self.counts.of(certificate.status.kind()) += 1;
        self.by_serial.insert(BySerial(Arc::clone(&certificate.facts)));
        self.by_key.insert(ByKey(Arc::clone(&certificate.facts)));
        if let Some(Succession { retire_at: Some(at), .. }) = certificate.successor.as_deref() {
            self.retiring.insert((*at, id));
        }
        if let Status::Pending(pending) = &certificate.status {
            self.await_activation(&certificate.facts, pending);
        }
        self.certificates.insert(id, certificate);
    }
}

/// The serial numbers in the list of `claim`, in records of a bounded size.
fn serials(claim: &Arc<Claim>) -> impl Iterator<Item = Record> + use<> {
    let name = claim.spec.name.clone();
    let mut left = claim.serials.clone().into_iter().peekable();
    std::iter::from_fn(move || {
        left.peek()?;
        let serials = left.by_ref().take(SERIALS_AT_ONCE_MAX).collect();
        Some(Record::ClaimSerials { claim: name.clone(), serials })
    })
}
