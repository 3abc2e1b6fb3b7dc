//! Claims: the certificates that devices leave the factory with.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use signet_identity::{PrincipalKey, Role, ThingName};
use signet_registry::ca::{Issuer, PublicKey, issue, random_serial};
use signet_registry::{
    Claim, ClaimSpec, Command, Network, NewCertificate, Registry, RegistryError, RevocationReason,
    SERIALS_AT_ONCE_MAX, Selector, Status, Wall,
};

use super::answer::{Answer, Refused, blocking};
use super::api::{
    AddSerials, ChangeClaim, Changed, ClaimAction, ClaimRow, ClaimShown, CreateClaim, CreatedClaim,
    IssuedCertificate, SerialsAdded, ShowClaim,
};
use super::devices::{certificate_row, reason, thing_name};
use super::templates::template_name;
use super::{At, Operated, changed};
use crate::ca::{Authority, certificate_pem};

/// How long a claim's certificate is valid when nobody says.
const CLAIM_VALIDITY: Duration = Duration::from_secs(365 * 86_400);

pub(super) async fn create(at: At, Json(wanted): Json<CreateClaim>) -> Answer<CreatedClaim> {
    let operated = at.0;
    blocking(move || create_now(&operated, &wanted)).await
}

/// Signs the certificate and makes the claim. The same claim for the same key again gives what is there, so whoever did not
/// get the answer may ask again.
fn create_now(operated: &Operated, wanted: &CreateClaim) -> Result<CreatedClaim, Refused> {
    let authority = operated.authority()?;
    let service = &operated.registry;
    let now = service.now();
    let (spec, validity) = read_wanted(wanted, now)?;
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(wanted.public_key.as_bytes())
        .map_err(|_| Refused::found("the public key is not PEM with the label PUBLIC KEY"))?;
    let key = PublicKey::from_spki_allowed(&spki, authority.key_kinds())
        .map_err(|error| Refused::found(error.to_string()))?;
    let name = spec.name.clone();
    if let Some(there) = already(operated, &spec, wanted.valid_seconds.is_some(), &key)? {
        return Ok(there);
    }
    if service.registry().claim(name.as_str()).is_some() {
        return Err(RegistryError::ClaimExists(name).into());
    }
    let profile = authority
        .profile()
        .clone()
        .with_validity(validity)
        .map_err(|error| Refused::found(error.to_string()))?;
    let unsigned =
        |error: &dyn std::fmt::Display| Refused::found(format!("the claim's certificate: {error}"));
    let serial = random_serial().map_err(|error| unsigned(&error))?;
    let issued =
        issue(authority.issuer(), &key, &name, &profile, now, serial).map_err(|error| unsigned(&error))?;
    let certificate =
        NewCertificate::read(&issued.der, authority.issuer().key_hash()).map_err(|error| unsigned(&error))?;
    service.execute(Command::CreateClaim { claim: spec, certificate }, operated.actor.clone())?;
    answer(operated, authority, &name, &issued.der, false)
}

/// The claim and the certificate that are there for this key.
fn already(
    operated: &Operated,
    spec: &ClaimSpec,
    short: bool,
    key: &PublicKey,
) -> Result<Option<CreatedClaim>, Refused> {
    let authority = operated.authority()?;
    let registry = operated.registry.snapshot();
    // One that ends so many seconds from now ends later each time that it is asked for.
    let alike = |claim: &&Arc<Claim>| {
        let until = if short { claim.spec.until } else { spec.until };
        *claim.spec == ClaimSpec { until, ..spec.clone() }
    };
    let Some(claim) = registry.claim(spec.name.as_str()).filter(alike) else { return Ok(None) };
    let holder = PrincipalKey { role: Role::Claim, name: claim.spec.name.clone() };
    let there = registry.certificates_of_key(&key.hash()).find(|certificate| {
        certificate.holder.as_ref() == Some(&holder) && matches!(certificate.status, Status::Active)
    });
    let Some(there) = there else { return Ok(None) };
    match operated.registry.certificate_der(there.id())? {
        Some(der) => answer(operated, authority, &spec.name, &der, true).map(Some),
        None => Ok(None),
    }
}

fn answer(
    operated: &Operated,
    authority: &Authority,
    name: &ThingName,
    der: &[u8],
    already: bool,
) -> Result<CreatedClaim, Refused> {
    let registry = operated.registry.snapshot();
    let claim = known(&registry, name)?;
    let id = signet_identity::CertificateId::of(der);
    let facts = registry.certificate(&id).map(|certificate| &certificate.facts);
    let certificate = IssuedCertificate {
        id: id.to_string(),
        serial: facts.map_or_else(String::new, |facts| facts.serial.to_string()),
        not_after: facts.map_or(0, |facts| facts.not_after),
        pem: certificate_pem(der),
        already,
    };
    let issuer: &Issuer = authority.issuer();
    let issuer = Some(certificate_pem(issuer.certificate_der()));
    Ok(CreatedClaim { claim: row(&registry, claim, operated.registry.now()), certificate, issuer })
}

