//! What the registry can be asked to do.

use std::sync::Arc;

use signet_identity::{CertificateId, PrincipalKey, Role, TemplateName, ThingName};

use crate::event::Topic;
use crate::{
    ApprovalRequest, CaId, CaSettings, ClaimSpec, Groups, KeyHash, Line, NewCa, NewCertificate, RequestId,
    RevocationReason, SerialNumber, TemplateSpec, ThingSpec, TokenHash, TokenSpec, Wall,
};

/// Which certificates a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Those of one thing, claim or operator.
    Holder(PrincipalKey),
    /// One, by its id.
    Certificate(CertificateId),
    /// One, by its number; the issuer can be left out while the number is unique.
    Serial {
        /// The issuer's key.
        issuer: Option<KeyHash>,
        /// The number.
        serial: SerialNumber,
    },
    /// All that a key has signed and the registry knows. The authority itself stays as it is.
    Issuer(KeyHash),
    /// An authority as a whole, with every certificate of it, known or not.
    Ca(CaId),
}

impl Selector {
    /// The certificates of the thing `name`.
    #[must_use]
    pub const fn thing(name: ThingName) -> Self {
        Self::Holder(PrincipalKey { role: Role::Device, name })
    }
}

/// In which state a certificate enters the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter {
    /// In force.
    Active,
    /// Registered and suspended.
    Inactive,
}

/// What happens when a thing that is to be registered exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfExists {
    /// The registration is refused.
    Refuse,
    /// The thing stays as it is.
    Keep,
    /// Its type, attributes and groups are replaced by those given.
    Replace,
    /// Each part by its own rule.
    Adjust(Overrides),
}

/// What happens to each part of a thing that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrides {
    /// Its type is replaced; else it stays.
    pub replace_type: bool,
    /// Its attributes.
    pub attributes: Override,
    /// Its groups.
    pub groups: Override,
    /// Groups that it joins whatever `groups` says.
    pub join: Groups,
}

/// What happens to one part of a thing that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Override {
    /// It stays.
    Keep,
    /// It becomes what is given.
    Replace,
    /// What is given is added to it; where both have a value, the given one counts.
    Merge,
}

