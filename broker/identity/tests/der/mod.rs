//! Certificates written byte by byte (X.690 DER, RFC 5280 section 4.1).

/// Tag, length, value.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = value.len();
    if length < 128 {
        out.push(u8::try_from(length).expect("checked above"));
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | u8::try_from(bytes.len()).expect("a length has eight bytes at most"));
        out.extend(bytes);
    }
    out.extend(value);
    out
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// An attribute of a name: the contents of its OID, the tag and the contents of its value.
pub(crate) fn attribute(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
    sequence(&[tlv(6, oid), tlv(tag, value)])
}

/// A relative distinguished name.
pub(crate) fn set(attributes: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &attributes.concat())
}

/// A distinguished name.
pub(crate) fn name(sets: &[Vec<u8>]) -> Vec<u8> {
    sequence(sets)
}

pub(crate) fn dns(text: &str) -> Vec<u8> {
    tlv(0x82, text.as_bytes())
}

pub(crate) fn uri(text: &str) -> Vec<u8> {
    tlv(0x86, text.as_bytes())
}

pub(crate) struct Certificate {
    pub(crate) subject: Vec<u8>,
    /// The contents of the INTEGER.
    pub(crate) serial: Vec<u8>,
    /// The contents of the GeneralNames.
    pub(crate) san: Option<Vec<u8>>,
    pub(crate) san_twice: bool,
    /// The contents of the ExtKeyUsageSyntax.
    pub(crate) eku: Option<Vec<u8>>,
}

impl Default for Certificate {
    fn default() -> Self {
        Self { subject: name(&[]), serial: vec![1], san: None, san_twice: false, eku: None }
    }
}

impl Certificate {
    pub(crate) fn der(&self) -> Vec<u8> {
        // ecdsa-with-SHA256
        let algorithm = sequence(&[tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]);
        let validity = sequence(&[tlv(0x17, b"250101000000Z"), tlv(0x17, b"350101000000Z")]);
        let issuer = name(&[set(&[attribute(&[0x55, 4, 3], 0x0c, b"issuer")])]);
        let curve = tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
        let key_type = sequence(&[tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), curve]);
        let point = [&[0u8, 4][..], &[7; 64]].concat();
        let key = sequence(&[key_type, tlv(3, &point)]);
        let mut parts = vec![
            tlv(0xa0, &tlv(2, &[2])),
            tlv(2, &self.serial),
            algorithm.clone(),
            issuer,
            validity,
            self.subject.clone(),
            key,
        ];
        let mut extensions = Vec::new();
        if let Some(names) = &self.san {
            let extension = extension(&[0x55, 0x1d, 0x11], names);
            extensions.push(extension.clone());
            if self.san_twice {
                extensions.push(extension);
            }
        }
        if let Some(usages) = &self.eku {
            extensions.push(extension(&[0x55, 0x1d, 0x25], usages));
        }
        if !extensions.is_empty() {
            parts.push(tlv(0xa3, &sequence(&extensions)));
        }
        let signature = tlv(3, &[0, 1, 2, 3]);
        sequence(&[sequence(&parts), algorithm, signature])
    }
}

fn extension(oid: &[u8], contents: &[u8]) -> Vec<u8> {
    sequence(&[tlv(6, oid), tlv(4, &tlv(0x30, contents))])
}
