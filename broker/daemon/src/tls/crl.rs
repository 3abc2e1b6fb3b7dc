//! Revocation lists: parsed and verified once when loaded, then a hash set each.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::AlgorithmIdentifier;

use super::anchor::Anchor;
use super::editions::Edition;
use super::options::{CrlCoverage, StaleCrl, TrustOptions};
use super::source::SourceProblem;
use super::trust::escaped;
use super::{VerifyFailure, Which};

/// The SHA-256 of an authority's SubjectPublicKeyInfo: which key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct KeyHash(pub(super) [u8; 32]);

impl KeyHash {
    pub(super) fn of(spki: &[u8]) -> Self {
        Self(sha256(&[spki]))
    }
}

pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// A serial number without leading zeros, of at most 20 octets (RFC 5280, 4.1.2.2), stored in place: a list
/// of 100 000 makes no 100 000 allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SerialKey {
    len: u8,
    octets: [u8; 20],
}

impl SerialKey {
    /// `None` when it has more than 20 octets.
    pub(super) fn new(raw: &[u8]) -> Option<Self> {
        let leading = raw.iter().take_while(|&&octet| octet == 0).count();
        let significant = raw.get(leading..)?;
        let mut octets = [0; 20];
        octets.get_mut(..significant.len())?.copy_from_slice(significant);
        Some(Self { len: u8::try_from(significant.len()).ok()?, octets })
    }

    /// Big-endian, without leading zeros.
    pub(super) fn octets(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// A certificate as revocation lists know it, at its place in a verified path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathId {
    pub(super) issuer: KeyHash,
    pub(super) serial: SerialKey,
    pub(super) which: Which,
}

/// Which certificates a list speaks of (RFC 5280, 5.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Users,
    Authorities,
}

impl Scope {
    const fn covers(self, which: Which) -> bool {
        !matches!((self, which), (Self::Users, Which::Authority) | (Self::Authorities, Which::Leaf))
    }
}

/// One verified list.
pub(super) struct Crl {
    pub(super) file: String,
    pub(super) issuer: String,
    issuer_key: KeyHash,
    scope: Scope,
    /// The issuing distribution point as it stands in the list: lists that differ in it do not replace one
    /// another.
    point: Vec<u8>,
    /// cRLNumber, big-endian without leading zeros; `None` in a list of version 1.
    number: Option<Vec<u8>>,
    pub(super) this_update: i64,
    pub(super) next_update: Option<i64>,
    /// What it means that this list is stale, where that is said for its issuer.
    stale: Option<StaleCrl>,
    revoked: HashSet<SerialKey>,
}

impl Crl {
    /// Parses and verifies a list against the `signers`: the trust anchors, and authorities that an anchor vouches for.
    pub(super) fn load(
        file: &str,
        number: usize,
        der: &[u8],
        signers: &[&Anchor],
    ) -> Result<Self, SourceProblem> {
        let unparsable =
            |reason: String| SourceProblem::Unparsable { what: "revocation list", number, reason };
        let (rest, crl) =
            CertificateRevocationList::from_der(der).map_err(|error| unparsable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(unparsable("there are bytes after its end".to_owned()));
        }
        if crl.signature_algorithm != crl.tbs_cert_list.signature {
            return Err(unparsable("it names two different signature algorithms".to_owned()));
        }
        let (scope, point) = read_extensions(&crl)?;
        let issuer = escaped(crl.issuer());
        let signer = find_signer(&crl, signers, &issuer)?;
        let mut revoked = HashSet::with_capacity(crl.tbs_cert_list.revoked_certificates.len());
        for entry in crl.iter_revoked_certificates() {
            read_entry_extensions(entry)?;
            revoked.insert(SerialKey::new(entry.raw_serial()).ok_or(SourceProblem::CrlSerialTooLong)?);
        }
        Ok(Self {
            file: file.to_owned(),
            issuer,
            issuer_key: signer.key,
            scope,
            point,
            number: crl.crl_number().map(|number| number.to_bytes_be()),
            this_update: crl.last_update().timestamp(),
            next_update: crl.next_update().map(|time| time.timestamp()),
            stale: None,
            revoked,
        })
    }

    /// Whether the other list speaks of the same certificates, so that the newer of the two counts.
    fn replaces(&self, other: &Self) -> bool {
        self.issuer_key == other.issuer_key && self.point == other.point
    }

