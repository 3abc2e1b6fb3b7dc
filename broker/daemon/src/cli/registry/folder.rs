//! The folder of a new device: what its factory tool takes.

use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use signet_identity::ThingName;
use signet_registry::ca::{CSR_BYTES_MAX, DeviceKey, KeySigner, Signer};

use crate::admin::registry::api::IssuedCertificate;
use crate::ca::{read_secret, replace};
use crate::cli::out::Failure;

/// The device's private key, PEM.
const KEY: &str = "device.key";
/// Its certificate alone, PEM.
const CERTIFICATE: &str = "device.crt";
/// Its certificate and the authority's: for brokers that only trust the root.
const CHAIN: &str = "device-chain.crt";
/// What they are, JSON.
const MANIFEST: &str = "device.json";
/// The longest file that is sent as a signing request, in bytes.
const CSR_FILE_BYTES_MAX: u64 = 1_400_000;

/// A folder of mode 0700 with a device's name.
#[derive(Debug)]
pub(in crate::cli) struct Folder {
    path: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Manifest<'a> {
    name: &'a str,
    certificate_id: &'a str,
    serial: &'a str,
    not_after: i64,
}

impl Folder {
    /// The folder of the device `name` in `out`; made when it does not exist.
    pub(in crate::cli) fn of(out: &Path, name: &str) -> Result<Self, Failure> {
        // A name's grammar makes it one harmless component of a path.
        let name = ThingName::try_from(name)
            .map_err(|error| Failure::found(format!("{name:?} cannot be a name: {error}")))?;
        let path = out.join(name.as_str());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        Ok(Self { path })
    }

    pub(in crate::cli) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the device has got its certificate: the last file that [`Self::store`] writes is there.
    pub(in crate::cli) fn is_complete(&self) -> bool {
        self.path.join(MANIFEST).is_file()
    }

    /// The public key of the device, PEM. Its private key is made when there is none yet, and does not leave the folder.
    pub(in crate::cli) fn key(&self) -> Result<String, Failure> {
        let path = self.path.join(KEY);
        let unusable = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let spki = match read_secret(&path) {
            Ok(pem) => {
                let signer = KeySigner::from_pem(&pem, None).map_err(|error| unusable(error.to_string()))?;
                signer.public_key().spki_der().to_vec()
            }
            Err(crate::ca::AuthorityError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let made = DeviceKey::generate().map_err(|error| unusable(error.to_string()))?;
                // On disk before the broker hears of it: a certificate without its key is of no use.
                replace(&path, made.private.expose().as_bytes(), 0o600)
                    .map_err(|error| unusable(error.to_string()))?;
                made.public.spki_der().to_vec()
            }
            Err(error) => return Err(Failure::usage(error.to_string())),
        };
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Ok(pem::encode_config(&pem::Pem::new("PUBLIC KEY", spki), config))
    }

    /// Writes the certificate and what belongs to it.
    pub(in crate::cli) fn store(
        &self,
        name: &str,
        certificate: &IssuedCertificate,
        issuer: Option<&str>,
    ) -> Result<(), Failure> {
        let manifest = Manifest {
            name,
            certificate_id: &certificate.id,
            serial: &certificate.serial,
            not_after: certificate.not_after,
        };
        let manifest = serde_json::to_string_pretty(&manifest)
            .map_err(|error| Failure::usage(error.to_string()))?
            + "\n";
        let chain = format!("{}{}", certificate.pem, issuer.unwrap_or_default());
        // The manifest last: it says that the others are there.
        for (file, text) in [(CERTIFICATE, &certificate.pem), (CHAIN, &chain), (MANIFEST, &manifest)] {
            let path = self.path.join(file);
            replace(&path, text.as_bytes(), 0o644)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }
}

/// A signing request as PEM, whichever form the file has.
pub(super) fn read_csr(path: &Path) -> Result<String, Failure> {
    let unreadable = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    // The broker refuses much shorter ones, and records it.
    if length > CSR_FILE_BYTES_MAX {
        return Err(Failure::found(format!(
            "{}: a signing request has at most {CSR_BYTES_MAX} bytes, this file has {length}",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(binary) => {
            let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
            let request = pem::Pem::new("CERTIFICATE REQUEST", binary.into_bytes());
            Ok(pem::encode_config(&request, config))
        }
    }
}
