//! Whom a listener trusts: trust anchors and revocation lists, loaded whole or not at all.

use std::fmt;
use std::sync::Arc;

use rustls::DistinguishedName;
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{TrustAnchor, UnixTime};
use signet_identity::Issued;
use x509_parser::x509::X509Name;

use super::anchor::{Anchor, authorities_in, load_anchors, vouched_for};
use super::crl::{Crl, KeyHash, PathId, Revocation, SerialKey, sha256};
use super::editions::{Edition, Editions};
use super::options::{EkuRule, StaleCrl, TrustOptions, X509V1};
use super::source::{Source, SourceError, SourceProblem, in_words};
use super::warning::{TrustWarning, warn_of_ends};
use super::{VerifyFailure, Which};

/// The longest name in a message, in characters.
const NAME_SHOWN_MAX: usize = 256;
/// The most bytes of authority names that a CertificateRequest carries; beyond, none are sent.
const HINT_BYTES_MAX: usize = 512;

/// A distinguished name for a message: escaped, on one line, bounded.
pub(super) fn escaped(name: &X509Name<'_>) -> String {
    name.to_string().chars().flat_map(char::escape_default).take(NAME_SHOWN_MAX).collect()
}

/// What is known of a revocation list in force, for metrics and `signet crl show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlInfo {
    /// The file it came from.
    pub file: String,
    /// Its issuer.
    pub issuer: String,
    /// Number and thisUpdate, in words.
    pub edition: String,
    /// Its thisUpdate, Unix seconds.
    pub this_update: i64,
    /// Its nextUpdate, Unix seconds.
    pub next_update: Option<i64>,
    /// How many certificates it revokes.
    pub entries: usize,
}

/// Whom a listener trusts, immutable once loaded.
///
/// The generation changes when the trust anchors or the rules for a chain do. A change of revocation lists
/// alone keeps it: revocation is looked up anew at every judgement.
pub struct Trust {
    generation: u64,
    anchors_hash: [u8; 32],
    anchors: Vec<Anchor>,
    trust_anchors: Vec<TrustAnchor<'static>>,
    revocation: Revocation,
    /// Of trust anchors that a list revokes, unless another anchor has the same key.
    revoked_keys: Vec<KeyHash>,
    options: TrustOptions,
}

impl Trust {
    /// Loads trust anchors from `client_ca` and revocation lists from `crls`, PEM or DER.
    ///
    /// Lists are verified here, once, against the anchors. A list that is older than the one of the same
    /// issuer in `previous` is refused. `now` is used for warnings and to say how old something is.
    ///
    /// A list may also be signed by an authority that is no anchor, when its certificate stands in a file of `crls`, or in
    /// `beside` (the server's chain), and an anchor vouches for it. `elsewhere` are files of other listeners: a newer edition
    /// of a list of `crls` counts in its place.
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn load(
        client_ca: &[Source],
        (crls, elsewhere): (&[Source], &[Source]),
        beside: Option<&Source>,
        options: TrustOptions,
        previous: Option<&Self>,
        now: UnixTime,
    ) -> Result<(Self, Vec<TrustWarning>), Vec<SourceError>> {
        let now = seconds(now);
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let anchors = load_anchors(client_ca, &mut errors);
        if client_ca.is_empty() {
            let problem = SourceProblem::Nothing { expected: "certificate" };
            errors.push(SourceError { file: "client-ca".to_owned(), problem });
        }
        // Without all the anchors, lists would be called unsigned that are not.
        if !errors.is_empty() {
            return Err(errors);
        }
        let in_force = previous.map(|trust| &trust.revocation);
        let others = vouched_for(&anchors, authorities_in(crls.iter().chain(beside)));
        let signers: Vec<&Anchor> = anchors.iter().chain(&others).collect();
        let revocation = load_crls((crls, elsewhere), &signers, in_force, &mut errors, &mut warnings);
        let revoked: Vec<bool> = anchors.iter().map(|a| a.is_revoked(&anchors, &revocation)).collect();
        let mut kept = Vec::with_capacity(anchors.len());
        let mut revoked_keys = Vec::new();
        for (anchor, revoked) in anchors.into_iter().zip(revoked) {
            let (file, subject) = (anchor.file.clone(), anchor.subject.clone());
            if revoked {
                warnings.push(TrustWarning::AnchorRevoked { file, subject });
                revoked_keys.push(anchor.key);
                continue;
            }
            if anchor.not_after < now {
                let ago = in_words(now - anchor.not_after);
                warnings.push(TrustWarning::AnchorExpired { file, subject, ago });
            }
            kept.push(anchor);
        }
        if kept.is_empty()
            && errors.is_empty()
            && let Some(source) = client_ca.first()
        {
            errors.push(source.error(SourceProblem::EveryAnchorRevoked));
        }
        revoked_keys.retain(|key| !kept.iter().any(|anchor| anchor.key == *key));
        warn_of_ends(&revocation, now, &mut warnings);
        if errors.is_empty() {
            Ok((Self { revoked_keys, ..Self::new(kept, revocation, options, previous) }, warnings))
        } else {
            Err(errors)
        }
    }

