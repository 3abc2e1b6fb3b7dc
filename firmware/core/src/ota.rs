//! Updates: a signed manifest, the image in parts, a trial, and the way back.
//!
//! The device asks for each part on `devices/<id>/telemetry/ota`; parts come on `devices/<id>/commands/ota/<offset>`. So the
//! device sets the pace, and a part that is lost is asked for again. Or the manifest has an address, and the device fetches the
//! image from there over HTTPS. Nothing is made bootable before the whole image has the
//! digest that the signed manifest says.

use alloc::string::String;
use alloc::vec::Vec;

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::https::Url;
use crate::platform::{ImageError, Images};

/// The longest part of an image, in bytes: it fits a record of 4 KiB with its topic.
pub const PART_BYTES_MAX: u32 = 2048;
/// After how many boots without a connection a new image is given up.
pub const TRIAL_BOOTS_MAX: u8 = 3;
/// How often a start of the old image is tried before the new one is kept after all.
pub const REVERTS_MAX: u8 = 3;
/// After how long without a connection a new image is given up, in milliseconds.
pub const TRIAL_MS: u64 = 10 * 60 * 1000;

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version, three numbers: `1.2.3`.
    pub version: String,
    /// The chip: `esp32c3`.
    pub chip: String,
    /// The size in bytes.
    pub size: u32,
    /// The SHA-256 of the image, in lower-case hex.
    pub sha256: String,
    /// The anti-rollback counter: the device never goes back below one that worked.
    pub counter: u32,
    /// Where the image is, an address of HTTPS. Without one the device asks for it over MQTT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A manifest's exact bytes with a signature over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    bytes: Vec<u8>,
    signature: Vec<u8>,
}

impl SignedManifest {
    /// From the JSON text of the manifest and the hex of an ECDSA signature (DER) over exactly that text.
    #[must_use]
    pub fn read(manifest: &str, signature: &str) -> Option<Self> {
        Some(Self { bytes: manifest.as_bytes().to_vec(), signature: unhex(signature)? })
    }

    /// The manifest, if it is signed and may be installed on a device that is `running`.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn verify(&self, running: &Running) -> Result<Manifest, Refused> {
        let key = running.key.as_deref().ok_or(Refused::NoKey)?;
        let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| Refused::NoKey)?;
        let signature = DerSignature::from_bytes(&self.signature).map_err(|_| Refused::Signature)?;
        key.verify(&self.bytes, &signature).map_err(|_| Refused::Signature)?;
        let manifest: Manifest = serde_json::from_slice(&self.bytes).map_err(|_| Refused::Manifest)?;
        if unhex(&manifest.sha256).is_none_or(|digest| digest.len() != 32) || manifest.size == 0 {
            return Err(Refused::Manifest);
        }
        if manifest.url.as_deref().is_some_and(|url| Url::parse(url).is_none()) {
            return Err(Refused::Manifest);
        }
        if manifest.chip != running.chip {
            return Err(Refused::Chip);
        }
        let version = version(&manifest.version).ok_or(Refused::Manifest)?;
        if manifest.counter < running.counter {
            return Err(Refused::Older);
        }
        if running.version_numbers().is_some_and(|running| version <= running) {
            return Err(Refused::Older);
        }
        Ok(manifest)
    }
}

/// What runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its version.
    pub version: String,
    /// The chip.
    pub chip: String,
    /// The lowest counter that is accepted.
    pub counter: u32,
    /// The public key of updates (SEC1 point); without one there are none.
    pub key: Option<Vec<u8>>,
}

impl Running {
    fn version_numbers(&self) -> Option<[u32; 3]> {
        version(&self.version)
    }
}

fn version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split('.');
    for number in &mut numbers {
        *number = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// Why an image is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This device has no key for updates.
    NoKey,
    /// The signature is wrong.
    Signature,
    /// The manifest cannot be read.
    Manifest,
    /// For another chip.
    Chip,
    /// Not newer than what runs, or below the anti-rollback counter.
    Older,
    /// Larger than the partition.
    TooLarge,
    /// The flash cannot be written.
    Flash,
    /// The image does not have the digest of its manifest.
    Digest,
    /// What is at the manifest's address is not an image of this size.
    Address,
    /// The manifest's address cannot be reached.
    Unreachable,
}

