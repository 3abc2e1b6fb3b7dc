//! What the device was given at the factory: its serial number, its claim, and where its broker is.

use alloc::string::String;
use alloc::vec::Vec;

use embedded_storage::nor_flash::ReadNorFlash;
use esp_nvs::{FLASH_SECTOR_SIZE, Key, Nvs};
use zeroize::Zeroizing;

use crate::enrol::token::{TOKEN_BYTES_MAX, Token};
use crate::https::Url;
use crate::identity::is_name;
use crate::platform::Secret;
use crate::store::{ReadOnly, WithCrc, found};
use crate::topic::{Format, is_template};

const NAMESPACE: Key = Key::from_str("factory");

/// A claim: the credential with which a device asks for its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The certificate (DER).
    pub certificate: Vec<u8>,
    /// The private key (PKCS#8 DER).
    pub key: Secret,
}

/// The factory data. The partition is an NVS image, made on the line and never written by the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factory {
    /// The serial number: `device_id`.
    pub serial: String,
    /// The claim: `claim_cert` and `claim_key`, DER. A device without one has its own certificate or a claim in its working
    /// region.
    pub claim: Option<Claim>,
    /// The template of the first enrolment: `template`.
    pub template: String,
    /// The template of rotations: `rotate_tmpl`.
    pub rotation_template: String,
    /// JSON or CBOR: `format`, `json` when it is missing.
    pub format: Format,
    /// The broker's name and port: `broker`, as `name:port`.
    pub broker: String,
    /// The root of the server's certificate (DER): `server_ca`.
    pub server_ca: Vec<u8>,
    /// A one-time token instead of a claim: `token`, and where it is taken, `token_url`.
    pub token: Option<Token>,
    /// The public key of updates, a point of P-256 (SEC1): `ota_key`. Without one the device takes no update.
    pub ota_key: Option<Vec<u8>>,
}

/// Why there is no factory data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactoryError {
    /// The partition cannot be read, or is no NVS image.
    Unreadable,
    /// No `device_id`, or one that cannot be a name.
    Serial,
    /// A template's name is missing or cannot be one.
    Template,
    /// `format` is neither `json` nor `cbor`.
    Format,
    /// No `broker`.
    Broker,
    /// No `server_ca`.
    ServerCa,
    /// `token` without a usable `token_url`, or the other way round.
    Token,
    /// `ota_key` is not a point of P-256.
    OtaKey,
}

impl Factory {
    /// Reads the partition.
    ///
    /// # Errors
    ///
    /// What is missing or cannot be used.
    pub fn read<F: ReadNorFlash>(flash: &mut F) -> Result<Self, FactoryError> {
        let size = flash.capacity() / FLASH_SECTOR_SIZE * FLASH_SECTOR_SIZE;
        let mut read_only = ReadOnly(flash);
        let mut nvs = Nvs::new(0, size, WithCrc(&mut read_only)).map_err(|_| FactoryError::Unreadable)?;
        let mut text = |key: &str| {
            found(nvs.get::<String>(&NAMESPACE, &Key::from_str(key))).map_err(|_| FactoryError::Unreadable)
        };
        let serial = text("device_id")?.filter(|serial| is_name(serial)).ok_or(FactoryError::Serial)?;
        let template = text("template")?.filter(|name| is_template(name));
        let rotation_template = text("rotate_tmpl")?.filter(|name| is_template(name));
        let format = match text("format")?.as_deref() {
            None | Some("json") => Format::Json,
            Some("cbor") => Format::Cbor,
            Some(_) => return Err(FactoryError::Format),
        };
        let broker = text("broker")?.ok_or(FactoryError::Broker)?;
        let token = match (text("token")?, text("token_url")?) {
            (None, None) => None,
            (Some(secret), Some(url)) => {
                let secret =
                    Some(Zeroizing::new(secret)).filter(|it| (1..=TOKEN_BYTES_MAX).contains(&it.len()));
                let token = secret.zip(Url::parse(&url)).map(|(secret, url)| Token { secret, url });
                Some(token.ok_or(FactoryError::Token)?)
            }
            _ => return Err(FactoryError::Token),
        };
        let mut bytes = |key: &str| {
            found(nvs.get::<Vec<u8>>(&NAMESPACE, &Key::from_str(key))).map_err(|_| FactoryError::Unreadable)
        };
        let claim = match (bytes("claim_cert")?, bytes("claim_key")?) {
            (Some(certificate), Some(key)) => Some(Claim { certificate, key: Zeroizing::new(key) }),
            _ => None,
        };
        let ota_key = bytes("ota_key")?;
        if ota_key.as_deref().is_some_and(|key| p256::ecdsa::VerifyingKey::from_sec1_bytes(key).is_err()) {
            return Err(FactoryError::OtaKey);
        }
        Ok(Self {
            token,
            ota_key,
            serial,
            claim,
            template: template.ok_or(FactoryError::Template)?,
            rotation_template: rotation_template.ok_or(FactoryError::Template)?,
            format,
            broker,
            server_ca: bytes("server_ca")?.ok_or(FactoryError::ServerCa)?,
        })
    }
}
