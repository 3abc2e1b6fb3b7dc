//! What happened: the registry's state is the sum of its events, and each of them is a row of the audit trail.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signet_identity::{CertificateId, PrincipalKey, Role, TemplateName, ThingName};

use crate::{
    ApprovalRequest, Ca, CaId, CaSettings, ClaimSpec, Der, Facts, KeyHash, Line, RequestId, RevocationReason,
    SerialNumber, Source, Status, TemplateSpec, ThingSpec, TokenHash, TokenSpec, Wall,
};

/// The version of the encoding that [`Event::encode`] writes.
pub const EVENT_VERSION: u32 = 1;

/// Who caused an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// The broker itself: a deadline, a policy.
    Broker,
    /// Somebody at the administration socket, as the operating system tells it.
    Local(Line),
    /// The holder of a certificate.
    Principal {
        /// Its role.
        role: Role,
        /// Its name.
        name: ThingName,
        /// The certificate that it proved to hold.
        certificate: CertificateId,
    },
    /// The holder of a one-time token.
    Token(TokenHash),
    /// Somebody who has shown nothing yet, at this address.
    Unknown(Line),
}

impl Actor {
    /// Who acts, if it is the holder of a certificate.
    #[must_use]
    pub fn holder(&self) -> Option<PrincipalKey> {
        match self {
            Self::Principal { role, name, .. } => Some(PrincipalKey { role: *role, name: name.clone() }),
            Self::Broker | Self::Local(_) | Self::Token(_) | Self::Unknown(_) => None,
        }
    }
}

/// One change, who caused it, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When it was decided.
    pub at: Wall,
    /// Who caused it.
    pub actor: Actor,
    /// What changed.
    pub change: Change,
}

/// What an operator's note in the audit trail is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Anything that a person wants to have said.
    Remark,
    /// The access policy was loaded, changed or refused.
    Policy,
    /// The configuration was loaded again, or was refused.
    Reload,
    /// A revocation list was written, loaded or refused.
    Crl,
    /// A backup was made, or restored.
    Backup,
    /// A command of an operator that changes nothing in the registry.
    Command,
    /// A key of an authority was made, read or unlocked.
    Key,
    /// Something that somebody should look at, such as a certificate in two hands.
    Alarm,
}

/// What somebody tried and was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attempt {
    /// To get a certificate.
    Issue,
    /// To register a thing with an ownership token.
    RegisterThing,
    /// To connect with a certificate that was to be registered at once.
    Admit,
    /// To use a one-time token.
    Token,
    /// To renew a certificate.
    Renew,
    /// A command of an operator.
    Command,
}

/// Why a certificate was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletedBecause {
    /// It was pending, and its deadline passed, or its device has asked for newer ones.
    NeverActivated,
    /// It had been expired for long.
    LongExpired,
    /// An operator said so.
    Asked,
    /// It was replaced in a rotation, and its holder has too many; its number stays revoked.
    Replaced,
}

/// What brought a change of status about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It was asked for.
    Asked,
    /// A thing was registered with it.
    ThingRegistered,
    /// A newer certificate of the same holder came into force.
    Rotation,
    /// Its validity period was over and its place was needed.
    Expired,
    /// Its thing was deleted.
    ThingDeleted,
}