/// What the claim may do, and how long its certificate is valid from `now`.
fn read_wanted(wanted: &CreateClaim, now: Wall) -> Result<(ClaimSpec, Duration), Refused> {
    let (until, validity) = match (wanted.until_ms, wanted.valid_seconds) {
        (Some(_), Some(_)) => {
            return Err(Refused::found(
                "give the moment when the claim ends, or how long it lives, not both",
            ));
        }
        (Some(until), None) => {
            let left = until.checked_sub(now.0).filter(|left| *left > 0);
            let left = left.ok_or(RegistryError::DeadlinePassed(Wall(until)))?;
            (Some(Wall(until)), Duration::from_millis(left))
        }
        (None, Some(seconds)) => {
            let validity = Duration::from_secs(seconds);
            (Some(now.after(validity)), validity)
        }
        (None, None) => (None, CLAIM_VALIDITY),
    };
    let networks = wanted.from.iter().map(|text| {
        let wrong = |_| Refused::found(format!("{text:?} is no network: write 10.1.0.0/16, or one address"));
        text.parse::<Network>().map_err(wrong)
    });
    let spec = ClaimSpec {
        name: thing_name(&wanted.name)?,
        templates: wanted.templates.iter().map(|name| template_name(name)).collect::<Result<_, _>>()?,
        devices_max: wanted.devices_max,
        until,
        from: networks.collect::<Result<_, _>>()?,
        listed_only: wanted.listed_only,
        keys: wanted.keys,
    };
    Ok((spec, validity))
}

pub(super) async fn list(at: At) -> Answer<Vec<ClaimRow>> {
    let operated = at.0;
    blocking(move || {
        let (registry, now) = (operated.registry.snapshot(), operated.registry.now());
        Ok(registry.claims().map(|claim| row(&registry, claim, now)).collect())
    })
    .await
}

pub(super) async fn show(at: At, Json(wanted): Json<ShowClaim>) -> Answer<ClaimShown> {
    let operated = at.0;
    blocking(move || {
        let service = &operated.registry;
        let (registry, now) = (service.snapshot(), service.now());
        let claim = known(&registry, &thing_name(&wanted.name)?)?;
        let certificates = claim.certificates().iter().filter_map(|id| registry.certificate(id));
        let later = |serial: &&str| wanted.after.as_deref().is_none_or(|after| *serial > after);
        let mut serials: Vec<String> =
            claim.serials().filter(later).take(SERIALS_AT_ONCE_MAX + 1).map(str::to_owned).collect();
        let more = serials.len() > SERIALS_AT_ONCE_MAX;
        serials.truncate(SERIALS_AT_ONCE_MAX);
        Ok(ClaimShown {
            claim: row(&registry, claim, now),
            certificates: certificates.map(|found| certificate_row(service, &registry, found, now)).collect(),
            next: serials.last().filter(|_| more).cloned(),
            serials,
        })
    })
    .await
}

pub(super) async fn add_serials(at: At, Json(wanted): Json<AddSerials>) -> Answer<SerialsAdded> {
    let claim = thing_name(&wanted.name)?;
    let count = |registry: &Registry| {
        registry.claim(claim.as_str()).map_or(0, |claim| claim.serials().count() as u64)
    };
    let before = count(&at.registry.snapshot());
    let serials = wanted.serials.iter().map(|serial| Arc::from(serial.as_str())).collect();
    let command = Command::AddClaimSerials { claim: claim.clone(), serials };
    at.registry.submit(command, at.actor.clone()).answer().await?;
    let serials = count(&at.registry.snapshot());
    Ok(Json(SerialsAdded { added: serials.saturating_sub(before), serials }))
}

pub(super) async fn change(at: At, Json(wanted): Json<ChangeClaim>) -> Answer<Changed> {
    let claim = thing_name(&wanted.name)?;
    known(&at.registry.snapshot(), &claim)?;
    let command = match wanted.action {
        ClaimAction::Suspend => Command::SuspendClaim { claim, suspended: true },
        ClaimAction::Resume => Command::SuspendClaim { claim, suspended: false },
        ClaimAction::Revoke => {
            let reason: Option<RevocationReason> = wanted.reason.as_deref().map(reason).transpose()?;
            let selector = Selector::Holder(PrincipalKey { role: Role::Claim, name: claim });
            Command::Revoke { selector, reason: reason.unwrap_or_default() }
        }
    };
    let applied = at.registry.submit(command, at.actor.clone()).answer().await?;
    Ok(Json(changed(&applied)))
}

fn known<'a>(registry: &'a Registry, name: &ThingName) -> Result<&'a Arc<Claim>, Refused> {
    registry.claim(name.as_str()).ok_or_else(|| RegistryError::NoClaim(name.clone()).into())
}

fn row(registry: &Registry, claim: &Claim, now: Wall) -> ClaimRow {
    let spec = &claim.spec;
    let holder = PrincipalKey { role: Role::Claim, name: spec.name.clone() };
    let state = if claim.suspended {
        "suspended"
    } else if !claim.is_open(now) {
        "over"
    } else if registry.stands(&holder, now) {
        "open"
    } else {
        "without-certificate"
    };
    ClaimRow {
        name: spec.name.to_string(),
        state: state.to_owned(),
        templates: spec.templates.iter().map(ToString::to_string).collect(),
        devices: claim.devices,
        devices_max: spec.devices_max,
        pending: claim.pending(),
        serials: claim.serials().count() as u64,
        listed_only: spec.listed_only,
        keys: spec.keys,
        from: spec.from.iter().map(ToString::to_string).collect(),
        until_ms: spec.until.map(|until| until.0),
        added_ms: claim.added.0,
    }
}
