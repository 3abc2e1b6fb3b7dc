//! Issuers of client certificates whose own path has been verified: the next device of the same issuer costs one signature
//! less.
//!
//! It is sound for the reason that the cache of chains is: that an intermediate leads to an anchor is a pure function of its
//! bytes, the anchors and rules, and the time. An entry is found by the hash of the intermediate, bound to the hash of the
//! anchors and rules, and used only inside the common validity of the authorities. It is made from a path that was verified
//! as a whole, and of that path only the link from the intermediate upwards is remembered: the leaf's own form, purpose,
//! validity and signature are looked at each time, and so is the revocation of every certificate of the path. It serves only
//! who shows the same authorities in the order of the path: another may have come by other certificates of the same keys.
//!
//! Name constraints bind what is far below them, so a path that has any is not remembered.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::EndEntityCert;

use super::crl::{KeyHash, PathId, sha256};
use super::provider::CLIENT_SIGNATURES;
use super::trust::seconds;

/// What stands above a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authorities {
    /// [`Trust::anchors_hash`](super::Trust::anchors_hash) at the time.
    pub(super) anchors: [u8; 32],
    /// The anchor in which the path ends, named by hash.
    pub(super) anchor: [u8; 32],
    /// Their common validity, anchor included, in Unix seconds, both ends included.
    pub(super) window: (i64, i64),
    /// The key of the leaf's issuer.
    pub(super) issuer: KeyHash,
    /// The intermediates, from the anchor down.
    pub(super) ids: Vec<PathId>,
    /// The SHA-256 of the intermediates, from the leaf's issuer up.
    pub(super) hashes: Vec<[u8; 32]>,
}

/// An intermediate that leads to an anchor.
#[derive(Debug)]
pub(super) struct Issuer {
    /// Its name and key, as an anchor for what it issued.
    anchor: TrustAnchor<'static>,
    /// It and what stands above it.
    pub(super) authorities: Authorities,
}

impl Issuer {
    /// Whether it issued this certificate, which is good for a client at `at` in every way that webpki looks at.
    fn issued(&self, leaf: &EndEntityCert<'_>, at: UnixTime) -> bool {
        let usage = webpki::KeyUsage::client_auth();
        let anchors = std::slice::from_ref(&self.anchor);
        leaf.verify_for_usage(CLIENT_SIGNATURES.all, anchors, &[], at, usage, None, None).is_ok()
    }

    fn is_valid(&self, at: UnixTime) -> bool {
        (self.authorities.window.0..=self.authorities.window.1).contains(&seconds(at))
    }
}

/// A bounded memory of verified issuers; see the module's text for why it is sound.
pub(super) struct Issuers {
    known: Mutex<HashMap<[u8; 32], Arc<Issuer>>>,
    entries_max: usize,
}

impl Issuers {
    /// Issuers that are remembered; about half a KiB each. Each is vouched for by an anchor, so strangers cannot fill it.
    pub(super) const ENTRIES_MAX: usize = 1024;

    /// A memory of at most `entries_max` issuers.
    pub(super) fn new(entries_max: usize) -> Self {
        Self { known: Mutex::default(), entries_max }
    }

    /// How many issuers are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.lock().len()
    }

    /// The issuer of `leaf`, when the certificates with these hashes are the leaf, the path that was verified, and what nobody
    /// needs. It is valid at both of `at`, and the leaf is good at the first. `None` means that the path has to be verified
    /// as a whole, which also says why when it is not good.
    pub(super) fn of(
        &self,
        hashes: &[[u8; 32]],
        anchors: &[u8; 32],
        leaf: &EndEntityCert<'_>,
        at: (UnixTime, UnixTime),
    ) -> Option<Arc<Issuer>> {
        let (_, shown) = hashes.split_first()?;
        let issuer = self.known.lock().get(shown.first()?).map(Arc::clone)?;
        let known = issuer.authorities.anchors == *anchors
            && shown.starts_with(&issuer.authorities.hashes)
            && issuer.is_valid(at.0)
            && issuer.is_valid(at.1)
            && issuer.issued(leaf, at.0);
        known.then_some(issuer)
    }

    /// Remembers that `authorities`, the last of which is `issuer`, were verified and have no name constraints.
    pub(super) fn remember(&self, issuer: &CertificateDer<'_>, authorities: Authorities) {
        let Ok(anchor) = webpki::anchor_from_trusted_cert(issuer) else { return };
        let entry = Arc::new(Issuer { anchor: anchor.to_owned(), authorities });
        let hash = sha256(&[issuer]);
        let mut known = self.known.lock();
        if known.len() >= self.entries_max && !known.contains_key(&hash) {
            // So many issuers are none of a usual fleet: each is verified again when it is met.
            known.clear();
        }
        if self.entries_max > 0 {
            known.insert(hash, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use signet_certs_dev::{Authority, KeyKind, Validity};

    use super::*;

    fn authorities(anchors: [u8; 32]) -> Authorities {
        Authorities {
            anchors,
            anchor: [1; 32],
            window: (0, 100),
            issuer: KeyHash::of(b"key"),
            ids: Vec::new(),
            hashes: Vec::new(),
        }
    }

    #[test]
    fn the_bound_holds_and_an_issuer_that_is_verified_again_takes_no_second_place() {
        let validity = Validity::days_from(time::OffsetDateTime::now_utc(), 10);
        let root = Authority::root("Root", KeyKind::P256, validity).unwrap();
        let issuer = |n: usize| {
            let below = root.intermediate(&format!("Issuing {n}"), KeyKind::P256, validity, 0).unwrap();
            CertificateDer::from(below.certificate().to_vec())
        };
        let (first, second, third) = (issuer(1), issuer(2), issuer(3));
        let issuers = Issuers::new(2);
        let mut counts = Vec::new();
        for der in [&first, &second, &second, &third] {
            issuers.remember(der, authorities([7; 32]));
            counts.push(issuers.len());
        }
        assert_eq!(counts, [1, 2, 2, 1]);
        let none = Issuers::new(0);
        none.remember(&first, authorities([7; 32]));
        assert_eq!(none.len(), 0);
    }
}
