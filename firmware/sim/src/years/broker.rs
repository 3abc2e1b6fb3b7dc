//! A broker on virtual time: the registry, the authority and the templates of the real one, without its sockets.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use signet_core::provisioning::{
    Answer, CertificateAnswer, ErrorCode, Operation, OwnershipToken, Payload, Rejection, RequestTopic,
    read_payload,
};
use signet_device_core::factory::Claim;
use signet_device_core::{Failure, Refusal};
use signet_identity::{CertificateId, PrincipalKey, Role, TemplateName, ThingName, Validity};
use signet_registry::ca::{
    AuthorityName, CheckedCsr, CsrPolicy, Issuer, KeyKinds, KeySigner, NewKey, Profile, PublicKey, Signer,
    SubjectRule, issue, make_root, random_serial,
};
use signet_registry::template::{CertificateParameters, TemplateBody};
use signet_registry::{
    Active, Actor, CaSettings, ClaimSpec, Command, IssueFor, Limits, Line, NewCa, NewCertificate,
    RegisterThing, Registry, RegistryError, RevocationReason, Selector, Source, Standing, TemplateKind,
    TemplateSpec, TokenHash, Wall,
};

/// TLS alerts (RFC 8446, section 6.2).
const CERTIFICATE_REVOKED: u8 = 44;
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_UNKNOWN: u8 = 46;

/// How long the certificate that a rotation replaced is kept in force.
const RETIRE_AFTER: Duration = Duration::from_secs(86_400);
/// How long after its end a certificate may connect to be renewed.
const EXPIRED_GRACE: Duration = Duration::from_secs(30 * 86_400);

/// For both kinds. A rotation is about the caller's own thing, whatever the template says.
const TEMPLATE: &str = r#"{
    "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
    "Resources": {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
        "certificate": {"Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}}
    }
}"#;
const TEMPLATES: [(&str, TemplateKind); 2] =
    [("fleet", TemplateKind::Fleet), ("rotation", TemplateKind::Rotation)];

/// Who is connected.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) certificate: CertificateId,
    holder: PrincipalKey,
}

impl Peer {
    pub(super) fn is_device(&self) -> bool {
        self.holder.role == Role::Device
    }
}

/// The broker.
pub(super) struct Broker {
    registry: Registry,
    issuer: Issuer,
    profile: Profile,
    bodies: BTreeMap<&'static str, TemplateBody>,
    /// Certificates that have connected.
    seen: HashSet<CertificateId>,
    tokens: u64,
    pub(super) claim: Claim,
    pub(super) issued: u64,
}

fn serial() -> Result<[u8; 16]> {
    random_serial().ok().context("randomness")
}

fn operator() -> Actor {
    Actor::Local(Line::new("operator"))
}

impl Broker {
    /// A broker that begins at `now` and issues certificates of so many days.
    pub(super) fn new(validity_days: u32, now: Wall) -> Result<Self> {
        const YEAR: u64 = 365 * 86_400;
        let signer = Arc::new(KeySigner::generate(NewKey::P256)?);
        let name = AuthorityName::try_from("Simulated CA")?;
        let root = make_root(&name, &*signer, Duration::from_secs(50 * YEAR), now, serial()?)?;
        let issuer = Issuer::load(&root.der, signer as Arc<dyn Signer>, now)?;
        let backdate = Duration::from_secs(3_600);
        let profile = Profile::new(Duration::from_secs(u64::from(validity_days) * 86_400), backdate)?;
        let limits = Limits { expired_grace: EXPIRED_GRACE, ..Limits::default() };
        let mut bodies = BTreeMap::new();
        for (name, kind) in TEMPLATES {
            let body = TemplateBody::parse(kind, TEMPLATE)
                .map_err(|problems| anyhow::anyhow!("the template {name}: {problems:?}"))?;
            bodies.insert(name, body);
        }
        let claim_key = KeySigner::generate(NewKey::P256)?;
        let long = profile.clone().with_validity(Duration::from_secs(40 * YEAR))?;
        let claim_name = ThingName::try_from("claim-1")?;
        let claim = issue(&issuer, claim_key.public_key(), &claim_name, &long, now, serial()?)?;
        let mut broker = Self {
            registry: Registry::new(limits),
            claim: Claim { certificate: claim.der.clone(), key: vec![1].into() },
            issuer,
            profile,
            bodies,
            seen: HashSet::new(),
            tokens: 0,
            issued: 0,
        };
        let root = NewCertificate::read(&root.der, broker.issuer.key_hash())?;
        let settings = CaSettings::registered_only(vec!["*".parse()?]);
        broker.submit(
            Command::AddCa(NewCa { certificate: root, source: Source::Own, settings }),
            &operator(),
            now,
        )?;
        for (name, kind) in TEMPLATES {
            let name = TemplateName::try_from(name)?;
            let spec = TemplateSpec { name, kind, enabled: true, keys: false, body: TEMPLATE.into() };
            broker.submit(Command::SetTemplate(spec), &operator(), now)?;
        }
        let certificate = NewCertificate::read(&claim.der, broker.issuer.key_hash())?;
        let claim = ClaimSpec {
            name: claim_name,
            templates: vec![TemplateName::try_from("fleet")?],
            devices_max: None,
            until: None,
            from: Vec::new(),
            listed_only: false,
            keys: false,
        };
        broker.submit(Command::CreateClaim { claim, certificate }, &operator(), now)?;
        Ok(broker)
    }