/// Something to decide. Time, and who asks, are given to [`Registry::decide`](crate::Registry::decide) beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Adds a thing.
    AddThing(ThingSpec),
    /// Replaces a thing's type, attributes and groups.
    UpdateThing {
        /// The new ones, and the thing's name.
        thing: ThingSpec,
        /// The version that is to be replaced; any when `None`.
        version: Option<u64>,
    },
    /// Deletes a thing, and revokes its certificates as out of service.
    DeleteThing(ThingName),
    /// Lets a thing be provisioned again, though it was before, until then; withdraws that with `None`.
    ApproveThing {
        /// The thing.
        thing: ThingName,
        /// Until when.
        until: Option<Wall>,
    },
    /// Puts a thing into quarantine: its certificates connect, and reach its recovery topics only.
    Quarantine {
        /// The thing.
        thing: ThingName,
        /// Why, for people.
        why: Line,
    },
    /// Lets a thing out of quarantine.
    Release(ThingName),

    /// An operator registers a certificate of an outside authority, or takes back one that this broker issued elsewhere.
    RegisterCertificate {
        /// The certificate, verified.
        certificate: NewCertificate,
        /// Whose it is. A thing is added when it does not exist.
        holder: PrincipalKey,
        /// In which state.
        enter: Enter,
    },
    /// An operator had a certificate signed for a holder. A thing is added when it does not exist.
    Issue {
        /// What was signed.
        certificate: NewCertificate,
        /// For whom.
        holder: PrincipalKey,
    },
    /// Binds a certificate that is nobody's yet.
    BindCertificate {
        /// The certificate.
        certificate: CertificateId,
        /// Whose it becomes. A thing is added when it does not exist.
        holder: PrincipalKey,
    },
    /// Brings certificates into force, or an authority's into trust again. One that is nobody's yet must be picked alone;
    /// it then becomes that of the name which its authority gave it.
    Activate(Selector),
    /// Suspends certificates, or the trust in an authority's.
    Suspend(Selector),
    /// Revokes certificates, or an authority with all of them.
    Revoke {
        /// Which.
        selector: Selector,
        /// Why.
        reason: RevocationReason,
    },
    /// Forgets a certificate that is nobody's, or is revoked and expired.
    DeleteCertificate(CertificateId),
    /// Deletes pending certificates whose deadline passed, at most `at_most` of them.
    ExpirePending {
        /// The bound of one command.
        at_most: usize,
    },
    /// Forgets certificates whose validity ended before `before`, at most `at_most` of them.
    PurgeExpired {
        /// The moment.
        before: Wall,
        /// The bound of one command.
        at_most: usize,
    },

    /// Registers an authority.
    AddCa(NewCa),
    /// Changes what an authority may do.
    UpdateCa {
        /// Which.
        ca: CaId,
        /// From now on.
        settings: CaSettings,
    },
    /// Removes an authority that no certificate of the registry is from.
    DeleteCa(CaId),

    /// An unknown certificate connects, and its authority's policy is `auto` or `jitr`.
    AdmitUnknown {
        /// The certificate, verified.
        certificate: NewCertificate,
        /// The name that it gives.
        name: ThingName,
    },
    /// An unknown certificate connects, its authority's policy is `jitp`, and the template has been evaluated.
    ProvisionJustInTime {
        /// The certificate, verified.
        certificate: NewCertificate,
        /// The template, which must be that of the authority.
        template: TemplateName,
        /// The thing that the template gives.
        thing: ThingSpec,
        /// What happens when the thing exists.
        if_exists: IfExists,
        /// In which state the certificate enters.
        enter: Enter,
    },

    /// A claim, or a device for its own rotation, had a certificate signed: it is pending until the thing is registered.
    BeginEnrolment {
        /// What was signed.
        certificate: NewCertificate,
        /// The certificate of the one who asked.
        asker: CertificateId,
        /// The hash of the ownership token.
        token: TokenHash,
        /// When the token, and the certificate with it, is gone.
        until: Wall,
    },
    /// The holder of an ownership token registers its thing.
    RegisterThing(Box<RegisterThing>),
    /// A device had the certificate signed that follows its own, in one step (EST re-enrolment).
    Renew {
        /// What was signed.
        certificate: NewCertificate,
        /// The certificate that is renewed.
        asker: CertificateId,
    },
    /// A certificate that takes the place of another has connected for the first time.
    CompleteRotation {
        /// The new certificate.
        certificate: CertificateId,
        /// When the old one is revoked.
        retire_at: Wall,
    },
    /// Revokes as superseded what a rotation has replaced and whose time has come, at most `at_most`.
    RetireSuperseded {
        /// The bound of one command.
        at_most: usize,
    },

    /// Makes a claim with its certificate.
    CreateClaim {
        /// What it may do.
        claim: ClaimSpec,
        /// Its certificate, as signed.
        certificate: NewCertificate,
    },
    /// Changes what a claim may do.
    UpdateClaim(ClaimSpec),
    /// Suspends a claim, or lets it work again.
    SuspendClaim {
        /// Which.
        claim: ThingName,
        /// Whether it is suspended from now on.
        suspended: bool,
    },
    /// Adds serial numbers to a claim's list.
    AddClaimSerials {
        /// Which.
        claim: ThingName,
        /// At most [`SERIALS_AT_ONCE_MAX`](crate::SERIALS_AT_ONCE_MAX).
        serials: Vec<Arc<str>>,
    },
    /// Makes a one-time token.
    CreateToken(TokenSpec),
    /// Uses a one-time token for the certificate that was signed for it.
    UseToken {
        /// The hash of the secret that was shown.
        token: TokenHash,
        /// What was signed.
        certificate: NewCertificate,
        /// Those certificates of the thing that have never connected: what got lost on its way to the device is no obstacle.
        never_connected: Vec<CertificateId>,
    },
    /// Withdraws a one-time token.
    DeleteToken(TokenHash),
    /// Deletes one-time tokens that expired before `before`, used or not, at most `at_most`.
    ExpireTokens {
        /// The moment.
        before: Wall,
        /// The bound of one command.
        at_most: usize,
    },
    /// Adds a template or replaces it.
    SetTemplate(TemplateSpec),
    /// Deletes a template that no claim and no authority names.
    DeleteTemplate(TemplateName),

    /// Somebody who has shown a right to a certificate asks for it where an operator has to approve.
    AskApproval(ApprovalRequest),
    /// An operator approves or rejects such a request.
    DecideApproval {
        /// Which.
        request: RequestId,
        /// Whether it may have its certificate.
        approved: bool,
    },
    /// It has its certificate: what was approved was approved for once.
    EndApproval(RequestId),

    /// Says that the clock is right although it was later before.
    AcceptClock,
    /// Writes a note into the audit trail.
    Note {
        /// What it is about.
        topic: Topic,
        /// What it says.
        text: Line,
    },
}

/// The registration of a thing by the holder of an ownership token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterThing {
    /// The hash of the ownership token that was shown.
    pub token: TokenHash,
    /// The certificate that the peer connected with.
    pub asker: CertificateId,
    /// The template that was evaluated.
    pub template: TemplateName,
    /// The thing that the template gives; for a device's own rotation it must be the device's.
    pub thing: ThingSpec,
    /// The device's own serial number among the parameters, when the claim has a list of them.
    pub serial: Option<Arc<str>>,
    /// What happens when the thing exists.
    pub if_exists: IfExists,
    /// In which state the certificate goes.
    pub enter: Enter,
    /// Those certificates of the thing that have never connected: a device whose answer got lost starts over, and what it
    /// never received is no obstacle.
    pub never_connected: Vec<CertificateId>,
}
