//! The registry of `signet dev`: an authority, the development certificates, a template and a claim to try provisioning with.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use signet_certs_dev::{DevPki, ROLES};
use signet_identity::{PrincipalKey, Role, ThingName};
use signet_registry::ca::{
    AuthorityName, Issuer, KeySigner, NewKey, Signer as _, crl, make_issuing, make_root, random_serial,
};
use signet_registry::{
    Actor, CaSettings, Command, Enter, NewCa, NewCertificate, RegistryError, Source, Wall,
};

use super::args::AdminArgs;
use super::operate::call;
use super::out::Failure;
use super::registry::Folder;
use crate::admin::registry::api::{CreateClaim, CreatedClaim, SetTemplate, TemplateSet};
use crate::ca::{ABOVE_FILE, CERTIFICATE_FILE, CRL_FILE, KEY_FILE, read_secret, replace};
use crate::server::Broker;
use crate::store::{ExecuteError, RegistryService};

/// The authority's folder beside the certificates.
const AUTHORITY: &str = "ca";
/// The template and the claim that are ready to be tried.
pub(super) const TEMPLATE: &str = "fleet";
/// The claim that may ask for it.
pub(super) const CLAIM: &str = "dev-claim";
/// The template with which devices renew their certificate.
const ROTATION: &str = "rotation";

const TEMPLATES: [(&str, &str, &str); 2] = [
    (TEMPLATE, "fleet", include_str!("../../../../config/templates/fleet.json")),
    (ROTATION, "rotation", include_str!("../../../../config/templates/rotation.json")),
];

/// How long the authorities are valid, with the root a day longer.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(5 * 365 * 86_400);

/// How long the revocation list is valid that a start begins with.
const LIST_VALIDITY: Duration = Duration::from_secs(2 * 86_400);

/// Makes the authority when there is none.
pub(super) fn authority(directory: &Path) -> Result<(), Failure> {
    let folder = directory.join(AUTHORITY);
    if folder.join(CERTIFICATE_FILE).exists() {
        return revocation_list(&folder);
    }
    let failed = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("the development authority cannot be made: {error}"))
    };
    let name = |text: &str| AuthorityName::try_from(text).map_err(|error| failed(&error));
    let serial = || random_serial().map_err(|error| failed(&error));
    let now = Wall(crate::clock::wall().0);
    let generate = || KeySigner::generate(NewKey::P256).map_err(|error| failed(&error));
    let (root_key, key) = (generate()?, generate()?);
    let validity = AUTHORITY_VALIDITY + Duration::from_secs(86_400);
    let root =
        make_root(&name("Signet Development Provisioning Root CA")?, &root_key, validity, now, serial()?)
            .map_err(|error| failed(&error))?;
    // The root's key is not kept: nothing else is to be signed by it.
    let root_issuer = Issuer::load(&root.der, Arc::new(root_key), now).map_err(|error| failed(&error))?;
    let issuing = make_issuing(
        &root_issuer,
        key.public_key(),
        &name("Signet Development Provisioning CA")?,
        AUTHORITY_VALIDITY,
        None,
        now,
        serial()?,
    )
    .map_err(|error| failed(&error))?;
    let pem = key.to_pem().map_err(|error| failed(&error))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| failed(&error))?;
    // The certificate last: it says that the others are there.
    for (file, text, mode) in [
        (KEY_FILE, pem.expose(), 0o600),
        (ABOVE_FILE, &root.pem(), 0o644),
        (CERTIFICATE_FILE, &issuing.pem(), 0o644),
    ] {
        replace(&folder.join(file), text.as_bytes(), mode).map_err(|error| failed(&error))?;
    }
    revocation_list(&folder)
}