    fn new(
        anchors: Vec<Anchor>,
        revocation: Revocation,
        options: TrustOptions,
        previous: Option<&Self>,
    ) -> Self {
        let mut certificates: Vec<&[u8]> = anchors.iter().map(|anchor| anchor.der.as_ref()).collect();
        certificates.sort_unstable();
        let hashes: Vec<[u8; 32]> = certificates.iter().map(|der| sha256(&[der])).collect();
        let rules = [options.eku == EkuRule::Required, options.x509_v1 == X509V1::Accept].map(u8::from);
        let grace = options.expired_grace.as_secs().to_be_bytes();
        let anchors_hash = sha256(&[hashes.as_flattened(), &rules, &grace]);
        let generation = match previous {
            None => 1,
            Some(previous) if previous.anchors_hash == anchors_hash => previous.generation,
            Some(previous) => previous.generation.saturating_add(1),
        };
        let trust_anchors = anchors.iter().map(|anchor| anchor.anchor.clone()).collect();
        Self {
            generation,
            anchors_hash,
            anchors,
            trust_anchors,
            revocation,
            revoked_keys: Vec::new(),
            options,
        }
    }

    /// Counts the changes of anchors and rules since the start; 1 at first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Names the anchors and rules by content: what was verified under the same hash is verified.
    #[must_use]
    pub fn anchors_hash(&self) -> [u8; 32] {
        self.anchors_hash
    }

    /// How certificates are judged.
    #[must_use]
    pub fn options(&self) -> TrustOptions {
        self.options
    }

    /// The subjects of the trust anchors, escaped.
    pub fn anchor_subjects(&self) -> impl Iterator<Item = &str> {
        self.anchors.iter().map(|anchor| anchor.subject.as_str())
    }

    /// The revocation lists in force.
    pub fn crls(&self) -> impl Iterator<Item = CrlInfo> {
        self.revocation.lists().map(|crl| CrlInfo {
            file: crl.file.clone(),
            issuer: crl.issuer.clone(),
            edition: crl.edition().to_string(),
            this_update: crl.this_update,
            next_update: crl.next_update,
            entries: crl.entries(),
        })
    }

    /// What is to be remembered of the revocation lists in force.
    pub fn editions(&self) -> impl Iterator<Item = Edition> {
        self.revocation.lists().map(Crl::edition)
    }

    /// Says for single issuers, by name, what it means that their lists are stale. `from` is what the problem of a name is
    /// told with.
    pub(super) fn set_stale(&mut self, by_issuer: &[(String, StaleCrl)], from: &Source) -> Vec<SourceError> {
        let mut problems = Vec::new();
        for (issuer, stale) in by_issuer {
            if !self.revocation.set_stale(issuer, *stale) {
                let known = self.revocation.lists().map(|crl| crl.issuer.clone()).collect();
                problems.push(from.error(SourceProblem::NoListOf { issuer: issuer.clone(), known }));
            }
        }
        problems
    }

