//! Authorities' certificates: the trust anchors, and those that an anchor vouches for.

use std::fmt;

use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use super::crl::{KeyHash, Revocation, SerialKey, is_sha1, sha256};
use super::source::{Source, SourceError, SourceProblem};
use super::trust::escaped;

/// A trust anchor.
pub(super) struct Anchor {
    pub(super) file: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) anchor: TrustAnchor<'static>,
    pub(super) subject: String,
    /// The subject with its SEQUENCE header.
    pub(super) subject_der: Vec<u8>,
    pub(super) key: KeyHash,
    /// Names what a path ends in: subject, key and name constraints.
    pub(super) id: [u8; 32],
    pub(super) may_sign_crls: bool,
    spki: Vec<u8>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// How many authorities may follow below it.
    path_len: Option<u32>,
}

impl Anchor {
    pub(super) fn load(file: &str, number: usize, der: &[u8]) -> Result<Self, SourceProblem> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| unparsable(number, &e))?;
        if !rest.is_empty() {
            return Err(unparsable(number, &"there are bytes after its end"));
        }
        let subject = escaped(certificate.subject());
        let not_an_authority = |missing| SourceProblem::NotAnAuthority { subject: subject.clone(), missing };
        if certificate.version() == X509Version::V1 {
            return Err(SourceProblem::AnchorVersionOne { subject });
        }
        let usage = certificate.key_usage().map_err(|e| unparsable(number, &e))?;
        let constraints = certificate.basic_constraints().map_err(|e| unparsable(number, &e))?;
        let Some(basic) = constraints.filter(|constraints| constraints.value.ca) else {
            return Err(not_an_authority("its basicConstraints do not say CA:TRUE"));
        };
        let path_len = basic.value.path_len_constraint;
        if usage.as_ref().is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(not_an_authority("its keyUsage lacks keyCertSign"));
        }
        let der = CertificateDer::from(der.to_vec());
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|e| unparsable(number, &e))?;
        let constraints = anchor.name_constraints.as_deref().unwrap_or_default();
        let parts = [&anchor.subject[..], &anchor.subject_public_key_info[..], constraints];
        let id = sha256(&parts.map(|part| sha256(&[part])).each_ref().map(|hash| &hash[..]));
        let spki = certificate.public_key().raw.to_vec();
        Ok(Self {
            file: file.to_owned(),
            subject_der: certificate.subject().as_raw().to_vec(),
            key: KeyHash::of(&spki),
            id,
            may_sign_crls: usage.is_none_or(|usage| usage.value.crl_sign()),
            spki,
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            path_len,
            subject,
            anchor: anchor.to_owned(),
            der: der.clone(),
        })
    }

    /// The SubjectPublicKeyInfo, DER.
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn has_name_constraints(&self) -> bool {
        self.anchor.name_constraints.is_some()
    }

    pub(super) fn public_key(&self) -> Option<SubjectPublicKeyInfo<'_>> {
        SubjectPublicKeyInfo::from_der(&self.spki).ok().map(|(_, key)| key)
    }

    /// Whether `lists`, signed by one of `anchors` that issued this one, revoke it.
    pub(super) fn is_revoked(&self, anchors: &[Self], lists: &Revocation) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(&self.der) else { return true };
        let Some(serial) = SerialKey::new(certificate.raw_serial()) else { return false };
        anchors
            .iter()
            .any(|issuer| lists.lists_serial(issuer.key, &serial).is_some() && issuer.signed(&certificate))
    }

    /// Whether this authority signed the certificate.
    fn signed(&self, certificate: &X509Certificate<'_>) -> bool {
        self.subject_der == certificate.issuer().as_raw()
            && self.public_key().is_some_and(|key| certificate.verify_signature(Some(&key)).is_ok())
    }
}

/// Those of the authorities in `known` that an anchor vouches for, directly or through others of them: whose lists count,
/// though they are not trusted by themselves.
pub(super) fn vouched_for(anchors: &[Anchor], known: Vec<Anchor>) -> Vec<Anchor> {
    let mut good: Vec<(Anchor, Option<u32>)> = Vec::new();
    let mut open = known;
    loop {
        let before = open.len();
        let (mut found, mut rest) = (Vec::new(), Vec::new());
        for authority in open {
            let above = anchors.iter().map(|anchor| (anchor, anchor.path_len));
            let above = above.chain(good.iter().map(|(authority, left)| (authority, *left)));
            match authority.room_below(above) {
                Some(left) => found.push((authority, left)),
                None => rest.push(authority),
            }
        }
        good.extend(found);
        open = rest;
        if open.len() == before {
            return good.into_iter().map(|(authority, _)| authority).collect();
        }
    }
}

impl Anchor {
    /// How many authorities may follow below this one, as the first of those above that signed it has it; `None` when none
    /// of them did, or none had room for it (RFC 5280 section 4.2.1.9).
    fn room_below<'a>(
        &self,
        mut above: impl Iterator<Item = (&'a Self, Option<u32>)>,
    ) -> Option<Option<u32>> {
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        if is_sha1(&certificate.signature_algorithm) {
            return None;
        }
        let left = above.find_map(|(issuer, left)| {
            (left != Some(0) && issuer.signed(&certificate)).then(|| left.map(|count| count - 1))
        })?;
        Some(match (left, self.path_len) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }
}

fn unparsable(number: usize, reason: &dyn fmt::Display) -> SourceProblem {
    SourceProblem::Unparsable { what: "certificate", number, reason: reason.to_string() }
}

pub(super) fn load_anchors(sources: &[Source], errors: &mut Vec<SourceError>) -> Vec<Anchor> {
    const EXPECTED: &str = "certificate";
    let mut anchors: Vec<Anchor> = Vec::new();
    for source in sources {
        let sections = match source.sections(SectionKind::Certificate) {
            Ok(sections) => sections,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        if sections.is_empty() {
            errors.push(source.error(SourceProblem::Nothing { expected: EXPECTED }));
        }
        for (section, number) in sections.iter().zip(1..) {
            if section.kind != SectionKind::Certificate {
                let found = section.noun();
                errors.push(source.error(SourceProblem::Misplaced { found, expected: EXPECTED }));
                continue;
            }
            match Anchor::load(&source.file, number, &section.der) {
                Err(problem) => errors.push(source.error(problem)),
                Ok(anchor) => keep_longest(&mut anchors, anchor),
            }
        }
    }
    anchors
}

/// A root renewed with its old name and key is one anchor twice; the path builder would take either, so the
/// one that lasts longer counts.
fn keep_longest(anchors: &mut Vec<Anchor>, anchor: Anchor) {
    match anchors.iter_mut().find(|known| known.id == anchor.id) {
        None => anchors.push(anchor),
        Some(known) if known.not_after < anchor.not_after => *known = anchor,
        Some(_) => {}
    }
}

/// The authorities among the certificates of these files. What is none, or cannot be read, is left out: they are files of
/// something else.
pub(super) fn authorities_in<'a>(sources: impl Iterator<Item = &'a Source>) -> Vec<Anchor> {
    let sections = sources.flat_map(|source| {
        let sections = source.sections(SectionKind::Crl).unwrap_or_default();
        sections.into_iter().map(move |section| (source, section))
    });
    sections
        .filter(|(_, section)| section.kind == SectionKind::Certificate)
        .filter_map(|(source, section)| Anchor::load(&source.file, 1, &section.der).ok())
        .collect()
}
