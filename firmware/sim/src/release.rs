//! Firmware for simulated devices: images that say what they are, and manifests signed with a key of the simulation.

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use sha2::{Digest as _, Sha256};

/// The chip that simulated devices call theirs.
pub const CHIP: &str = "host";
/// The version that they leave the factory with.
pub const FIRST_VERSION: &str = "0.1.0";
/// The sectors of each of their two partitions.
pub const IMAGE_SECTORS: usize = 6;
/// The size of an image, in bytes: less than its partition, and not whole words.
const IMAGE_BYTES: usize = 21_003;
const MAGIC: &str = "signet-sim image ";

/// What an image does when it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It works.
    Good,
    /// It crashes at every start.
    Crashing,
}

/// Who signs.
pub struct Releases(SigningKey);

impl Releases {
    /// The key of a seed. For simulations only: whoever knows the seed has the key.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut digest = Sha256::new();
        loop {
            digest.update(seed.to_le_bytes());
            // Nearly every digest is a key.
            if let Ok(key) = SigningKey::from_slice(&digest.clone().finalize()) {
                return Self(key);
            }
        }
    }

    /// The public key, a point (SEC1), as the factory writes it to devices.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        p256::PublicKey::from(*self.0.verifying_key()).to_sec1_bytes().to_vec()
    }

    /// The signed manifest of `image`, as a file for `signet ota publish`.
    #[must_use]
    pub fn manifest(&self, image: &[u8], version: &str, counter: u32, url: Option<&str>) -> String {
        let mut manifest = serde_json::json!({
            "version": version,
            "chip": CHIP,
            "size": image.len(),
            "sha256": hex(&Sha256::digest(image)),
            "counter": counter,
        });
        if let Some(url) = url {
            manifest["url"] = url.into();
        }
        let manifest = manifest.to_string();
        let signature: DerSignature = self.0.sign(manifest.as_bytes());
        serde_json::json!({"manifest": manifest, "signature": hex(signature.as_bytes())}).to_string()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image of this version.
#[must_use]
pub fn image(version: &str, kind: Kind) -> Vec<u8> {
    let kind = match kind {
        Kind::Good => "good",
        Kind::Crashing => "crashing",
    };
    let mut bytes = format!("{MAGIC}{version} {kind}\n").into_bytes();
    let mut block = Sha256::digest(&bytes);
    while bytes.len() < IMAGE_BYTES {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    bytes.truncate(IMAGE_BYTES);
    bytes
}

/// What the image at the beginning of a partition is.
#[must_use]
pub fn what_runs(partition: &[u8]) -> Option<(String, Kind)> {
    let line = partition.split(|byte| *byte == b'\n').next()?;
    let (version, kind) = std::str::from_utf8(line).ok()?.strip_prefix(MAGIC)?.split_once(' ')?;
    let kind = match kind {
        "good" => Kind::Good,
        "crashing" => Kind::Crashing,
        _ => return None,
    };
    let whole = image(version, kind);
    (partition.get(..whole.len())? == whole).then(|| (version.to_owned(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_what_it_is_and_a_damaged_one_is_none() {
        let mut partition = image("1.2.3", Kind::Good);
        partition.resize(IMAGE_SECTORS * crate::flash::SECTOR, 0xff);
        assert_eq!(what_runs(&partition), Some(("1.2.3".into(), Kind::Good)));
        partition[9_000] ^= 1;
        assert_eq!(what_runs(&partition), None);
        assert_eq!(what_runs(&[0xff; 64]), None);
        assert_eq!(what_runs(&image("2.0.0", Kind::Crashing)), Some(("2.0.0".into(), Kind::Crashing)));
    }
}
