//! Authorities and revocation lists.

use axum::Json;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use signet_identity::{Role, TemplateName};
use signet_registry::{
    Ca, CaId, CaSettings, Command, KeyHash, NamePattern, NewCa, NewCertificate, Registry, RegistryError,
    Source, Topic, UnknownPolicy,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::answer::{Answer, Refused, blocking};
use super::api::{CaRow, Changed, ImportCa, ImportedCa, RevocationList, SetCa};
use super::devices::ca_id;
use super::{At, Operated, changed};
use crate::ca::WrittenList;

pub(super) async fn cas(at: At) -> Answer<Vec<CaRow>> {
    let operated = at.0;
    blocking(move || {
        let registry = operated.registry.snapshot();
        Ok(registry.cas().map(|ca| ca_row(&registry, ca)).collect())
    })
    .await
}

fn ca_row(registry: &Registry, ca: &Ca) -> CaRow {
    let settings = &ca.settings;
    CaRow {
        id: ca.id.to_string(),
        key: ca.key.to_string(),
        subject: ca.subject.to_string(),
        own: ca.source == Source::Own,
        role: settings.role.to_string(),
        connect: settings.connect,
        registers: settings.registers,
        unknown: settings.unknown.as_str().to_owned(),
        template: match &settings.unknown {
            UnknownPolicy::Jitp(template) => Some(template.to_string()),
            _ => None,
        },
        names: settings.names.iter().map(ToString::to_string).collect(),
        not_before: ca.not_before,
        not_after: ca.not_after,
        revoked_ms: ca.revoked.map(|(since, _)| since.0),
        certificates: registry.certificates_of_issuer(&ca.key).count() as u64,
        waiting: registry.waiting_of(&ca.key),
        devices: ca.devices,
        devices_max: settings.devices_max,
        joins_others: settings.joins_others,
    }
}

pub(super) async fn import(at: At, Json(wanted): Json<ImportCa>) -> Answer<ImportedCa> {
    let operated = at.0;
    blocking(move || {
        let certificate = read_authority(&wanted.certificate)?;
        let settings = settings(&operated, &wanted)?;
        let ca = NewCa { certificate, source: Source::Outside, settings };
        let id = ca.id();
        operated.registry.execute(Command::AddCa(ca), operated.actor.clone())?;
        Ok(ImportedCa { id: id.to_string() })
    })
    .await
}

/// One certificate that may sign others.
fn read_authority(pem: &str) -> Result<NewCertificate, Refused> {
    let mut found = CertificateDer::pem_slice_iter(pem.as_bytes());
    let (Some(Ok(der)), None) = (found.next(), found.next()) else {
        return Err(Refused::found("the file must hold exactly one certificate in PEM: the authority's own"));
    };
    let Ok(([], parsed)) = X509Certificate::from_der(&der) else {
        return Err(Refused::found("the certificate cannot be read"));
    };
    let usage = parsed.key_usage().ok().flatten();
    if !parsed.is_ca() || usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(Refused::found(
            "the certificate is not an authority's: CA:TRUE and keyCertSign are needed\n  hint: import the certificate \
             that signed your devices' certificates, not a device's",
        ));
    }
    // Who signed it is of no matter: trust in an authority is said, not derived.
    let own_key = KeyHash::of_spki(parsed.public_key().raw);
    NewCertificate::read(&der, own_key).map_err(|error| Refused::found(error.to_string()))
}

fn settings(operated: &Operated, wanted: &ImportCa) -> Result<CaSettings, Refused> {
    let names: Result<Vec<NamePattern>, Refused> = wanted
        .names
        .iter()
        .map(|text| text.parse().map_err(|error| Refused::found(format!("{text:?}: {error}"))))
        .collect();
    let mut settings = CaSettings::registered_only(names?);
    if let Some(word) = &wanted.role {
        settings.role = Role::ALL
            .into_iter()
            .find(|role| role.as_str() == word)
            .ok_or_else(|| Refused::found(format!("{word:?} is no role: device, claim, operator are")))?;
    }
    settings.unknown = match (wanted.unknown.as_deref().unwrap_or("registered-only"), &wanted.template) {
        ("registered-only", None) => UnknownPolicy::RegisteredOnly,
        ("auto", None) => UnknownPolicy::Auto,
        ("jitr", None) => UnknownPolicy::Jitr,
        ("jitp", Some(template)) => UnknownPolicy::Jitp(
            TemplateName::try_from(template.as_str())
                .map_err(|error| Refused::found(format!("{template:?} cannot be a template: {error}")))?,
        ),
        ("jitp", None) => return Err(Refused::found("jitp needs a template")),
        (_, Some(_)) => return Err(Refused::found("a template goes with jitp only")),
        (word, None) => {
            return Err(Refused::found(format!("{word:?}: registered-only, auto, jitr and jitp are known")));
        }
    };
    settings.registers = settings.unknown != UnknownPolicy::RegisteredOnly;
    let registry = operated.registry.registry();
    let shares: Result<Vec<CaId>, Refused> = wanted
        .share_names_with
        .iter()
        .map(|word| match word.as_str() {
            "own" => operated.authority().map(|authority| authority.issuer().id()),
            id => ca_id(&registry, id),
        })
        .collect();
    settings.shares_names_with = shares?;
    settings.devices_max = wanted.devices_max.filter(|max| *max > 0);
    settings.joins_others = wanted.joins_others;
    if settings.joins_others && settings.unknown != UnknownPolicy::Auto {
        return Err(Refused::found("only an authority whose unknown certificates are \"auto\" joins others"));
    }
    Ok(settings)
}

pub(super) async fn set(at: At, Json(wanted): Json<SetCa>) -> Answer<Changed> {
    let snapshot = at.registry.snapshot();
    let id = ca_id(&snapshot, &wanted.id)?;
    let known = snapshot.ca(&id).ok_or(RegistryError::NoCa(id))?;
    if known.source == Source::Own {
        return Err(Refused::found(
            "the authority is this broker's own: no certificate of it comes in unknown",
        ));
    }
    let mut settings = known.settings.clone();
    if let Some(max) = wanted.devices_max {
        settings.devices_max = (max > 0).then_some(max);
    }
    settings.registers = wanted.registers.unwrap_or(settings.registers);
    settings.joins_others = wanted.joins_others.unwrap_or(settings.joins_others);
    if settings.joins_others && settings.unknown != UnknownPolicy::Auto {
        return Err(Refused::found("only an authority whose unknown certificates are \"auto\" joins others"));
    }
    let applied =
        at.registry.submit(Command::UpdateCa { ca: id, settings }, at.actor.clone()).answer().await?;
    Ok(Json(changed(&applied)))
}

pub(super) async fn list(at: At) -> Answer<RevocationList> {
    let operated = at.0;
    blocking(move || {
        let written = operated.authority()?.list();
        let written = written.ok_or_else(|| Refused::found("no revocation list has been written yet"))?;
        Ok(row(&written))
    })
    .await
}

pub(super) async fn write_list(at: At) -> Answer<RevocationList> {
    let operated = at.0;
    blocking(move || {
        let list = operated.authority()?.write_list(&operated.registry)?;
        let text = format!("written by command: number {}, {} entries", list.number, list.entries);
        operated.registry.note(Topic::Crl, &text, operated.actor.clone());
        Ok(row(&list))
    })
    .await
}

fn row(written: &WrittenList) -> RevocationList {
    RevocationList {
        file: written.path.display().to_string(),
        number: written.number,
        entries: written.entries as u64,
        this_update_ms: written.this_update.0,
        next_update_ms: written.next_update.0,
        pem: written.pem.clone(),
    }
}