    fn submit(&mut self, command: Command, actor: &Actor, now: Wall) -> Result<(), RegistryError> {
        for event in self.registry.decide(command, actor, now)? {
            self.registry.apply(&event);
        }
        Ok(())
    }

    fn active(&self, id: &CertificateId, now: Wall) -> Result<Active, Failure> {
        let alert = |number| Failure::Refused(Refusal::Alert(number));
        let Some(certificate) = self.registry.certificate(id) else { return Err(alert(CERTIFICATE_UNKNOWN)) };
        let within = certificate.judge_validity(now) != Validity::Expired
            || certificate.judge_validity(now.before(EXPIRED_GRACE)) != Validity::Expired;
        match self.registry.standing_of(certificate, now) {
            Standing::Active(_) if !within => Err(alert(CERTIFICATE_EXPIRED)),
            Standing::Active(active) => Ok(active),
            Standing::Revoked { .. } => Err(alert(CERTIFICATE_REVOKED)),
            Standing::Pending { .. } | Standing::Inactive(_) => Err(Failure::Refused(Refusal::ConnAck(0x87))),
            _ => Err(alert(CERTIFICATE_UNKNOWN)),
        }
    }

    /// A device connects with this certificate.
    pub(super) fn connect(&mut self, der: &[u8], now: Wall) -> Result<Peer, Failure> {
        let certificate = CertificateId::of(der);
        let active = self.active(&certificate, now)?;
        self.seen.insert(certificate);
        if active.replaces_another {
            let command = Command::CompleteRotation { certificate, retire_at: now.after(RETIRE_AFTER) };
            // It was asked for because the registry said so; nothing happened in between.
            drop(self.submit(command, &Actor::Broker, now));
        }
        Ok(Peer { certificate, holder: active.holder })
    }

    /// Whether a connection may go on.
    pub(super) fn judge(&self, peer: &Peer, now: Wall) -> Result<(), Failure> {
        self.active(&peer.certificate, now).map(drop)
    }

    /// The answer to a publish: its topic and payload.
    pub(super) fn publish(
        &mut self,
        peer: &Peer,
        topic: &str,
        payload: &[u8],
        now: Wall,
    ) -> Option<(String, Vec<u8>)> {
        let topic = RequestTopic::parse(topic)?;
        let answer = read_payload(&topic.operation, topic.format, payload)
            .map_err(Refused::Rejection)
            .and_then(|payload| self.serve(peer, &topic.operation, payload, now))
            .unwrap_or_else(|refused| Answer::Rejected(refused.rejection()));
        let on = topic.answer(answer.is_accepted())?;
        Some((on.to_string(), answer.encode(topic.format).to_vec()))
    }

    fn serve(
        &mut self,
        peer: &Peer,
        operation: &Operation,
        payload: Payload,
        now: Wall,
    ) -> Result<Answer, Refused> {
        match (operation, payload) {
            (Operation::CreateFromCsr, Payload::Csr(csr)) => self.create(peer, &csr, now),
            (Operation::RegisterThing(template), Payload::Thing { token, parameters }) => {
                self.register(peer, template, &token, &parameters, now)
            }
            _ => Err(Refused::Rejection(ErrorCode::AccessDenied.because("Keys are not made here."))),
        }
    }

    fn create(&mut self, peer: &Peer, csr: &str, now: Wall) -> Result<Answer, Refused> {
        let policy = CsrPolicy { keys: KeyKinds::default(), subject: SubjectRule::Ignore };
        let bad = ErrorCode::InvalidCertificateSigningRequest;
        let csr = CheckedCsr::parse(csr.as_bytes(), &policy)
            .map_err(|_| Refused::Rejection(bad.because("The request cannot be used.")))?;
        let key: &PublicKey = csr.public_key();
        self.registry.may_issue(IssueFor::Enrolment(&peer.certificate), &key.hash(), now)?;
        let failed = || Refused::Rejection(ErrorCode::InternalFailure.because("It cannot be signed."));
        let number = random_serial().map_err(|_| failed())?;
        let issued =
            issue(&self.issuer, key, &peer.holder.name, &self.profile, now, number).map_err(|_| failed())?;
        let certificate = NewCertificate::read(&issued.der, self.issuer.key_hash()).map_err(|_| failed())?;
        self.tokens += 1;
        let token = format!("token-{}", self.tokens);
        let command = Command::BeginEnrolment {
            certificate,
            asker: peer.certificate,
            token: TokenHash::of(token.as_bytes()),
            until: now.after(Duration::from_secs(3_600)),
        };
        self.submit(command, &peer.actor(), now)?;
        self.issued += 1;
        Ok(Answer::Certificate(Box::new(CertificateAnswer {
            certificate_id: issued.certificate_id,
            certificate_pem: signet_device_core::identity::certificate_pem(&issued.der),
            token: OwnershipToken::new(token),
            private_key: None,
        })))
    }