/// The listener wants a current list of every authority at its start. The broker puts its own in this place soon after.
fn revocation_list(folder: &Path) -> Result<(), Failure> {
    let file = folder.join(CRL_FILE);
    let age = std::fs::metadata(&file).and_then(|metadata| metadata.modified()).map(|at| at.elapsed());
    if age.is_ok_and(|age| age.is_ok_and(|age| age < LIST_VALIDITY / 2)) {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
    let certificate = folder.join(CERTIFICATE_FILE);
    let certificate = CertificateDer::from_pem_file(certificate).map_err(|error| failed(&error))?;
    let key = read_secret(&folder.join(KEY_FILE)).map_err(|error| failed(&error))?;
    let key = KeySigner::from_pem(&key, None).map_err(|error| failed(&error))?;
    let now = Wall(crate::clock::wall().0);
    let issuer = Issuer::load(&certificate, Arc::new(key), now).map_err(|error| failed(&error))?;
    let list = crl(&issuer, [], now.0, now, now.after(LIST_VALIDITY)).map_err(|error| failed(&error))?;
    replace(&file, list.pem().as_bytes(), 0o644).map_err(|error| failed(&error))
}

/// Makes the running broker know the development certificates, the templates and the claim; the claim's folder.
pub(super) fn fill(broker: &Broker, pki: &DevPki, config: &Path) -> Result<PathBuf, Failure> {
    let registry = broker.registry().ok_or_else(|| Failure::usage("the development registry is not open"))?;
    certificates(registry, pki)?;
    let admin = AdminArgs { config: Some(config.to_owned()), socket: None, json: false };
    for (name, kind, body) in TEMPLATES {
        let wanted = SetTemplate {
            name: name.to_owned(),
            kind: kind.to_owned(),
            enabled: true,
            keys: kind == "fleet",
            body: body.to_owned(),
        };
        let _: TemplateSet = call(&admin, Method::POST, "/registry/templates/set", Some(&wanted))?;
    }
    let folder = Folder::of(&pki.directory().join("claims"), CLAIM)?;
    let wanted = CreateClaim {
        name: CLAIM.to_owned(),
        templates: vec![TEMPLATE.to_owned()],
        keys: true,
        public_key: folder.key()?,
        ..CreateClaim::default()
    };
    let created: CreatedClaim = call(&admin, Method::POST, "/registry/claims/create", Some(&wanted))?;
    folder.store(CLAIM, &created.certificate, created.issuer.as_deref())?;
    Ok(folder.path().to_owned())
}

/// The good certificates of the development PKI, as if the broker had issued them: the key of their authority is not kept.
fn certificates(registry: &RegistryService, pki: &DevPki) -> Result<(), Failure> {
    let dir = pki.directory();
    let read = |path: PathBuf| {
        CertificateDer::from_pem_file(&path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    };
    let issuing = read(dir.join("issuing-ca.crt"))?;
    let unreadable = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", dir.display()));
    let key = crate::ca::public_key_of(&issuing)
        .ok_or_else(|| unreadable(&"the authority's key cannot be read"))?;
    let certificate = NewCertificate::read(&issuing, key.hash()).map_err(|error| unreadable(&error))?;
    let any = "*".parse().map_err(|error| unreadable(&error))?;
    let settings = CaSettings::registered_only(vec![any]);
    tolerate(registry, Command::AddCa(NewCa { certificate, source: Source::Own, settings }))?;
    for role in ROLES {
        if role.about.starts_with("refused") || role.name == "server" {
            continue;
        }
        let leaf = read(dir.join(format!("{}.crt", role.name)))?;
        let name = ThingName::try_from(role.common_name).map_err(|error| unreadable(&error))?;
        let certificate = NewCertificate::read(&leaf, key.hash()).map_err(|error| unreadable(&error))?;
        let who = if role.name == "admin" { Role::Operator } else { Role::Device };
        let holder = PrincipalKey { role: who, name };
        tolerate(registry, Command::RegisterCertificate { certificate, holder, enter: Enter::Active })?;
    }
    Ok(())
}

/// What was there at an earlier start stays as it is.
fn tolerate(registry: &RegistryService, command: Command) -> Result<(), Failure> {
    match registry.execute(command, Actor::Broker) {
        Ok(_)
        | Err(ExecuteError::Refused(RegistryError::CaExists(_) | RegistryError::CertificateExists(_))) => {
            Ok(())
        }
        Err(error) => Err(Failure::usage(format!("the development registry: {error}"))),
    }
}
