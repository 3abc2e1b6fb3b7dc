//! What the device needs from what it runs on.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use embedded_storage::nor_flash::NorFlash;
use zeroize::Zeroizing;

use crate::io::Now;

/// Time: a clock that never goes back and, when somebody has set it, the time of day. Drivers read it and put what it says
/// into every call of [`Device::handle`](crate::Device::handle).
pub trait Clock {
    /// Now.
    fn now(&self) -> Now;
}

/// Randomness fit for keys.
pub trait Rng {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);

    /// A number below `bound`, or 0 when `bound` is 0. Good enough for jitter; biased by less than 2^-32 for bounds below 2^32.
    fn below(&mut self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }
}

/// What stands for a private key in the flash: the key itself, or where a secure element has it. Sealed before it is stored.
pub type Secret = Zeroizing<Vec<u8>>;

/// Makes keys and signs signing requests.
pub trait Signer {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// The element that has the keys does not answer.
    fn generate(&mut self, rng: &mut dyn Rng) -> Result<Secret, SignerError>;

    /// The uncompressed point of the public key (65 bytes, SEC1).
    ///
    /// # Errors
    ///
    /// `secret` is not what [`Signer::generate`] gave.
    fn public_key(&mut self, secret: &Secret) -> Result<[u8; 65], SignerError>;

    /// A PKCS#10 request (DER, RFC 2986) for `name` as common name.
    ///
    /// # Errors
    ///
    /// `secret` is not what [`Signer::generate`] gave, or `name` cannot be a common name.
    fn request(&mut self, secret: &Secret, name: &str) -> Result<Vec<u8>, SignerError>;

    /// The private key for the TLS library: PKCS#8 DER, or what the driver of a secure element understands.
    ///
    /// # Errors
    ///
    /// `secret` is not what [`Signer::generate`] gave.
    fn tls_key(&mut self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SignerError>;
}

/// A key cannot be made or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerError {
    /// The stored secret is not a key.
    NotAKey,
    /// The name cannot stand in a signing request.
    Name,
    /// The secure element does not answer.
    Hardware,
}

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAKey => "the stored secret is not a P-256 key",
            Self::Name => "the serial number cannot stand in a signing request",
            Self::Hardware => "the secure element does not answer",
        })
    }
}

impl core::error::Error for SignerError {}

/// Encrypts what is kept in the flash under a key that only this chip has.
pub trait Sealing {
    /// `plain`, encrypted and authenticated together with `context`. `nonce` is random and never given twice.
    fn seal(&mut self, nonce: [u8; 12], context: &[u8], plain: &[u8]) -> Vec<u8>;

    /// What was sealed; `None` when it was sealed elsewhere, for another context, or changed since.
    fn open(&mut self, nonce: [u8; 12], context: &[u8], sealed: &[u8]) -> Option<Secret>;
}

/// One of the two partitions that a firmware image can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `ota_0`.
    First,
    /// `ota_1`.
    Second,
}

impl Place {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Where firmware images go: two partitions and the note which one boots. [`Partitions`](crate::images::Partitions) is that on
/// any flash.
pub trait Images {
    /// Where the image that runs is.
    fn running(&self) -> Place;

    /// Prepares the partition that does not run for an image of `bytes` bytes. After it the image that runs is the one that
    /// boots, whatever was noted before.
    ///
    /// # Errors
    ///
    /// It is too small, or the flash cannot be written.
    fn begin(&mut self, bytes: u32) -> Result<(), ImageError>;

    /// Writes the next part. `offset` is a multiple of 4 and follows the part before.
    ///
    /// # Errors
    ///
    /// The flash cannot be written.
    fn write(&mut self, offset: u32, part: &[u8]) -> Result<(), ImageError>;

    /// Reads back what was written. `offset` and the length are multiples of 4.
    ///
    /// # Errors
    ///
    /// The flash cannot be read.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ImageError>;

    /// Lets the image that was written boot next, unproven. After a power cut the old note counts, or the new one.
    ///
    /// # Errors
    ///
    /// The flash cannot be written.
    fn boot_next(&mut self) -> Result<(), ImageError>;

    /// Whether the image that runs is noted as unproven. What the device has noted itself counts more; this is for a device
    /// that lost it.
    fn on_trial(&mut self) -> bool;

    /// Lets the image that runs boot from now on, as proven.
    ///
    /// # Errors
    ///
    /// The flash cannot be written.
    fn keep(&mut self) -> Result<(), ImageError>;

    /// Lets the image that does not run boot next, as proven.
    ///
    /// # Errors
    ///
    /// The flash cannot be written.
    fn revert(&mut self) -> Result<(), ImageError>;
}

/// An image cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageError {
    /// The partition is smaller than the image.
    TooLarge,
    /// The flash cannot be erased or written.
    Flash,
}

/// A device whose images cannot be replaced.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedImage;

impl Images for FixedImage {
    fn running(&self) -> Place {
        Place::First
    }

    fn begin(&mut self, _: u32) -> Result<(), ImageError> {
        Err(ImageError::TooLarge)
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), ImageError> {
        Err(ImageError::TooLarge)
    }

    fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), ImageError> {
        Err(ImageError::TooLarge)
    }

    fn boot_next(&mut self) -> Result<(), ImageError> {
        Err(ImageError::TooLarge)
    }

    fn on_trial(&mut self) -> bool {
        false
    }

    fn keep(&mut self) -> Result<(), ImageError> {
        Ok(())
    }

    fn revert(&mut self) -> Result<(), ImageError> {
        Err(ImageError::TooLarge)
    }
}

/// The kinds of everything that a device is put together from.
pub trait Platform {
    /// The flash region of the credentials, at least four sectors of 4096 bytes.
    type Flash: NorFlash;
    /// Randomness.
    type Rng: Rng;
    /// Keys.
    type Signer: Signer;
    /// Sealing at rest.
    type Sealing: Sealing;
    /// Firmware images.
    type Images: Images;
}

impl<T: Signer + ?Sized> Signer for Box<T> {
    fn generate(&mut self, rng: &mut dyn Rng) -> Result<Secret, SignerError> {
        (**self).generate(rng)
    }

    fn public_key(&mut self, secret: &Secret) -> Result<[u8; 65], SignerError> {
        (**self).public_key(secret)
    }

    fn request(&mut self, secret: &Secret, name: &str) -> Result<Vec<u8>, SignerError> {
        (**self).request(secret, name)
    }

    fn tls_key(&mut self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SignerError> {
        (**self).tls_key(secret)
    }
}
