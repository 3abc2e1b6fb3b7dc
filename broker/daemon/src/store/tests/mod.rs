//! What the store promises, tried on a disk.

mod backup;
mod damage;
mod order;
mod seen;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use signet_identity::{CertificateId, PrincipalKey, Role, ThingName};
use signet_registry::ca::{
    AuthorityName, Issuer, KeySigner, NewKey, Profile, Signer, issue, make_root, random_serial,
};
use signet_registry::{
    Actor, CaSettings, Command, Event, KeyHash, Limits, Line, NewCa, NewCertificate, Registry,
    RevocationReason, Selector, SerialNumber, Source, ThingSpec, Wall,
};
use tempfile::TempDir;

use super::{Applied, Options, RegistryService};

/// The moment at which everything happens.
const NOW: Wall = Wall(1_800_000_000_000);

fn still() -> Wall {
    NOW
}

fn options() -> Options {
    Options { limits: Limits::default(), clock: still }
}

fn operator() -> Actor {
    Actor::Local(Line::new("uid 1000"))
}

fn name(text: &str) -> ThingName {
    ThingName::try_from(text).unwrap()
}

fn add(thing: &str) -> Command {
    Command::AddThing(ThingSpec::named(name(thing)))
}

/// A folder with a registry in it.
struct Home {
    outer: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { outer: tempfile::tempdir().unwrap() }
    }

    fn directory(&self) -> PathBuf {
        self.outer.path().join("registry")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    fn database(&self) -> PathBuf {
        self.file("registry.db")
    }

    fn open(&self) -> RegistryService {
        RegistryService::open_with(&self.directory(), options()).unwrap()
    }

    fn refusal(&self) -> super::StoreError {
        RegistryService::open_with(&self.directory(), options()).unwrap_err()
    }

    /// What a kill leaves: the files as they are, while the process still has them open.
    fn as_if_killed(&self) -> Self {
        let copy = Self::new();
        std::fs::create_dir(copy.directory()).unwrap();
        private(&copy.directory(), 0o700);
        for entry in std::fs::read_dir(self.directory()).unwrap() {
            let entry = entry.unwrap();
            // The shared-memory index of the log does not outlive its processes in any state that counts.
            if !entry.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(entry.path(), copy.file(entry.file_name().to_str().unwrap())).unwrap();
            }
        }
        copy
    }

    /// Changes the database as somebody with `sqlite3` would.
    fn tamper(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.database()).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

fn private(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Registries are equal when they answer everything alike.
fn same(a: &RegistryService, b: &RegistryService) {
    assert_eq!(*a.snapshot(), *b.snapshot());
    assert_eq!(a.head(), b.head());
}

/// An authority that signs for the things of a test.
struct Authority {
    issuer: Issuer,
}

impl Authority {
    /// Makes it, and registers it as one of the broker's own.
    fn register(service: &RegistryService) -> Self {
        let signer: Arc<dyn Signer> = Arc::new(KeySigner::generate(NewKey::P256).unwrap());
        let root_name = AuthorityName::try_from("Test CA").unwrap();
        let validity = Duration::from_secs(365 * 86_400);
        let root = make_root(&root_name, &*signer, validity, NOW, random_serial().unwrap()).unwrap();
        let issuer = Issuer::load(&root.der, signer, NOW).unwrap();
        let certificate = NewCertificate::read(&root.der, issuer.key_hash()).unwrap();
        let settings = CaSettings::registered_only(vec!["*".parse().unwrap()]);
        let ca = NewCa { certificate, source: Source::Own, settings };
        service.execute(Command::AddCa(ca), operator()).unwrap();
        Self { issuer }
    }

    /// Signs for a thing, without registering anything.
    fn sign(&self) -> NewCertificate {
        let key = KeySigner::generate(NewKey::P256).unwrap();
        let serial = random_serial().unwrap();
        let issued =
            issue(&self.issuer, key.public_key(), &name("any"), &Profile::default(), NOW, serial).unwrap();
        NewCertificate::read(&issued.der, self.issuer.key_hash()).unwrap()
    }

    /// Signs for the thing `thing` and registers that.
    fn issue(&self, service: &RegistryService, thing: &str) -> Held {
        let certificate = self.sign();
        let facts = certificate.facts();
        let held = Held { id: facts.id, issuer: facts.issuer, serial: facts.serial };
        let holder = PrincipalKey { role: Role::Device, name: name(thing) };
        service.execute(Command::Issue { certificate, holder }, operator()).unwrap();
        held
    }
}

/// What identifies a certificate.
#[derive(Clone, Copy)]
struct Held {
    id: CertificateId,
    issuer: KeyHash,
    serial: SerialNumber,
}

impl Held {
    fn standing(&self, service: &RegistryService) -> &'static str {
        service.standing(&self.id, &self.issuer, &self.serial).metric_label()
    }

    fn revoke(&self, service: &RegistryService) -> Applied {
        let reason = RevocationReason::KeyCompromise;
        let command = Command::Revoke { selector: Selector::Certificate(self.id), reason };
        service.execute(command, operator()).unwrap()
    }
}

fn replayed(service: &RegistryService) -> Registry {
    let query =
        super::AuditQuery { oldest_first: true, at_most: super::AUDIT_ROWS_MAX, ..Default::default() };
    let events: Vec<Event> =
        service.audit(&query).unwrap().into_iter().map(|recorded| recorded.event.unwrap()).collect();
    Registry::replay(Limits::default(), &events)
}
