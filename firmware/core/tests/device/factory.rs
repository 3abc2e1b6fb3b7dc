//! The factory partition: what is read out of it, and what is refused.

use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use esp_nvs::platform::Crc;
use esp_nvs::{Key, Nvs};
use p256::ecdsa::SigningKey;
use signet_device_core::factory::{Factory, FactoryError};

use super::flash::{Flash, FlashError, SECTOR};

/// The flash with the checksum that NVS wants.
pub struct WithCrc(pub Flash);

impl ErrorType for WithCrc {
    type Error = FlashError;
}

impl ReadNorFlash for WithCrc {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for WithCrc {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.write(offset, bytes)
    }
}

impl MultiwriteNorFlash for WithCrc {}

impl Crc for WithCrc {
    fn crc32(init: u32, data: &[u8]) -> u32 {
        esp_nvs::platform::software_crc32(init, data)
    }
}

fn point() -> Vec<u8> {
    let key = SigningKey::from_slice(&[5; 32]).expect("a key");
    p256::PublicKey::from(*key.verifying_key()).to_sec1_bytes().to_vec()
}

/// A partition with what every device has, and these texts and bytes.
fn read(texts: &[(&str, &str)], bytes: &[(&str, &[u8])]) -> Result<Factory, FactoryError> {
    let flash = Flash::blank(6);
    let mut nvs = Nvs::new(0, 6 * SECTOR, WithCrc(flash.clone())).expect("mounted");
    let namespace = Key::from_str("factory");
    let usual =
        [("device_id", "sn-1"), ("template", "fleet"), ("rotate_tmpl", "rotate"), ("broker", "b:8883")];
    for (key, value) in usual.iter().chain(texts) {
        nvs.set(&namespace, &Key::from_str(key), *value).expect("stored");
    }
    for (key, value) in [("server_ca", &[1_u8][..])].iter().chain(bytes) {
        nvs.set(&namespace, &Key::from_str(key), *value).expect("stored");
    }
    drop(nvs);
    Factory::read(&mut flash.clone())
}

#[test]
fn the_key_of_updates_is_a_point_of_the_curve_or_there_is_none() {
    assert_eq!(read(&[], &[]).map(|factory| factory.ota_key), Ok(None));
    let point = point();
    assert_eq!(read(&[], &[("ota_key", &point)]).map(|factory| factory.ota_key), Ok(Some(point.clone())));
    let mut off = point.clone();
    off[64] ^= 1;
    for bad in [&off[..], &point[..64], b"x"] {
        assert_eq!(read(&[], &[("ota_key", bad)]).map(|_| ()), Err(FactoryError::OtaKey));
    }
}

#[test]
fn a_token_comes_with_its_address_or_not_at_all() {
    let url = "https://broker.example:8443/provision";
    let factory = read(&[("token", "secret"), ("token_url", url)], &[]).expect("good");
    assert_eq!(factory.token.expect("a token").secret.as_str(), "secret");
    assert!(factory.claim.is_none());
    for bad in [
        &[("token", "secret")][..],
        &[("token_url", url)],
        &[("token", "secret"), ("token_url", "http://broker.example/provision")],
    ] {
        assert_eq!(read(bad, &[]).map(|_| ()), Err(FactoryError::Token), "{bad:?}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut empty = Flash::blank(6);
    assert_eq!(Factory::read(&mut empty), Err(FactoryError::Serial));
    assert_eq!(read(&[("format", "xml")], &[]).map(|_| ()), Err(FactoryError::Format));
    assert_eq!(read(&[("device_id", "a/b")], &[]).map(|_| ()), Err(FactoryError::Serial));
}
