//! What revocation lists name the certificates of a path by.

use std::fmt;
use std::sync::Arc;

/// A serial number has at most so many octets (RFC 5280 section 4.1.2.2).
pub const SERIAL_OCTETS_MAX: usize = 20;
/// More certificates are in no path.
pub const LINEAGE_MAX: usize = 16;
/// The SHA-256 of a SubjectPublicKeyInfo.
const KEY_OCTETS: usize = 32;

/// One certificate as a revocation list names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issued<'a> {
    /// The key that signed it: the SHA-256 of that authority's SubjectPublicKeyInfo.
    pub issuer: &'a [u8; KEY_OCTETS],
    /// Its serial number, big-endian, without leading zeros, at most [`SERIAL_OCTETS_MAX`] octets.
    pub serial: &'a [u8],
}

/// A certificate and the authorities between it and its trust anchor, as revocation lists name them. It is kept with what
/// the bearer of the certificate leaves behind, so that a list can be applied to that when nobody is connected.
///
/// Cloning it copies a pointer. The default is empty: nothing is known.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Lineage(Arc<[u8]>);

impl Lineage {
    /// The certificates of a path, the bearer's own first. Those behind [`LINEAGE_MAX`], and a serial number that is too
    /// long to be in any list, are left out.
    pub fn of<'a>(path: impl IntoIterator<Item = Issued<'a>>) -> Self {
        let mut bytes = Vec::new();
        for Issued { issuer, serial } in path.into_iter().take(LINEAGE_MAX) {
            let significant = serial.iter().position(|octet| *octet != 0).unwrap_or(serial.len());
            let serial = serial.get(significant..).unwrap_or_default();
            let Some(len) =
                u8::try_from(serial.len()).ok().filter(|len| usize::from(*len) <= SERIAL_OCTETS_MAX)
            else {
                continue;
            };
            bytes.extend_from_slice(issuer);
            bytes.push(len);
            bytes.extend_from_slice(serial);
        }
        Self(bytes.into())
    }

    /// The certificates, the bearer's own first.
    pub fn iter(&self) -> impl Iterator<Item = Issued<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (issued, more) = split(rest)?;
            rest = more;
            Some(issued)
        })
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// To be stored, for [`Self::from_bytes`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What [`Self::as_bytes`] gave; `None` when it is something else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        for _ in 0..LINEAGE_MAX {
            if rest.is_empty() {
                break;
            }
            let (issued, more) = split(rest)?;
            if issued.serial.len() > SERIAL_OCTETS_MAX || issued.serial.first() == Some(&0) {
                return None;
            }
            rest = more;
        }
        rest.is_empty().then(|| Self(bytes.into()))
    }
}

fn split(bytes: &[u8]) -> Option<(Issued<'_>, &[u8])> {
    let (issuer, rest) = bytes.split_first_chunk()?;
    let (len, rest) = rest.split_first()?;
    let (serial, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((Issued { issuer, serial }, rest))
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 32] = [0xA; 32];
    const B: [u8; 32] = [0xB; 32];

    #[test]
    fn a_path_is_read_as_it_was_written_and_stored() {
        let path = [Issued { issuer: &A, serial: &[1, 2] }, Issued { issuer: &B, serial: &[] }];
        let lineage = Lineage::of(path);
        assert_eq!(lineage.iter().collect::<Vec<_>>(), path);
        assert_eq!(Lineage::from_bytes(lineage.as_bytes()), Some(lineage));
        assert!(Lineage::default().is_empty() && Lineage::default().iter().next().is_none());
        assert_eq!(Lineage::from_bytes(&[]), Some(Lineage::default()));
    }

    #[test]
    fn leading_zeros_are_no_part_of_a_serial_number_and_one_too_long_is_left_out() {
        let lineage = Lineage::of([
            Issued { issuer: &A, serial: &[0, 0, 7] },
            Issued { issuer: &A, serial: &[1; SERIAL_OCTETS_MAX + 1] },
            Issued { issuer: &B, serial: &[0xFF; SERIAL_OCTETS_MAX] },
        ]);
        let serials: Vec<_> = lineage.iter().map(|issued| issued.serial.to_vec()).collect();
        assert_eq!(serials, [vec![7], vec![0xFF; SERIAL_OCTETS_MAX]]);
    }

    #[test]
    fn bytes_that_are_no_lineage_are_refused() {
        let good = Lineage::of([Issued { issuer: &A, serial: &[1, 2] }]);
        let good = good.as_bytes();
        for end in 1..good.len() {
            assert_eq!(Lineage::from_bytes(&good[..end]), None, "{end}");
        }
        let long = |len: u8| [&A[..], &[len], &vec![1; len.into()]].concat();
        assert!(Lineage::from_bytes(&long(20)).is_some());
        assert_eq!(Lineage::from_bytes(&long(21)), None);
        assert_eq!(Lineage::from_bytes(&[&A[..], &[2, 0, 1]].concat()), None, "a leading zero");
        assert_eq!(Lineage::from_bytes(&good.repeat(LINEAGE_MAX + 1)), None);
        assert!(Lineage::from_bytes(&good.repeat(LINEAGE_MAX)).is_some());
    }
}