impl Refused {
    /// The text in the result.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "image refused: this device has no key for updates",
            Self::Signature => "image refused: the manifest's signature is wrong",
            Self::Manifest => "image refused: the manifest cannot be read",
            Self::Chip => "image refused: it is for another chip",
            Self::Older => "image refused: not newer than what runs",
            Self::TooLarge => "image refused: larger than its partition",
            Self::Flash => "image refused: the flash cannot be written",
            Self::Digest => "image refused: it does not have the digest of its manifest",
            Self::Address => "image refused: it is not at the address of its manifest",
            Self::Unreachable => "image refused: the address of its manifest cannot be reached",
        }
    }
}

impl From<ImageError> for Refused {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::TooLarge => Self::TooLarge,
            ImageError::Flash => Self::Flash,
        }
    }
}

/// How an update went, as it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The image is complete and boots next.
    Installed,
    /// The new image has reached the broker and stays.
    Confirmed,
    /// The new image did not start, or did not reach the broker; the old one is back.
    Reverted,
    /// The new image did not reach the broker, and the old one does not start: the new one stays.
    Stuck,
    /// The image is refused.
    Refused(Refused),
}

/// An image on its way.
#[derive(Debug, Clone)]
pub struct Update {
    manifest: Manifest,
    offset: u32,
}

/// What a part led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Ask for the part at this offset.
    Want(u32),
    /// The image is whole, and the one that was signed. Nothing is bootable yet.
    Complete,
    /// The part is not the one that was asked for; nothing changed.
    Ignored,
}

impl Update {
    /// Prepares the partition.
    ///
    /// # Errors
    ///
    /// The image does not fit, or the flash cannot be erased.
    pub fn begin(manifest: Manifest, images: &mut impl Images) -> Result<Self, Refused> {
        images.begin(manifest.size)?;
        Ok(Self { manifest, offset: 0 })
    }

    /// What is installed.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it comes from, when that is not the broker.
    #[must_use]
    pub fn url(&self) -> Option<Url> {
        self.manifest.url.as_deref().and_then(Url::parse)
    }

    /// The offset that is waited for.
    #[must_use]
    pub const fn wanted(&self) -> u32 {
        self.offset
    }

    /// Takes a part.
    ///
    /// # Errors
    ///
    /// The flash failed, or the image is complete and not the one that was signed. The update is over then.
    pub fn part(&mut self, offset: u32, part: &[u8], images: &mut impl Images) -> Result<Progress, Refused> {
        let left = self.manifest.size - self.offset;
        let len = u32::try_from(part.len()).ok().filter(|len| *len > 0 && *len <= left.min(PART_BYTES_MAX));
        // Flashes write whole words, so only the last part may end within one.
        let Some(len) = len.filter(|len| offset == self.offset && (len.is_multiple_of(4) || *len == left))
        else {
            return Ok(Progress::Ignored);
        };
        images.write(offset, part)?;
        self.offset += len;
        if self.offset < self.manifest.size {
            return Ok(Progress::Want(self.offset));
        }
        // What counts is what the flash keeps, not what came.
        let digest = digest(self.manifest.size, images)?;
        if unhex(&self.manifest.sha256).as_deref() != Some(&digest[..]) {
            return Err(Refused::Digest);
        }
        Ok(Progress::Complete)
    }
}

/// The SHA-256 of the first `size` bytes of what was written.
fn digest(size: u32, images: &mut impl Images) -> Result<[u8; 32], Refused> {
    let mut digest = Sha256::new();
    let mut block = [0; 256];
    for offset in (0..size).step_by(block.len()) {
        let len = block.len().min((size - offset) as usize);
        let words = block.get_mut(..len.next_multiple_of(4)).ok_or(Refused::Flash)?;
        images.read(offset, words)?;
        digest.update(&words[..len]);
    }
    Ok(digest.finalize().into())
}

/// What the device asks for.
#[derive(Debug, Serialize)]
pub struct Wanted<'a> {
    /// The version.
    pub version: &'a str,
    /// From where.
    pub offset: u32,
    /// At most so many bytes.
    pub bytes_max: u32,
}