    /// The lists of which a newer one has been seen before, at some earlier time.
    pub(super) fn behind(&self, seen: &Editions) -> Vec<SourceError> {
        let behind = |crl: &Crl| {
            let offered = crl.edition();
            let newer = seen.newer_than(&offered)?;
            let (issuer, in_force) = (crl.issuer.clone(), newer.to_string());
            let problem =
                SourceProblem::CrlBehindMemory { issuer, offered: offered.to_string(), seen: in_force };
            Some(SourceError { file: crl.file.clone(), problem })
        };
        self.revocation.lists().filter_map(behind).collect()
    }

    /// The lists of which this broker has published a newer one.
    pub(super) fn behind_published(&self, seen: &Editions) -> Vec<TrustWarning> {
        let behind = |crl: &Crl| {
            let offered = crl.edition();
            let published = seen.newer_published(&offered)?.to_string();
            let (file, issuer) = (crl.file.clone(), crl.issuer.clone());
            Some(TrustWarning::CrlBehindPublished { file, issuer, offered: offered.to_string(), published })
        };
        self.revocation.lists().filter_map(behind).collect()
    }

    /// The names that a CertificateRequest carries as hints, or none when they would take more than 512
    /// bytes: a small device pays for every byte, and most pay no attention.
    pub(super) fn hints(&self) -> Arc<[DistinguishedName]> {
        let bytes: usize = self.anchors.iter().map(|anchor| anchor.subject_der.len()).sum();
        if bytes > HINT_BYTES_MAX {
            return Arc::new([]);
        }
        self.trust_anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect()
    }

    pub(super) fn trust_anchors(&self) -> &[TrustAnchor<'static>] {
        &self.trust_anchors
    }

    /// The loaded form of the anchor in which a path ended.
    pub(super) fn anchor_of(&self, found: &TrustAnchor<'_>) -> Option<&Anchor> {
        // Both lists are made in one order from the same certificates.
        let at = self.trust_anchors.iter().position(|anchor| anchor == found)?;
        self.anchors.get(at)
    }

    /// The anchors with this subject, given with its SEQUENCE header.
    pub(super) fn anchors_called(&self, subject: &[u8]) -> impl Iterator<Item = &Anchor> {
        self.anchors.iter().filter(move |anchor| anchor.subject_der == subject)
    }

    /// The anchor of this name, if it is valid at `now`.
    pub(super) fn valid_anchor(&self, id: &[u8; 32], now: i64) -> Option<&Anchor> {
        self.anchors
            .iter()
            .find(|anchor| anchor.id == *id && (anchor.not_before..=anchor.not_after).contains(&now))
    }

    /// Whether a list in force names the certificate with this serial number of the authority with this key.
    #[must_use]
    pub fn lists(&self, issued: Issued<'_>) -> bool {
        SerialKey::new(issued.serial)
            .is_some_and(|serial| self.revocation.lists_serial(KeyHash(*issued.issuer), &serial).is_some())
    }

    /// Whether the authority with this key was a trust anchor that a list in force names.
    #[must_use]
    pub fn has_revoked_anchor(&self, key: &[u8; 32]) -> bool {
        self.revoked_keys.contains(&KeyHash(*key))
    }

