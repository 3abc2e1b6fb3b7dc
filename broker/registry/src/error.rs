//! Why a command is refused.

use signet_identity::{CertificateId, PrincipalKey, TemplateName, ThingName};

use crate::{CaId, NamePattern, RequestId, SerialNumber, StatusKind, Wall};

/// Why [`Registry::decide`](crate::Registry::decide) refused a command; nothing has changed then.
///
/// It displays what is wrong and, where there is something to do, what to do, for the operator. A device is told
/// less: [`fault`](Self::fault) says whose fault it is, from which the surface makes its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There is no such thing.
    #[error("there is no thing {0}: add it first")]
    NoThing(ThingName),
    /// The thing exists.
    #[error("the thing {0} exists")]
    ThingExists(ThingName),
    /// The thing was provisioned before, and the peer has not shown that it is that thing.
    #[error("the thing {0} was provisioned before: approve it to let it be provisioned again")]
    AlreadyProvisioned(ThingName),
    /// A one-time token waits for a device of this name, so no other certificate gets the name by itself.
    #[error("a one-time token waits for the device {0}: delete the token, or add the thing and approve it")]
    Awaited(ThingName),
    /// A certificate of the thing was revoked, so only an operator gives it another.
    #[error("a certificate of {0} was revoked: approve the thing, or issue the certificate as an operator")]
    Barred(ThingName),
    /// The thing is at another version than the one that was to be replaced.
    #[error("the thing {thing} is at version {found}, not {expected}: read it again and decide anew")]
    VersionConflict {
        /// The thing.
        thing: ThingName,
        /// The version that the command names.
        expected: u64,
        /// The version that the thing has.
        found: u64,
    },
    /// An attribute's name or value is outside of its grammar.
    #[error("the attribute {name:?} has a name or a value that is not allowed")]
    Attribute {
        /// The attribute's name.
        name: String,
    },

    /// There is no such certificate.
    #[error("there is no certificate {0} in the registry")]
    NoCertificate(CertificateId),
    /// Nothing is selected.
    #[error("no certificate is selected")]
    NothingSelected,
    /// The number alone selects certificates of several issuers.
    #[error("several issuers have given the serial number {0}: name the issuer too")]
    AmbiguousSerial(SerialNumber),
    /// The certificate is registered.
    #[error("the certificate {0} is registered already")]
    CertificateExists(CertificateId),
    /// Another certificate of the same issuer has the same number.
    #[error("the issuer has given the serial number {serial} to the certificate {other} before")]
    SerialExists {
        /// The number.
        serial: SerialNumber,
        /// The certificate that has it.
        other: CertificateId,
    },
    /// The number was revoked before the certificate became known.
    #[error("the serial number {0} is revoked")]
    SerialRevoked(SerialNumber),
    /// The state does not allow the move.
    #[error("the certificate {certificate} is {from} and cannot become {to}")]
    IllegalMove {
        /// The certificate.
        certificate: CertificateId,
        /// Its state.
        from: StatusKind,
        /// The state that was asked for.
        to: StatusKind,
    },
    /// Every selected certificate is in that state already.
    #[error("nothing to do: what is selected is {0} already")]
    AlreadySo(StatusKind),
    /// The certificate is nobody's, so it cannot come into force.
    #[error("the certificate {0} belongs to nobody: bind it to a thing first")]
    Unbound(CertificateId),
    /// The certificate has a holder.
    #[error("the certificate {certificate} belongs to {} {}", holder.role, holder.name)]
    Bound {
        /// The certificate.
        certificate: CertificateId,
        /// Whose it is.
        holder: PrincipalKey,
    },
    /// The holder has two certificates in force.
    #[error("{} {} has {max} active certificates: suspend or revoke one of them first", holder.role, holder.name)]
    TooManyActive {
        /// The holder.
        holder: PrincipalKey,
        /// The bound.
        max: usize,
    },
    /// The certificate's validity period is over.
    #[error("the certificate {0} is expired")]
    Expired(CertificateId),
    /// The key belongs to somebody else.
    #[error("the public key is that of the certificate {other}, which is another's: make a new key")]
    KeyInUse {
        /// A certificate with that key.
        other: CertificateId,
    },
    /// The key was in a certificate that was revoked.
    #[error("the public key is that of the certificate {other}, which was revoked: make a new key")]
    KeyRevoked {
        /// The revoked certificate.
        other: CertificateId,
    },
    /// The key is that of an authority.
    #[error("the public key is that of the authority {0}")]
    KeyOfCa(CaId),
    /// The certificate is still needed.
    #[error("the certificate {0} can be deleted only when it is nobody's, or revoked and expired")]
    CertificateInUse(CertificateId),

    /// The issuer is not registered.
    #[error("the issuer of the certificate is no registered authority: import it first")]
    NoIssuer,
    /// There is no such authority.
    #[error("there is no authority {0}")]
    NoCa(CaId),
    /// The authority, or one with the same key, is registered.
    #[error("the authority {0} has that certificate or that key")]
    CaExists(CaId),
    /// The authority is revoked.
    #[error("the authority {0} is revoked, which is final")]
    CaRevoked(CaId),
    /// The authority is not trusted for connections, or registers nothing.
    #[error("the authority {0} is suspended: activate it first")]
    CaSuspended(CaId),
    /// The authority is not ours, or is.
    #[error(
        "the authority {0} is of the wrong kind: only an own one issues here, only an outside one is registered from"
    )]
    CaKind(CaId),
    /// The authority may not give that name or role.
    #[error("the authority {ca} may not name {} {}: widen its names", holder.role, holder.name)]
    NameNotAllowed {
        /// The authority.
        ca: CaId,
        /// The holder.
        holder: PrincipalKey,
    },
    /// Two authorities could give one identity.
    #[error(
        "the authority {other} may give some of the names {pattern} too: narrow one of them, or say that they share names"
    )]
    NamesClash {
        /// The other authority.
        other: CaId,
        /// A pattern that overlaps with one of the other.
        pattern: NamePattern,
    },
    /// The authority's policy does not admit unknown certificates in that way.
    #[error("the authority {0} does not admit unknown certificates in this way")]
    NotAdmitted(CaId),
    /// Only devices of outside authorities can be admitted without being registered.
    #[error(
        "unknown certificates of the authority {0} cannot be admitted: only devices of outside authorities can"
    )]
    OnlyRegistered(CaId),
    /// The authority has brought in as many devices as it may, or has too many certificates waiting.
    #[error("the authority {ca} has reached its bound of {max} {what}")]
    CaSpent {
        /// The authority.
        ca: CaId,
        /// What is bounded.
        what: &'static str,
        /// The bound.
        max: u32,
    },
    /// Certificates, or claims, are left that need it.
    #[error("the authority {0} still has certificates in the registry: revoke it instead")]
    CaInUse(CaId),

    /// There is no such claim.
    #[error("there is no claim {0}")]
    NoClaim(ThingName),
    /// The claim exists.
    #[error("the claim {0} exists")]
    ClaimExists(ThingName),
    /// The claim is suspended, or its time is over.
    #[error("the claim {0} is suspended or over")]
    ClaimClosed(ThingName),
    /// The claim has brought in as many devices as it may, or has too many certificates pending.
    #[error("the claim {claim} has reached its bound of {max} {what}")]
    ClaimSpent {
        /// The claim.
        claim: ThingName,
        /// What is bounded.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// The template is not one of those of the claim or the authority, or is disabled, or of another kind.
    #[error("the template {0} is not to be used here")]
    TemplateNotAllowed(TemplateName),
    /// The device's serial number is not in the claim's list.
    #[error("the serial number of the device is not in the list of the claim {0}")]
    SerialNotListed(ThingName),
    /// A device's serial number in a list is empty, too long or has control characters.
    #[error("the serial number at place {position} is empty, longer than 128 bytes, or not plain text")]
    DeviceSerial {
        /// Its place in the list, counted from 1.
        position: usize,
    },
    /// The peer may not ask for a certificate.
    #[error("the certificate {0} may not ask for that")]
    AskerNotAllowed(CertificateId),
    /// The certificate was replaced: its successor has connected, and that one renews.
    #[error("the certificate {certificate} was replaced by {by}, which has connected: renew with that one")]
    Replaced {
        /// The old certificate.
        certificate: CertificateId,
        /// What took its place.
        by: CertificateId,
    },
    /// There is no such ownership token, or it is over, or is somebody else's. Which of these is not said.
    #[error("the ownership token is unknown, used, expired or another's")]
    OwnershipToken,
    /// There is no such one-time token, or it is used or expired.
    #[error("the one-time token is unknown, used or expired")]
    OneTimeToken,
    /// The one-time token exists.
    #[error("the one-time token exists")]
    TokenExists,
    /// There is no such request for approval, or nobody has asked for it for too long.
    #[error("there is no enrolment {0} that waits for approval")]
    NoApproval(RequestId),
    /// The device asked for another thing's certificate.
    #[error("a device renews its own certificate, not that of {0}")]
    NotOwnThing(ThingName),
    /// There is no such template.
    #[error("there is no template {0}")]
    NoTemplate(TemplateName),
    /// A claim or an authority needs the template.
    #[error("the template {0} is in use by a claim or an authority")]
    TemplateInUse(TemplateName),

    /// A table is full, or a value too large.
    #[error("too many {what}: at most {max}")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// A value that must not be empty is.
    #[error("at least one of {0} is needed")]
    Empty(&'static str),
    /// The clock is behind the last event, so validity periods and deadlines would be wrong.
    #[error("the clock shows {now}, but the last event was at {last}: set the clock, or accept it as it is")]
    ClockBehind {
        /// The clock.
        now: Wall,
        /// The last event.
        last: Wall,
    },
    /// A deadline lies in the past.
    #[error("the deadline {0} is over")]
    DeadlinePassed(Wall),
}

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// What was asked for is wrong in itself (HTTP 400).
    Request,
    /// The one who asked may not have it (HTTP 403).
    Denied,
    /// It does not exist (HTTP 404).
    NotFound,
    /// It does not go with what exists (HTTP 409).
    Conflict,
    /// A bound is reached (HTTP 429).
    Exhausted,
    /// The broker cannot do it now (HTTP 503).
    Unavailable,
}

