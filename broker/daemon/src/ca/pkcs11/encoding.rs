//! DER for what a token gives without it: the point of a key, the two numbers of a signature.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// id-ecPublicKey, tag and length included (RFC 5480 section 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// rsaEncryption and its NULL parameters (RFC 3279 section 2.3.1).
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A signature as X.509 carries it (Ecdsa-Sig-Value), out of the two numbers of equal length that PKCS #11 gives
/// (section 2.3.1 of its current mechanisms). `None` when it cannot be such.
pub(super) fn ecdsa_signature(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return None;
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    Some(tlv(SEQUENCE, &[&unsigned(r)?, &unsigned(s)?]))
}

/// The SubjectPublicKeyInfo of an elliptic curve key out of CKA_EC_PARAMS and CKA_EC_POINT. The point is to be in an OCTET
/// STRING; some tokens give it bare.
pub(super) fn ec_spki(params: &[u8], point: &[u8]) -> Vec<u8> {
    let bare = unwrapped(point).unwrap_or(point);
    spki(&[EC_PUBLIC_KEY, params], bare)
}

/// The SubjectPublicKeyInfo of an RSA key out of CKA_MODULUS and CKA_PUBLIC_EXPONENT. `None` when one of them is zero.
pub(super) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let key = tlv(SEQUENCE, &[&unsigned(modulus)?, &unsigned(exponent)?]);
    Some(spki(&[RSA_ENCRYPTION], &key))
}

fn spki(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&tlv(SEQUENCE, algorithm), &tlv(BIT_STRING, &[&[0], key])])
}

/// The content of an OCTET STRING of less than 256 bytes that is all of `bytes`.
fn unwrapped(bytes: &[u8]) -> Option<&[u8]> {
    let (length, content) = match bytes {
        [OCTET_STRING, 0x81, length, content @ ..] => (length, content),
        [OCTET_STRING, length, content @ ..] if *length < 0x80 => (length, content),
        _ => return None,
    };
    // A bare point begins with 4 too, and its second byte is any.
    (content.len() == usize::from(*length)).then_some(content)
}

/// A positive INTEGER out of big-endian bytes, in its shortest form; `None` for zero.
fn unsigned(bytes: &[u8]) -> Option<Vec<u8>> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = bytes.get(zeros..)?;
    let first = significant.first()?;
    let sign: &[u8] = if first & 0x80 == 0 { &[] } else { &[0] };
    Some(tlv(INTEGER, &[sign, significant]))
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let zeros = length.iter().take_while(|byte| **byte == 0).count();
            let significant = length.get(zeros..).unwrap_or_default();
            // At most eight bytes.
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(&content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_numbers_of_a_signature_become_two_positive_integers_in_shortest_form() {
        for (raw, der) in [
            (&[0x01, 0x02][..], &[0x30, 6, 2, 1, 1, 2, 1, 2][..]),
            // A high bit would be a sign.
            (&[0x80, 0x7f], &[0x30, 7, 2, 2, 0, 0x80, 2, 1, 0x7f]),
            // Zeros in front go, but for the one that keeps the number positive.
            (&[0, 0, 0x90, 0, 1, 0], &[0x30, 8, 2, 2, 0, 0x90, 2, 2, 1, 0]),
        ] {
            assert_eq!(ecdsa_signature(raw).as_deref(), Some(der), "{raw:?}");
        }
    }

    #[test]
    fn what_is_no_signature_becomes_none() {
        for raw in [&[][..], &[1], &[1, 2, 3], &[0, 0, 1, 1], &[1, 1, 0, 0]] {
            assert_eq!(ecdsa_signature(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn a_long_signature_gets_a_long_length() {
        let der = ecdsa_signature(&[0x81; 132]).unwrap_or_default();
        assert_eq!(&der[..5], &[0x30, 0x81, 138, 2, 67]);
        assert_eq!(der.len(), 3 + 138);
    }

    #[test]
    fn a_point_is_taken_bare_and_wrapped() {
        let params = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        // The second byte of this bare point looks like a length, and is none.
        let mut bare = vec![4, 0x41];
        bare.extend([7; 63]);
        let mut wrapped = vec![OCTET_STRING, 65];
        wrapped.extend(&bare);
        assert_eq!(ec_spki(&params, &bare), ec_spki(&params, &wrapped));
        assert_eq!(ec_spki(&params, &bare).len(), 91);
    }
}
