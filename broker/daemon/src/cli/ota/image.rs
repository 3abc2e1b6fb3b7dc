//! A signed firmware image, checked before any device hears of it.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cli::out::Failure;

/// The largest image that is read, in bytes: twice the largest partition of the boards here.
const IMAGE_BYTES_MAX: u64 = 4 << 20;
/// The largest manifest that is read, in bytes.
const MANIFEST_BYTES_MAX: u64 = 16 * 1024;

/// The manifest's file: the exact text that was signed, and the signature over it in hex.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    manifest: String,
    signature: String,
}

/// What is signed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: String,
    chip: String,
    size: u64,
    sha256: String,
    counter: u32,
    /// Where devices fetch it, when that is not from here.
    #[serde(default)]
    url: Option<String>,
}

/// An image and its manifest, which belong together.
#[derive(Clone)]
pub(super) struct Image {
    bytes: Bytes,
    signed: Signed,
    manifest: Manifest,
}

/// The payload of the command.
#[derive(Serialize)]
struct Order<'a> {
    id: &'a str,
    manifest: &'a str,
    signature: &'a str,
}

impl Image {
    /// Reads both files. The signature itself is the devices' to judge: the key is in them.
    pub(super) fn read(image: &Path, manifest: &Path) -> Result<Self, Failure> {
        let bytes = read(image, IMAGE_BYTES_MAX)?;
        let text = read(manifest, MANIFEST_BYTES_MAX)?;
        Self::new(bytes.into(), &text)
            .map_err(|why| Failure::found(format!("{} and {}: {why}", image.display(), manifest.display())))
    }

    fn new(bytes: Bytes, signed: &[u8]) -> Result<Self, String> {
        let made = "make it with firmware/factory/signet_factory.py sign";
        let signed: Signed = serde_json::from_slice(signed)
            .map_err(|error| format!("the file is no signed manifest: {error}; {made}"))?;
        let manifest: Manifest = serde_json::from_str(&signed.manifest)
            .map_err(|error| format!("the signed text is no manifest: {error}; {made}"))?;
        if bytes.len() as u64 != manifest.size {
            return Err(format!("the manifest is of {} bytes, the image has {}", manifest.size, bytes.len()));
        }
        let digest: String =
            digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if digest != manifest.sha256 {
            return Err("the image is not the one of the manifest: its SHA-256 differs".to_owned());
        }
        Ok(Self { bytes, signed, manifest })
    }

    /// Its version.
    pub(super) fn version(&self) -> &str {
        &self.manifest.version
    }

    /// What it is, for a person.
    pub(super) fn describe(&self) -> String {
        let Manifest { version, chip, size, counter, url, .. } = &self.manifest;
        let from = url.as_ref().map_or_else(String::new, |url| format!(", from {url}"));
        format!("version {version} for {chip}, {size} bytes, counter {counter}{from}")
    }

    /// Its bytes.
    pub(super) const fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// At most `most` bytes from `offset`; `None` behind the end.
    pub(super) fn part(&self, offset: u64, most: usize) -> Option<Bytes> {
        let start = usize::try_from(offset).ok().filter(|start| *start < self.bytes.len())?;
        let end = self.bytes.len().min(start.saturating_add(most.max(1)));
        Some(self.bytes.slice(start..end))
    }

    /// The command that tells a device of it.
    pub(super) fn order(&self, id: &str) -> Vec<u8> {
        let order = Order { id, manifest: &self.signed.manifest, signature: &self.signed.signature };
        // Three strings: it cannot fail.
        serde_json::to_vec(&order).unwrap_or_default()
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > bytes_max {
        return Err(Failure::found(format!(
            "{}: at most {bytes_max} bytes are read, the file has {length}",
            path.display()
        )));
    }
    std::fs::read(path).map_err(unreadable)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn manifest(bytes: &[u8], version: &str, size: usize) -> Vec<u8> {
        let digest: String =
            digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            r#"{{"chip":"esp32c6","counter":1,"sha256":"{digest}","size":{size},"version":"{version}"}}"#
        );
        serde_json::to_vec(&serde_json::json!({ "manifest": text, "signature": "00" })).unwrap()
    }

    /// An image with a manifest that fits it.
    pub(in crate::cli::ota) fn signed(bytes: &[u8], version: &str) -> Image {
        Image::new(Bytes::copy_from_slice(bytes), &manifest(bytes, version, bytes.len())).unwrap()
    }

    #[test]
    fn an_image_that_is_not_the_manifests_is_refused_before_any_device_hears_of_it() {
        let image = Bytes::from_static(b"an image");
        assert!(Image::new(image.clone(), &manifest(b"an image", "1.0.0", 8)).is_ok());
        let refused = |text: &[u8]| Image::new(image.clone(), text).err().unwrap();
        assert!(refused(&manifest(b"an imagE", "1.0.0", 8)).contains("SHA-256"));
        assert!(refused(&manifest(b"an image", "1.0.0", 9)).contains("bytes"));
        assert!(refused(b"{}").contains("no signed manifest"));
        assert!(refused(br#"{"manifest":"{}","signature":""}"#).contains("no manifest"));
    }
}
