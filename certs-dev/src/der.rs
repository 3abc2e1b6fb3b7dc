//! Just enough DER to add an extension to a certificate or CRL that the generator cannot make, and
//! to sign it again, and for a public key of any size: tests need certificates that no proper authority
//! would issue.

use crate::Error;

const INTEGER: u8 = 0x02;
const NULL: u8 = 0x05;
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BOOLEAN_TRUE: &[u8] = &[0x01, 0x01, 0xff];

/// An X.509 extension, ready-made.
#[derive(Debug, Clone, Copy)]
pub struct Extension<'a> {
    /// The object identifier's content octets, without tag and length.
    pub oid: &'a [u8],
    /// Whether a reader that does not know it must refuse.
    pub critical: bool,
    /// The DER inside the OCTET STRING.
    pub value: &'a [u8],
}

/// What becomes of the extensions of a certificate that is made one of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extensions {
    /// There are none, as there must be.
    Dropped,
    /// They stay, which makes a certificate that nobody may accept.
    Kept,
}

impl Extension<'_> {
    fn to_der(self) -> Vec<u8> {
        let oid = tlv(OBJECT_IDENTIFIER, &[self.oid]);
        let critical = if self.critical { BOOLEAN_TRUE } else { &[] };
        let value = tlv(OCTET_STRING, &[self.value]);
        tlv(SEQUENCE, &[&oid, critical, &value])
    }
}

/// An RSA SubjectPublicKeyInfo with a modulus of this many bits, a multiple of 8. Nobody has its private key: only its
/// size is looked at before a signature is.
#[must_use]
pub fn rsa_public_key(bits: usize) -> Vec<u8> {
    const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let mut modulus = vec![0x00];
    modulus.resize(1 + bits / 8, 0xc5);
    let key = tlv(SEQUENCE, &[&tlv(INTEGER, &[&modulus]), &tlv(INTEGER, &[&[1, 0, 1]])]);
    let algorithm = tlv(SEQUENCE, &[&tlv(OBJECT_IDENTIFIER, &[&RSA_ENCRYPTION]), &tlv(NULL, &[])]);
    tlv(SEQUENCE, &[&algorithm, &tlv(BIT_STRING, &[&[0], &key])])
}

/// One tag, length and value: the tag, the whole encoding and the content.
struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    content: &'a [u8],
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&octet| octet == 0).count()..];
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        _ => {
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(&content);
    out
}

fn elements<'a>(mut input: &'a [u8], what: &'static str) -> Result<Vec<Element<'a>>, Error> {
    let mut out = Vec::new();
    while let [tag, first, rest @ ..] = input {
        let (length, header) = if *first < 0x80 {
            (usize::from(*first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            let octets = rest.get(..count).ok_or(Error::Der(what))?;
            (octets.iter().fold(0_usize, |sum, &o| (sum << 8) | usize::from(o)), 2 + count)
        };
        let whole = input.get(..header + length).ok_or(Error::Der(what))?;
        out.push(Element { tag: *tag, whole, content: &whole[header..] });
        input = &input[header + length..];
    }
    if input.is_empty() { Ok(out) } else { Err(Error::Der(what)) }
}

fn only<'a>(input: &'a [u8], what: &'static str) -> Result<Element<'a>, Error> {
    let mut all = elements(input, what)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(Error::Der(what)),
    }
}

/// Adds `extension` to a signed certificate (`context` 0xa3) or CRL (`context` 0xa0) that has
/// extensions already, and signs the result with `sign`.
pub(crate) fn with_extension(
    signed: &[u8],
    context: u8,
    extension: Extension<'_>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Error>,
) -> Result<Vec<u8>, Error> {
    const WHAT: &str = "a signed object";
    let outer = elements(only(signed, WHAT)?.content, WHAT)?;
    let [tbs, algorithm, _signature] = outer.as_slice() else { return Err(Error::Der(WHAT)) };
    let mut fields = elements(tbs.content, WHAT)?;
    let last = fields.pop().filter(|e| e.tag == context).ok_or(Error::Der("its extensions"))?;
    let list = only(last.content, WHAT)?;
    let list = tlv(SEQUENCE, &[list.content, &extension.to_der()]);
    let list = tlv(context, &[&list]);
    let mut parts: Vec<&[u8]> = fields.iter().map(|field| field.whole).collect();
    parts.push(&list);
    let tbs = tlv(SEQUENCE, &parts);
    let signature = tlv(BIT_STRING, &[&[0], &sign(&tbs)?]);
    Ok(tlv(SEQUENCE, &[&tbs, algorithm.whole, &signature]))
}

/// Makes a signed certificate of version 3 one of version 1: without its version and, unless they are to be
/// `kept` where no version 1 has them, without its extensions. Signs the result with `sign`.
pub(crate) fn as_version_1(
    signed: &[u8],
    kept: Extensions,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Error>,
) -> Result<Vec<u8>, Error> {
    const WHAT: &str = "a certificate";
    const VERSION: u8 = 0xa0;
    const EXTENSIONS: u8 = 0xa3;
    let outer = elements(only(signed, WHAT)?.content, WHAT)?;
    let [tbs, algorithm, _signature] = outer.as_slice() else { return Err(Error::Der(WHAT)) };
    let fields = elements(tbs.content, WHAT)?;
    let stays = |tag| tag != VERSION && (tag != EXTENSIONS || kept == Extensions::Kept);
    let parts: Vec<&[u8]> = fields.iter().filter(|field| stays(field.tag)).map(|field| field.whole).collect();
    let tbs = tlv(SEQUENCE, &parts);
    let signature = tlv(BIT_STRING, &[&[0], &sign(&tbs)?]);
    Ok(tlv(SEQUENCE, &[&tbs, algorithm.whole, &signature]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_one_two_and_three_octets_survive_a_round_trip() {
        for size in [0, 0x7f, 0x80, 0xff, 0x100, 70_000] {
            let content = vec![7; size];
            let der = tlv(OCTET_STRING, &[&content]);
            assert_eq!(only(&der, "test").unwrap().content, content);
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_refused() {
        assert!(elements(&[0x30, 0x05, 0x00], "test").is_err());
        assert!(elements(&[0x30, 0x82, 0x01], "test").is_err());
        assert!(elements(&[0x30], "test").is_err());
    }
}
