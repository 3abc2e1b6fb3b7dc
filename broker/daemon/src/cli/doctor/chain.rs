//! The way from a certificate up to a trusted authority, and what is missing on it.

use super::certificate::{Certificate, Signature, Signed};
use super::finding::Finding;

/// The most steps that are climbed.
const STEPS_MAX: usize = 16;

/// The authorities above a certificate.
#[derive(Debug, Default)]
pub(super) struct Path<'a> {
    /// From the certificate's signer upwards, up to and including the trust anchor if it came to that.
    pub(super) authorities: Vec<&'a Certificate>,
    /// Whether the last of them is trusted.
    pub(super) trusted: bool,
}

/// What a peer sends, put in order: the certificate itself and the rest.
pub(super) struct Chain {
    pub(super) leaf: Certificate,
    pub(super) rest: Vec<Certificate>,
}

impl Chain {
    /// Takes the certificates of a file or of a handshake, in their order.
    pub(super) fn new(mut certificates: Vec<Certificate>, findings: &mut Vec<Finding>) -> Option<Self> {
        let own = certificates.iter().position(|found| !found.authority).unwrap_or(0);
        if own > 0 {
            let (leaf, first) = (&certificates[own], &certificates[0]);
            findings
                .push(Finding::LeafNotFirst { subject: leaf.subject.clone(), first: first.subject.clone() });
        }
        if certificates.is_empty() {
            return None;
        }
        let leaf = certificates.remove(own);
        Some(Self { leaf, rest: certificates })
    }

    /// How many bytes of certificates are sent.
    pub(super) fn bytes(&self) -> usize {
        self.leaf.der.len() + self.rest.iter().map(|found| found.der.len()).sum::<usize>()
    }

    /// How many certificates are sent.
    pub(super) fn certificates(&self) -> usize {
        self.rest.len() + 1
    }

    /// Climbs from the certificate to one of `anchors`, trusted ones first, as OpenSSL does.
    ///
    /// Without `anchors` it climbs as far as what is sent leads, and nothing is called missing.
    pub(super) fn climb<'a>(&'a self, anchors: &'a [Certificate], findings: &mut Vec<Finding>) -> Path<'a> {
        let mut path = Path::default();
        if anchors.contains(&self.leaf) {
            path.trusted = true;
        } else {
            self.climb_to(anchors, &mut path, findings);
        }
        self.find_needless(&path, findings);
        if path.trusted {
            check_anchor(path.authorities.last().copied(), anchors, findings);
        }
        check_authorities(&path, findings);
        path
    }

    fn climb_to<'a>(&'a self, anchors: &'a [Certificate], path: &mut Path<'a>, findings: &mut Vec<Finding>) {
        for depth in 0..STEPS_MAX {
            let current = path.authorities.last().copied().unwrap_or(&self.leaf);
            if let Some(anchor) = signer(current, anchors) {
                path.authorities.push(anchor);
                path.trusted = true;
                return;
            }
            let known = |found: &&Certificate| path.authorities.contains(found) || **found == self.leaf;
            if let Some(next) = signer(current, &self.rest).filter(|next| !known(next)) {
                path.authorities.push(next);
                continue;
            }
            if anchors.is_empty() {
                return;
            }
            let subject = current.subject.clone();
            findings.push(if current.is_self_signed() {
                if depth == 0 { Finding::SelfSigned { subject } } else { Finding::UntrustedRoot { subject } }
            } else if anchors.iter().chain(&self.rest).any(|found| current.names_as_issuer(found)) {
                Finding::NamesakeIssuer { of: subject, issuer: current.issuer.clone() }
            } else {
                Finding::MissingIssuer { of: subject, issuer: current.issuer.clone(), depth }
            });
            return;
        }
    }

    /// Certificates that are sent and of no use.
    fn find_needless(&self, path: &Path<'_>, findings: &mut Vec<Finding>) {
        for (index, found) in self.rest.iter().enumerate() {
            let again = *found == self.leaf || self.rest.iter().take(index).any(|earlier| earlier == found);
            let subject = found.subject.clone();
            if found.is_self_signed() && !again {
                findings.push(Finding::RootInChain { subject, bytes: found.der.len() });
            } else if again || (!path.authorities.contains(&found) && !self.leads_anywhere(found)) {
                findings.push(Finding::UnrelatedInChain { subject });
            }
        }
    }

    /// Whether something that is sent names `found` as its issuer: then it belongs here, even if its key did not sign.
    fn leads_anywhere(&self, found: &Certificate) -> bool {
        let below = |other: &Certificate| other != found && other.names_as_issuer(found);
        below(&self.leaf) || self.rest.iter().any(below)
    }
}

/// The one of `among` whose key signed `certificate`; of a trusted root and its cross-signed twin, the root.
fn signer<'a>(certificate: &Certificate, among: &'a [Certificate]) -> Option<&'a Certificate> {
    let mut signers = among.iter().filter(|found| {
        *found != certificate
            && certificate.names_as_issuer(found)
            && certificate.signed_by(found) != Signed::No
    });
    let first = signers.next()?;
    Some(if first.is_self_signed() {
        first
    } else {
        signers.find(|found| found.is_self_signed()).unwrap_or(first)
    })
}

/// OpenSSL goes on from a trusted authority that is not self-signed, among what is trusted.
fn check_anchor(anchor: Option<&Certificate>, anchors: &[Certificate], findings: &mut Vec<Finding>) {
    let Some(mut current) = anchor else { return };
    for _ in 0..STEPS_MAX {
        if current.is_self_signed() {
            return;
        }
        let Some(next) = signer(current, anchors) else {
            let (anchor, issuer) = (current.subject.clone(), current.issuer.clone());
            findings.push(Finding::PartialChain { anchor, issuer });
            return;
        };
        current = next;
    }
}

/// What the authorities of a path must be allowed to do.
fn check_authorities(path: &Path<'_>, findings: &mut Vec<Finding>) {
    for (below, authority) in path.authorities.iter().enumerate() {
        let subject = authority.subject.clone();
        let is_anchor = path.trusted && below + 1 == path.authorities.len();
        if !authority.authority {
            findings.push(Finding::IssuerNotAuthority { subject });
            continue;
        }
        if authority.usage.is_some_and(|usage| !usage.key_cert_sign) {
            findings.push(Finding::IssuerMayNotSign { subject: subject.clone() });
        }
        if let Some(allowed) = authority.path_len
            && usize::try_from(allowed).is_ok_and(|allowed| below > allowed)
        {
            findings.push(Finding::PathLength { subject: subject.clone(), allowed, found: below });
        }
        // Nobody checks the signature of what is trusted for itself.
        if let Signature::Weak(algorithm) = &authority.signature
            && !is_anchor
        {
            findings.push(Finding::WeakSignature { subject, algorithm: algorithm.clone() });
        }
    }
}