/// A change of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields have the names and types of the records that they set")]
pub enum Change {
    /// A thing was added.
    ThingAdded { thing: Box<ThingSpec> },
    /// A thing's type, attributes or groups were replaced.
    ThingChanged { thing: Box<ThingSpec>, version: u64 },
    /// A thing was deleted.
    ThingDeleted { thing: ThingName },
    /// An operator lets a thing be provisioned again, until then; or no longer.
    ThingApproved { thing: ThingName, until: Option<Wall> },
    /// A thing went into quarantine.
    ThingQuarantined { thing: ThingName, why: Line },
    /// A thing came out of quarantine.
    ThingReleased { thing: ThingName },
    /// A certificate came into the registry: issued here, or an outside one that became known.
    CertificateAdded {
        facts: Arc<Facts>,
        source: Source,
        status: Status,
        holder: Option<PrincipalKey>,
        /// The bytes of what this broker signed, unless they stand in an enrolment. They are not kept in memory.
        der: Option<Der>,
    },
    /// A certificate got its one holder.
    CertificateBound { certificate: CertificateId, holder: PrincipalKey },
    /// A certificate came into force.
    CertificateActivated { certificate: CertificateId, cause: Cause },
    /// A certificate was suspended.
    CertificateSuspended { certificate: CertificateId, cause: Cause },
    /// A certificate was revoked.
    CertificateRevoked { certificate: CertificateId, reason: RevocationReason, cause: Cause },
    /// A certificate's record was deleted.
    CertificateDeleted { certificate: CertificateId, holder: Option<PrincipalKey>, because: DeletedBecause },
    /// A certificate that the registry does not know was revoked by its number.
    SerialRevoked { issuer: KeyHash, serial: SerialNumber, reason: RevocationReason },
    /// A new certificate is to take the place of an old one.
    RotationStarted { old: CertificateId, new: CertificateId },
    /// The new certificate has connected; the old one is retired then.
    RotationCompleted { old: CertificateId, new: CertificateId, retire_at: Wall },
    /// The new certificate is not in force, so the old one is not retired.
    RotationAbandoned { old: CertificateId, new: CertificateId },
    /// An authority was registered.
    CaAdded { ca: Box<Ca> },
    /// What an authority may do changed.
    CaChanged { ca: CaId, settings: Box<CaSettings> },
    /// An authority was revoked as a whole.
    CaRevoked { ca: CaId, reason: RevocationReason },
    /// An authority brought a device in whose certificate was unknown.
    CaUsed { ca: CaId, thing: ThingName },
    /// An authority was removed.
    CaDeleted { ca: CaId },
    /// A claim was made. Its certificate is added by an event of its own.
    ClaimAdded { claim: Arc<ClaimSpec> },
    /// What a claim may do changed.
    ClaimChanged { claim: Arc<ClaimSpec> },
    /// A claim was suspended, or works again.
    ClaimSuspended { claim: ThingName, suspended: bool },
    /// Serial numbers were added to a claim's list.
    ClaimSerialsAdded { claim: ThingName, serials: Vec<Arc<str>> },
    /// A claim brought a device in.
    ClaimUsed { claim: ThingName, thing: ThingName },
    /// A one-time token was made.
    TokenAdded { token: Box<TokenSpec> },
    /// A one-time token was used.
    TokenUsed { token: TokenHash, certificate: CertificateId },
    /// A one-time token was withdrawn, or expired, or was used long ago.
    TokenDeleted { token: TokenHash },
    /// A template was added or replaced.
    TemplateSet { template: Box<TemplateSpec>, version: u64 },
    /// A template was deleted.
    TemplateDeleted { template: TemplateName },
    /// A device asks for a certificate that an operator has to approve, for the first time or again; forgotten then.
    ApprovalAsked { request: Box<ApprovalRequest>, until: Wall },
    /// An operator approved or rejected it; forgotten then.
    ApprovalDecided { request: RequestId, device: ThingName, approved: bool, until: Wall },
    /// It has its certificate, or nobody asks for it any more, or it made room for newer ones of its device.
    ApprovalEnded { request: RequestId, device: ThingName },
    /// An operator says that the clock is right although it was later before.
    ClockAccepted { was: Wall },
    /// Somebody was refused something.
    Refused {
        attempt: Attempt,
        why: Line,
        /// How many alike were not recorded since the last such event.
        unrecorded: u64,
    },
    /// A note.
    Noted { topic: Topic, text: Line },
}

/// Why a stored text is no event of ours.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is not of the form that an event has.
    #[error("the stored event cannot be read ({0}): the database is damaged, restore a backup")]
    Malformed(#[from] serde_json::Error),
    /// It was written by a newer version.
    #[error(
        "the stored event has version {0}, this program reads up to {EVENT_VERSION}: use the newer program"
    )]
    Newer(u32),
}

