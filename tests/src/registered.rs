//! A broker with a registry, and what operators do with it.

use crate::test_broker::{Settings, TestBroker, pki};
use signet::store::{Applied, RegistryService};
use signet_certs_dev::Leaf;
use signet_identity::{CertificateId, PrincipalKey, Role, TemplateName, ThingName};
use signet_registry::{
    Actor, CaSettings, ClaimSpec, Command, Enter, KeyHash, NewCa, NewCertificate, RevocationReason, Selector,
    Source, TemplateKind, TemplateSpec, Wall,
};
use std::sync::Arc;

/// A broker whose registry knows the authority of the development PKI, and none of its certificates.
///
/// `tables` come after `[registry]`.
#[must_use]
pub fn registered(policy: &str, listener: &str, tables: &str) -> TestBroker {
    let tables = format!("[registry]\nmode = \"on\"\n{tables}");
    let broker =
        TestBroker::start_with(policy, Settings { listener, tables: &tables, ..Settings::default() });
    broker.add_authority(Source::Outside);
    broker
}

/// [`registered`], where the authority counts as the broker's own: there can be claims.
#[must_use]
pub fn registered_own(policy: &str, tables: &str) -> TestBroker {
    let tables = format!("[registry]\nmode = \"on\"\n{tables}");
    let broker = TestBroker::start_with(policy, Settings { tables: &tables, ..Settings::default() });
    broker.add_authority(Source::Own);
    broker
}

fn new_certificate(der: &[u8]) -> NewCertificate {
    NewCertificate::read(der, issuing_key()).expect("a certificate")
}

/// The key of the development PKI's issuing authority.
#[must_use]
pub fn issuing_key() -> KeyHash {
    let of_nobody = KeyHash::from_bytes([0; 32]);
    let own = NewCertificate::read(pki().issuing.certificate(), of_nobody).expect("a certificate");
    own.facts().public_key
}

/// The id of a certificate.
#[must_use]
pub fn id_of(leaf: &Leaf) -> CertificateId {
    CertificateId::of(leaf.certificate())
}

impl TestBroker {
    /// The registry.
    ///
    /// # Panics
    /// When the broker has none.
    #[must_use]
    pub fn registry(&self) -> &Arc<RegistryService> {
        self.broker().registry().expect("this broker has a registry")
    }

    /// A command of an operator, which is done when this returns.
    ///
    /// # Panics
    /// When it is refused.
    pub fn must(&self, command: Command) -> Applied {
        let done = self.registry().execute(command, Actor::Local("test".into()));
        done.unwrap_or_else(|error| panic!("the command is refused: {error}"))
    }

    /// Lets the registry know the authority of the development PKI, which brings in nobody by itself.
    ///
    /// # Panics
    /// When there is no registry, or it knows that authority already.
    pub fn add_authority(&self, source: Source) {
        let settings = CaSettings::registered_only(vec!["*".parse().expect("a pattern")]);
        let certificate = new_certificate(pki().issuing.certificate());
        self.must(Command::AddCa(NewCa { certificate, source, settings }));
    }

    /// Makes a claim that works until then.
    pub fn claim(&self, leaf: &Leaf, name: &str, until: Wall) {
        let template = TemplateName::try_from("fleet").expect("a name");
        self.must(Command::SetTemplate(TemplateSpec {
            name: template.clone(),
            kind: TemplateKind::Fleet,
            enabled: true,
            keys: false,
            body: "{}".into(),
        }));
        let claim = ClaimSpec {
            name: ThingName::try_from(name).expect("a name"),
            templates: vec![template],
            devices_max: None,
            until: Some(until),
            from: Vec::new(),
            listed_only: false,
            keys: false,
        };
        self.must(Command::CreateClaim { claim, certificate: new_certificate(leaf.certificate()) });
    }

    /// Registers a certificate for the device `name`.
    pub fn enrol(&self, leaf: &Leaf, name: &str) {
        self.enrol_as(leaf, Role::Device, name);
    }

    /// Registers a certificate for a device or an operator.
    ///
    /// # Panics
    /// When `name` cannot be one.
    pub fn enrol_as(&self, leaf: &Leaf, role: Role, name: &str) {
        let name = ThingName::try_from(name).expect("a name");
        let certificate = new_certificate(leaf.certificate());
        let holder = PrincipalKey { role, name };
        self.must(Command::RegisterCertificate { certificate, holder, enter: Enter::Active });
    }

    /// Revokes one certificate.
    pub fn revoke(&self, leaf: &Leaf) {
        let selector = Selector::Certificate(id_of(leaf));
        self.must(Command::Revoke { selector, reason: RevocationReason::KeyCompromise });
    }

    /// Suspends one certificate.
    pub fn suspend(&self, leaf: &Leaf) {
        self.must(Command::Suspend(Selector::Certificate(id_of(leaf))));
    }

    /// Brings one certificate into force.
    pub fn activate(&self, leaf: &Leaf) {
        self.must(Command::Activate(Selector::Certificate(id_of(leaf))));
    }
}