    /// What is remembered of it, so that it is known when an older one is offered.
    pub(super) fn edition(&self) -> Edition {
        Edition {
            issuer_key: self.issuer_key.0,
            point: sha256(&[&self.point]),
            issuer: self.issuer.clone(),
            number: self.number.clone(),
            this_update: self.this_update,
        }
    }

    /// By cRLNumber, or by thisUpdate where one of the two has no number or the numbers are equal.
    fn age_order(&self, other: &Self) -> Ordering {
        age_order((self.number.as_deref(), self.this_update), (other.number.as_deref(), other.this_update))
    }

    /// How long the list was to count, and when it is due, in seconds; `None` when it says no end.
    pub(super) fn validity(&self) -> Option<i64> {
        self.next_update.map(|end| end.saturating_sub(self.this_update))
    }

    pub(super) fn entries(&self) -> usize {
        self.revoked.len()
    }

    /// When it was due, if it counts no more.
    fn stale(&self, policy: StaleCrl, now: i64) -> Option<i64> {
        let next_update = self.next_update?;
        let grace = match self.stale.unwrap_or(policy) {
            StaleCrl::Reject => 0,
            StaleCrl::Grace(grace) => i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
            StaleCrl::Warn => return None,
        };
        (now > next_update.saturating_add(grace)).then_some(next_update)
    }
}

/// By cRLNumber, or by thisUpdate where one of the two has no number or the numbers are equal.
pub(super) fn age_order(a: (Option<&[u8]>, i64), b: (Option<&[u8]>, i64)) -> Ordering {
    let by_number = match (a.0, b.0) {
        (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        _ => Ordering::Equal,
    };
    by_number.then(a.1.cmp(&b.1))
}

/// Finds the signer that has the list's issuer name and whose key verifies it. Several may share a name
/// while an authority changes its key.
fn find_signer<'a>(
    crl: &CertificateRevocationList<'_>,
    signers: &[&'a Anchor],
    issuer: &str,
) -> Result<&'a Anchor, SourceProblem> {
    let issuer = || issuer.to_owned();
    let mut named =
        signers.iter().copied().filter(|signer| signer.subject_der == crl.issuer().as_raw()).peekable();
    if named.peek().is_none() {
        return Err(SourceProblem::CrlIssuerUnknown { issuer: issuer() });
    }
    if is_sha1(&crl.signature_algorithm) {
        return Err(SourceProblem::CrlForm { form: "a list signed with SHA-1" });
    }
    let signer = named
        .find(|signer| signer.public_key().is_some_and(|key| crl.verify_signature(&key).is_ok()))
        .ok_or_else(|| SourceProblem::CrlBadSignature { issuer: issuer() })?;
    if !signer.may_sign_crls {
        return Err(SourceProblem::CrlIssuerNotAllowed { issuer: issuer() });
    }
    Ok(signer)
}

/// The parser's verifier would take SHA-1, which collides.
pub(super) fn is_sha1(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    matches!(
        algorithm.algorithm.to_id_string().as_str(),
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10045.4.1"
    )
}

fn read_extensions(crl: &CertificateRevocationList<'_>) -> Result<(Scope, Vec<u8>), SourceProblem> {
    let form = |form| Err(SourceProblem::CrlForm { form });
    let mut scope = Scope::All;
    let mut point = Vec::new();
    for extension in crl.extensions() {
        let oid = extension.oid.to_id_string();
        match oid.as_str() {
            "2.5.29.27" => return form("a delta list"),
            "2.5.29.28" => {
                let ParsedExtension::IssuingDistributionPoint(idp) = extension.parsed_extension() else {
                    return Err(SourceProblem::CrlCriticalExtension { oid });
                };
                if idp.indirect_crl {
                    return form("an indirect list");
                }
                if idp.only_some_reasons.is_some() {
                    return form("a list of some revocation reasons only");
                }
                if idp.only_contains_attribute_certs {
                    return form("a list of attribute certificates");
                }
                scope = match (idp.only_contains_user_certs, idp.only_contains_ca_certs) {
                    (false, false) => Scope::All,
                    (true, false) => Scope::Users,
                    (false, true) => Scope::Authorities,
                    (true, true) => return form("a list that is for users only and for authorities only"),
                };
                point = extension.value.to_vec();
            }
            "2.5.29.20" if !matches!(extension.parsed_extension(), ParsedExtension::CRLNumber(_)) => {
                return Err(SourceProblem::CrlCriticalExtension { oid });
            }
            "2.5.29.20" | "2.5.29.35" => {}
            _ if extension.critical => return Err(SourceProblem::CrlCriticalExtension { oid }),
            _ => {}
        }
    }
    Ok((scope, point))
}