#[derive(Serialize)]
struct Stored<'a> {
    v: u32,
    #[serde(flatten)]
    event: &'a Event,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restored {
    v: u32,
    at: Wall,
    actor: Actor,
    change: Change,
}

impl Event {
    /// The text that is stored and hashed: one JSON object, with the version of the encoding.
    #[must_use]
    pub fn encode(&self) -> String {
        // Strings, numbers, lists and maps with string keys: there is nothing in an event that JSON cannot hold.
        serde_json::to_string(&Stored { v: EVENT_VERSION, event: self }).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for a damaged text and for one of a newer version.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        match serde_json::from_str::<Restored>(text) {
            Ok(Restored { v: EVENT_VERSION, at, actor, change }) => Ok(Self { at, actor, change }),
            Ok(Restored { v, .. }) => Err(DecodeError::Newer(v)),
            Err(malformed) => match serde_json::from_str::<Version>(text) {
                Ok(Version { v }) if v > EVENT_VERSION => Err(DecodeError::Newer(v)),
                _ => Err(malformed.into()),
            },
        }
    }

    /// The row that says that somebody was refused something. It changes nothing but the audit trail.
    ///
    /// The caller bounds how many such rows one peer can cause, and says in `unrecorded` how many it left out.
    #[must_use]
    pub fn refused(
        attempt: Attempt,
        why: &dyn std::fmt::Display,
        unrecorded: u64,
        actor: Actor,
        at: Wall,
    ) -> Self {
        Self { at, actor, change: Change::Refused { attempt, why: Line::new(&why.to_string()), unrecorded } }
    }
}

impl Change {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::ThingAdded { .. } => "thing_added",
            Self::ThingChanged { .. } => "thing_changed",
            Self::ThingDeleted { .. } => "thing_deleted",
            Self::ThingApproved { .. } => "thing_approved",
            Self::ThingQuarantined { .. } => "thing_quarantined",
            Self::ThingReleased { .. } => "thing_released",
            Self::CertificateAdded { .. } => "certificate_added",
            Self::CertificateBound { .. } => "certificate_bound",
            Self::CertificateActivated { .. } => "certificate_activated",
            Self::CertificateSuspended { .. } => "certificate_suspended",
            Self::CertificateRevoked { .. } => "certificate_revoked",
            Self::CertificateDeleted { .. } => "certificate_deleted",
            Self::SerialRevoked { .. } => "serial_revoked",
            Self::RotationStarted { .. } => "rotation_started",
            Self::RotationCompleted { .. } => "rotation_completed",
            Self::RotationAbandoned { .. } => "rotation_abandoned",
            Self::CaAdded { .. } => "ca_added",
            Self::CaChanged { .. } => "ca_changed",
            Self::CaRevoked { .. } => "ca_revoked",
            Self::CaUsed { .. } => "ca_used",
            Self::CaDeleted { .. } => "ca_deleted",
            Self::ClaimAdded { .. } => "claim_added",
            Self::ClaimChanged { .. } => "claim_changed",
            Self::ClaimSuspended { .. } => "claim_suspended",
            Self::ClaimSerialsAdded { .. } => "claim_serials_added",
            Self::ClaimUsed { .. } => "claim_used",
            Self::TokenAdded { .. } => "token_added",
            Self::TokenUsed { .. } => "token_used",
            Self::TokenDeleted { .. } => "token_deleted",
            Self::TemplateSet { .. } => "template_set",
            Self::TemplateDeleted { .. } => "template_deleted",
            Self::ApprovalAsked { .. } => "approval_asked",
            Self::ApprovalDecided { .. } => "approval_decided",
            Self::ApprovalEnded { .. } => "approval_ended",
            Self::ClockAccepted { .. } => "clock_accepted",
            Self::Refused { .. } => "refused",
            Self::Noted { .. } => "noted",
        }
    }
}
