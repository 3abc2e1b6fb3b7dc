//! Sealing with AES-256-GCM under a key that the board derives, on the chip from the HMAC eFuse.

use alloc::vec::Vec;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

use crate::platform::{Sealing, Secret};

/// AES-256-GCM under one key.
pub struct AesSeal {
    cipher: Aes256Gcm,
}

impl AesSeal {
    /// Seals under `key`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Aes256Gcm::new(key.into()) }
    }
}

impl Sealing for AesSeal {
    fn seal(&mut self, nonce: [u8; 12], context: &[u8], plain: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: plain, aad: context };
        // It fails for messages of 64 GiB and more only; an empty text never opens.
        self.cipher.encrypt(&Nonce::from(nonce), payload).unwrap_or_default()
    }

    fn open(&mut self, nonce: [u8; 12], context: &[u8], sealed: &[u8]) -> Option<Secret> {
        let payload = Payload { msg: sealed, aad: context };
        self.cipher.decrypt(&Nonce::from(nonce), payload).ok().map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_its_key_and_context_only() {
        let mut chip = AesSeal::new(&[7; 32]);
        let sealed = chip.seal([1; 12], b"slot-a", b"a private key");
        assert_eq!(
            chip.open([1; 12], b"slot-a", &sealed).as_deref().map(Vec::as_slice),
            Some(&b"a private key"[..])
        );
        assert!(chip.open([1; 12], b"slot-b", &sealed).is_none(), "another context");
        assert!(chip.open([2; 12], b"slot-a", &sealed).is_none(), "another nonce");
        assert!(AesSeal::new(&[8; 32]).open([1; 12], b"slot-a", &sealed).is_none(), "another chip");
        let mut changed = sealed;
        changed[0] ^= 1;
        assert!(chip.open([1; 12], b"slot-a", &changed).is_none(), "one bit changed");
    }
}