    fn register(
        &mut self,
        peer: &Peer,
        template: &TemplateName,
        token: &OwnershipToken,
        parameters: &BTreeMap<String, String>,
        now: Wall,
    ) -> Result<Answer, Refused> {
        let token = TokenHash::of(token.expose().as_bytes());
        let pending = self.registry.enrolment(&token).ok_or(RegistryError::OwnershipToken)?;
        let certificate = match peer.holder.role {
            Role::Device => CertificateParameters::renewed(*pending.id(), peer.holder.name.clone()),
            _ => CertificateParameters::issued(*pending.id()),
        };
        let unknown = Refused::Rejection(ErrorCode::ResourceNotFound.because("There is no such template."));
        let body = self.bodies.get(template.as_str()).ok_or(unknown)?;
        let invalid = Refused::Rejection(ErrorCode::InvalidParameters.because("The parameters do not fit."));
        let provisioned = body.evaluate(parameters, &certificate).map_err(|_| invalid)?;
        let name = provisioned.thing.name.clone();
        let held = self.registry.thing(name.as_str()).map(|thing| thing.certificates().to_vec());
        let never_connected = held.unwrap_or_default().into_iter().filter(|id| !self.seen.contains(id));
        let registration = RegisterThing {
            token,
            asker: peer.certificate,
            template: template.clone(),
            serial: provisioned.serial.map(Arc::from),
            if_exists: provisioned.if_exists,
            enter: provisioned.enter,
            never_connected: never_connected.collect(),
            thing: provisioned.thing,
        };
        self.submit(Command::RegisterThing(Box::new(registration)), &peer.actor(), now)?;
        Ok(Answer::Thing { name, device_configuration: provisioned.device_configuration })
    }

    /// What the broker does by the clock.
    pub(super) fn tick(&mut self, now: Wall) {
        let at_most = 1_000;
        for command in [
            Command::ExpirePending { at_most },
            Command::RetireSuperseded { at_most },
            Command::PurgeExpired { before: now.before(Duration::from_secs(400 * 86_400)), at_most },
        ] {
            // Refused only by a clock that goes back, which this one does not.
            drop(self.submit(command, &Actor::Broker, now));
        }
    }

    /// An operator revokes everything of a thing. Whether there was something: a device that has not come back yet has nothing more
    /// to lose.
    pub(super) fn revoke(&mut self, thing: &str, now: Wall) -> Result<bool> {
        let selector = Selector::thing(ThingName::try_from(thing)?);
        let command = Command::Revoke { selector, reason: RevocationReason::KeyCompromise };
        match self.submit(command, &operator(), now) {
            Ok(()) => Ok(true),
            // Revoked before, or without any certificate yet.
            Err(RegistryError::AlreadySo(_) | RegistryError::NothingSelected) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// An operator lets a thing be provisioned again.
    pub(super) fn approve(&mut self, thing: &str, now: Wall) -> Result<()> {
        let until = Some(now.after(Duration::from_secs(60 * 86_400)));
        let thing = ThingName::try_from(thing)?;
        self.submit(Command::ApproveThing { thing, until }, &operator(), now)?;
        Ok(())
    }

    /// How many things there are.
    pub(super) fn things(&self) -> usize {
        self.registry.things_count()
    }

    /// Whose certificate this is, if it is in force.
    pub(super) fn holder(&self, certificate: &CertificateId, now: Wall) -> Option<String> {
        let active = self.active(certificate, now).ok()?;
        Some(active.holder.name.as_str().to_owned())
    }
}

impl Peer {
    fn actor(&self) -> Actor {
        Actor::Principal {
            role: self.holder.role,
            name: self.holder.name.clone(),
            certificate: self.certificate,
        }
    }
}

/// Why there is no good answer.
enum Refused {
    Rejection(Rejection),
    Registry(RegistryError),
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl Refused {
    fn rejection(self) -> Rejection {
        match self {
            Self::Rejection(rejection) => rejection,
            Self::Registry(RegistryError::OwnershipToken) => {
                ErrorCode::InvalidCertificateOwnershipToken.because("The token is unknown, used or expired.")
            }
            Self::Registry(RegistryError::AlreadyProvisioned(_) | RegistryError::ThingExists(_)) => {
                ErrorCode::ResourceConflict.because("The thing was provisioned before.")
            }
            Self::Registry(RegistryError::Barred(_)) => {
                ErrorCode::AccessDenied.because("An operator has to agree.")
            }
            Self::Registry(RegistryError::KeyRevoked { .. }) => {
                ErrorCode::AccessDenied.because("The key was revoked.")
            }
            Self::Registry(RegistryError::TooManyActive { .. } | RegistryError::Full { .. }) => {
                ErrorCode::ServiceUnavailable.because("There is no room.")
            }
            Self::Registry(_) => ErrorCode::AccessDenied.because("The registry refuses."),
        }
    }
}