impl RegistryError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Attribute { .. }
            | Self::Empty(_)
            | Self::NothingSelected
            | Self::AmbiguousSerial(_)
            | Self::OwnershipToken
            | Self::DeadlinePassed(_)
            | Self::CaKind(_)
            | Self::OnlyRegistered(_)
            | Self::DeviceSerial { .. }
            | Self::KeyOfCa(_) => Fault::Request,
            Self::Barred(_)
            | Self::NoIssuer
            | Self::CaSuspended(_)
            | Self::CaRevoked(_)
            | Self::NameNotAllowed { .. }
            | Self::NotAdmitted(_)
            | Self::ClaimClosed(_)
            | Self::TemplateNotAllowed(_)
            | Self::SerialNotListed(_)
            | Self::AskerNotAllowed(_)
            | Self::Replaced { .. }
            | Self::OneTimeToken
            | Self::NotOwnThing(_)
            | Self::SerialRevoked(_)
            | Self::Expired(_)
            | Self::KeyRevoked { .. }
            | Self::KeyInUse { .. } => Fault::Denied,
            Self::NoThing(_)
            | Self::NoCertificate(_)
            | Self::NoCa(_)
            | Self::NoClaim(_)
            | Self::NoApproval(_)
            | Self::NoTemplate(_) => Fault::NotFound,
            Self::ThingExists(_)
            | Self::AlreadyProvisioned(_)
            | Self::Awaited(_)
            | Self::VersionConflict { .. }
            | Self::CertificateExists(_)
            | Self::SerialExists { .. }
            | Self::IllegalMove { .. }
            | Self::AlreadySo(_)
            | Self::Unbound(_)
            | Self::Bound { .. }
            | Self::TooManyActive { .. }
            | Self::CertificateInUse(_)
            | Self::CaExists(_)
            | Self::NamesClash { .. }
            | Self::CaInUse(_)
            | Self::ClaimExists(_)
            | Self::TokenExists
            | Self::TemplateInUse(_) => Fault::Conflict,
            Self::ClaimSpent { .. } | Self::CaSpent { .. } | Self::Full { .. } => Fault::Exhausted,
            Self::ClockBehind { .. } => Fault::Unavailable,
        }
    }

    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::NoThing(_) => "no_thing",
            Self::ThingExists(_) => "thing_exists",
            Self::AlreadyProvisioned(_) => "already_provisioned",
            Self::Awaited(_) => "awaited",
            Self::Barred(_) => "barred",
            Self::VersionConflict { .. } => "version_conflict",
            Self::Attribute { .. } => "attribute",
            Self::NoCertificate(_) => "no_certificate",
            Self::NothingSelected => "nothing_selected",
            Self::AmbiguousSerial(_) => "ambiguous_serial",
            Self::CertificateExists(_) => "certificate_exists",
            Self::SerialExists { .. } => "serial_exists",
            Self::SerialRevoked(_) => "serial_revoked",
            Self::IllegalMove { .. } => "illegal_move",
            Self::AlreadySo(_) => "already_so",
            Self::Unbound(_) => "unbound",
            Self::Bound { .. } => "bound",
            Self::TooManyActive { .. } => "too_many_active",
            Self::Expired(_) => "expired",
            Self::KeyInUse { .. } => "key_in_use",
            Self::KeyRevoked { .. } => "key_revoked",
            Self::KeyOfCa(_) => "key_of_ca",
            Self::CertificateInUse(_) => "certificate_in_use",
            Self::NoIssuer => "no_issuer",
            Self::NoCa(_) => "no_ca",
            Self::CaExists(_) => "ca_exists",
            Self::CaRevoked(_) => "ca_revoked",
            Self::CaSuspended(_) => "ca_suspended",
            Self::CaKind(_) => "ca_kind",
            Self::NameNotAllowed { .. } => "name_not_allowed",
            Self::NamesClash { .. } => "names_clash",
            Self::NotAdmitted(_) => "not_admitted",
            Self::OnlyRegistered(_) => "only_registered",
            Self::DeviceSerial { .. } => "device_serial",
            Self::CaSpent { .. } => "ca_spent",
            Self::CaInUse(_) => "ca_in_use",
            Self::NoClaim(_) => "no_claim",
            Self::ClaimExists(_) => "claim_exists",
            Self::ClaimClosed(_) => "claim_closed",
            Self::ClaimSpent { .. } => "claim_spent",
            Self::TemplateNotAllowed(_) => "template_not_allowed",
            Self::SerialNotListed(_) => "serial_not_listed",
            Self::AskerNotAllowed(_) => "asker_not_allowed",
            Self::Replaced { .. } => "replaced",
            Self::OwnershipToken => "ownership_token",
            Self::OneTimeToken => "one_time_token",
            Self::TokenExists => "token_exists",
            Self::NoApproval(_) => "no_approval",
            Self::NotOwnThing(_) => "not_own_thing",
            Self::NoTemplate(_) => "no_template",
            Self::TemplateInUse(_) => "template_in_use",
            Self::Full { .. } => "full",
            Self::Empty(_) => "empty",
            Self::ClockBehind { .. } => "clock_behind",
            Self::DeadlinePassed(_) => "deadline_passed",
        }
    }
}