fn read_entry_extensions(
    entry: &x509_parser::revocation_list::RevokedCertificate<'_>,
) -> Result<(), SourceProblem> {
    for extension in entry.extensions() {
        let oid = extension.oid.to_id_string();
        match oid.as_str() {
            "2.5.29.29" => return Err(SourceProblem::CrlForm { form: "an indirect list" }),
            // reasonCode and invalidityDate say why and since when; revoked is revoked.
            "2.5.29.21" | "2.5.29.24" => {}
            _ if extension.critical => return Err(SourceProblem::CrlCriticalExtension { oid }),
            _ => {}
        }
    }
    Ok(())
}

/// All the lists of a trust snapshot, by the key that signed them.
#[derive(Default)]
pub(super) struct Revocation {
    by_issuer: HashMap<KeyHash, Vec<Crl>>,
}

impl Revocation {
    /// Adds a list. An older list of the same issuer and scope gives way; the file of the one left out is
    /// returned.
    pub(super) fn add(&mut self, crl: Crl) -> Option<String> {
        let lists = self.by_issuer.entry(crl.issuer_key).or_default();
        match lists.iter_mut().find(|list| crl.replaces(list)) {
            None => {
                lists.push(crl);
                None
            }
            Some(list) if crl.age_order(list).is_gt() => Some(std::mem::replace(list, crl).file),
            Some(_) => Some(crl.file),
        }
    }

    /// Puts a list in the place of an older edition; the file of that. Without one it is not taken.
    pub(super) fn renew(&mut self, crl: Crl) -> Option<String> {
        let lists = self.by_issuer.get_mut(&crl.issuer_key)?;
        let older = lists.iter_mut().find(|list| crl.replaces(list) && crl.age_order(list).is_gt())?;
        Some(std::mem::replace(older, crl).file)
    }

    pub(super) fn lists(&self) -> impl Iterator<Item = &Crl> {
        self.by_issuer.values().flatten()
    }

    /// Says what it means that lists of the issuer called `issuer` are stale; whether there are any.
    pub(super) fn set_stale(&mut self, issuer: &str, stale: StaleCrl) -> bool {
        let lists = self.by_issuer.values_mut().flatten().filter(|crl| crl.issuer == issuer);
        lists.map(|crl| crl.stale = Some(stale)).count() > 0
    }

    /// The list in force of which `crl` is an older edition.
    pub(super) fn newer_than(&self, crl: &Crl) -> Option<&Crl> {
        let lists = self.by_issuer.get(&crl.issuer_key)?;
        lists.iter().find(|list| crl.replaces(list) && crl.age_order(list).is_lt())
    }

    pub(super) fn lists_serial(&self, issuer: KeyHash, serial: &SerialKey) -> Option<&Crl> {
        self.by_issuer.get(&issuer)?.iter().find(|crl| crl.revoked.contains(serial))
    }

    /// Judges every certificate of a path: listed anywhere, list stale, list missing, in this order of
    /// weight, so that a revoked certificate is called revoked whatever else is wrong.
    pub(super) fn check(
        &self,
        path: &[PathId],
        options: &TrustOptions,
        issuer_name: impl Fn(KeyHash) -> String,
        now: i64,
    ) -> Result<(), VerifyFailure> {
        if self.by_issuer.is_empty() {
            return Ok(());
        }
        for id in path {
            if let Some(crl) = self.lists_serial(id.issuer, &id.serial) {
                return Err(VerifyFailure::Revoked { which: id.which, issuer: crl.issuer.clone() });
            }
        }
        for id in path {
            let lists = self.by_issuer.get(&id.issuer).map_or(&[][..], Vec::as_slice);
            let mut covered = false;
            for crl in lists.iter().filter(|crl| crl.scope.covers(id.which)) {
                covered = true;
                if let Some(next_update) = crl.stale(options.stale, now) {
                    return Err(VerifyFailure::CrlStale {
                        issuer: crl.issuer.clone(),
                        next_update: next_update.unsigned_abs(),
                        now: now.unsigned_abs(),
                    });
                }
            }
            let needed = match options.coverage {
                CrlCoverage::IfPresent => false,
                CrlCoverage::Leaf => id.which == Which::Leaf,
                CrlCoverage::Chain => true,
            };
            if needed && !covered {
                return Err(VerifyFailure::CrlMissing { issuer: issuer_name(id.issuer) });
            }
        }
        Ok(())
    }
}