    /// The keys of the trust anchors that are valid at `now` and that none of the lists of `trusts` names.
    pub fn good_anchors<'a>(
        &'a self,
        trusts: &'a [Arc<Self>],
        now: UnixTime,
    ) -> impl Iterator<Item = [u8; 32]> + 'a {
        let now = seconds(now);
        let valid = move |anchor: &&Anchor| (anchor.not_before..=anchor.not_after).contains(&now);
        let listed = move |anchor: &Anchor| {
            trusts.iter().any(|trust| anchor.is_revoked(&trust.anchors, &trust.revocation))
        };
        self.anchors.iter().filter(valid).filter(move |anchor| !listed(anchor)).map(|anchor| anchor.key.0)
    }

    /// Whether a path came from a trust anchor that a list has revoked since.
    pub(super) fn check_anchor(&self, path: &[PathId]) -> Result<(), VerifyFailure> {
        match path.last().filter(|id| self.revoked_keys.contains(&id.issuer)) {
            None => Ok(()),
            Some(_) => {
                let issuer = "the authority above its trust anchor".to_owned();
                Err(VerifyFailure::Revoked { which: Which::Authority, issuer })
            }
        }
    }

    pub(super) fn check_revocation(&self, path: &[PathId], now: i64) -> Result<(), VerifyFailure> {
        let issuer_name = |key| {
            let anchor = self.anchors.iter().find(|anchor| anchor.key == key);
            anchor.map_or_else(|| "an intermediate authority".to_owned(), |anchor| anchor.subject.clone())
        };
        self.revocation.check(path, &self.options, issuer_name, now)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("generation", &self.generation)
            .field("anchors", &self.anchors.len())
            .field("crls", &self.revocation.lists().count())
            .finish_non_exhaustive()
    }
}

pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn load_crls(
    (sources, elsewhere): (&[Source], &[Source]),
    signers: &[&Anchor],
    in_force: Option<&Revocation>,
    errors: &mut Vec<SourceError>,
    warnings: &mut Vec<TrustWarning>,
) -> Revocation {
    const EXPECTED: &str = "revocation list";
    let mut revocation = Revocation::default();
    for source in sources {
        let sections = match source.sections(SectionKind::Crl) {
            Ok(sections) => sections,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let has_list = sections.iter().any(|section| section.kind == SectionKind::Crl);
        if sections.is_empty() {
            errors.push(source.error(SourceProblem::Nothing { expected: EXPECTED }));
        }
        for (section, number) in sections.iter().zip(1..) {
            // The certificate of a list's issuer may stand beside it.
            if has_list && section.kind == SectionKind::Certificate {
                continue;
            }
            if section.kind != SectionKind::Crl {
                let found = section.noun();
                errors.push(source.error(SourceProblem::Misplaced { found, expected: EXPECTED }));
                continue;
            }
            match Crl::load(&source.file, number, &section.der, signers) {
                Err(problem) => errors.push(source.error(problem)),
                Ok(crl) => {
                    if let Some(file) = revocation.add(crl) {
                        warnings.push(TrustWarning::CrlSuperseded { file });
                    }
                }
            }
        }
    }
    renew_from(elsewhere, sources, signers, &mut revocation, warnings);
    if let Some(in_force) = in_force {
        for crl in revocation.lists() {
            if let Some(newer) = in_force.newer_than(crl) {
                let (offered, in_force) = (crl.edition().to_string(), newer.edition().to_string());
                let problem = SourceProblem::CrlWentBack { issuer: crl.issuer.clone(), offered, in_force };
                errors.push(SourceError { file: crl.file.clone(), problem });
            }
        }
    }
    revocation
}

/// Puts newer editions, which other listeners have, in the place of lists that are there. What is wrong with their files is
/// said where they belong.
fn renew_from(
    elsewhere: &[Source],
    own: &[Source],
    signers: &[&Anchor],
    revocation: &mut Revocation,
    warnings: &mut Vec<TrustWarning>,
) {
    for source in elsewhere.iter().filter(|source| !own.iter().any(|own| own.bytes == source.bytes)) {
        let sections = source.sections(SectionKind::Crl).unwrap_or_default();
        for (section, number) in sections.iter().zip(1..).filter(|(s, _)| s.kind == SectionKind::Crl) {
            let Ok(crl) = Crl::load(&source.file, number, &section.der, signers) else { continue };
            let (issuer, newer) = (crl.issuer.clone(), crl.file.clone());
            if let Some(file) = revocation.renew(crl) {
                warnings.push(TrustWarning::CrlBehindCopy { file, issuer, newer });
            }
        }
    }
}
