//! Two credentials and the marker that says which one counts.
//!
//! A new credential is written to the slot that is not in use, then the marker, one entry of NVS, says that it is to be tried.
//! It becomes the one in use when the broker has accepted it; until then the old one is in use. So after a power cut at
//! any moment the device has what it had, or what it had and something new.

use alloc::string::String;
use alloc::vec::Vec;

use embedded_storage::nor_flash::NorFlash;
use sha2::{Digest as _, Sha256};

use crate::factory::Claim;
use crate::identity::{Leaf, is_name};
use crate::platform::{Rng, Sealing, Secret};
use crate::store::{Store, StoreFault};

/// One of the two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its letter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::A => "slot_a",
            Self::B => "slot_b",
        }
    }
}

/// A credential of the device itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its certificate.
    pub leaf: Leaf,
    /// What stands for its key.
    pub secret: Secret,
    /// The name that the broker gave the device.
    pub thing: String,
}

/// Which slot counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marker {
    /// The slot in use.
    pub active: Option<Slot>,
    /// Whether the other slot (slot A when none is in use) holds a candidate that the broker has not accepted yet.
    pub trial: bool,
    /// How often the candidate was tried in vain.
    pub failures: u8,
    /// On trial: when it began. Else: until when the other slot is kept. In seconds since 1970, 0 for never.
    pub since: u32,
}

/// After how many tries in vain the candidate is given up.
pub const FAILURES_MAX: u8 = 3;

impl Marker {
    /// The slot of the candidate.
    #[must_use]
    pub fn candidate(&self) -> Option<Slot> {
        self.trial.then(|| self.spare())
    }

    /// The slot that may be written.
    #[must_use]
    pub fn spare(&self) -> Slot {
        self.active.map_or(Slot::A, Slot::other)
    }

    fn pack(self) -> u64 {
        let active = match self.active {
            None => 0,
            Some(Slot::A) => 1,
            Some(Slot::B) => 2,
        };
        active | u64::from(self.trial) << 2 | u64::from(self.failures) << 8 | u64::from(self.since) << 16
    }

    fn unpack(packed: u64) -> Option<Self> {
        let active = match packed & 3 {
            0 => None,
            1 => Some(Slot::A),
            2 => Some(Slot::B),
            _ => return None,
        };
        let marker = Self {
            active,
            trial: packed & 4 != 0,
            failures: (packed >> 8) as u8,
            since: (packed >> 16) as u32,
        };
        (marker.pack() == packed).then_some(marker)
    }
}

const MARKER: &str = "marker";
const PENDING: &str = "pending";
const CLAIM_CERTIFICATE: &str = "claim_cert";
const CLAIM_KEY: &str = "claim_key";
const MAGIC: &[u8; 4] = b"SGN1";

/// What was read at the start.
#[derive(Debug)]
pub struct Loaded {
    /// The marker.
    pub marker: Marker,
    /// What the slots hold.
    pub credentials: [Option<Credential>; 2],
    /// Slots that hold something that is no credential of this chip.
    pub unusable: Vec<Slot>,
    /// The claim in the working region.
    pub claim: Option<Claim>,
    /// The key of an enrolment that was not finished.
    pub pending: Option<Secret>,
}

/// The slots in the store.
pub struct Slots<F, S> {
    store: Store<F>,
    sealing: S,
}

impl<F: NorFlash, S: Sealing> Slots<F, S> {
    /// The slots of `store`.
    pub const fn new(store: Store<F>, sealing: S) -> Self {
        Self { store, sealing }
    }

    /// The store, for what is no credential.
    pub const fn store(&mut self) -> &mut Store<F> {
        &mut self.store
    }

    /// What it was made of.
    pub fn into_parts(self) -> (Store<F>, S) {
        (self.store, self.sealing)
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// The flash cannot be read.
    pub fn load(&mut self) -> Result<Loaded, StoreFault> {
        let names = [Slot::A.key(), Slot::B.key(), PENDING, CLAIM_CERTIFICATE, CLAIM_KEY];
        let ([slot_a, slot_b, pending, certificate, key], [marker]) = self.store.read(names, [MARKER])?;
        let mut credentials = [None, None];
        let mut unusable = Vec::new();
        for (slot, stored) in [(Slot::A, slot_a), (Slot::B, slot_b)] {
            let Some(stored) = stored else { continue };
            credentials[slot as usize] = self.decode(slot, &stored);
            if credentials[slot as usize].is_none() {
                unusable.push(slot);
            }
        }
        let marker = sensible(marker.and_then(Marker::unpack).unwrap_or_default(), &credentials);
        let pending = pending.and_then(|stored| self.unseal(PENDING, &stored));
        let claim = certificate.zip(key).map(|(certificate, key)| Claim { certificate, key: key.into() });
        Ok(Loaded { marker, credentials, unusable, claim, pending })
    }

    /// Writes the marker.
    ///
    /// # Errors
    ///
    /// The flash is full or worn.
    pub fn set_marker(&mut self, marker: Marker) -> Result<(), StoreFault> {
        self.store.set_number(MARKER, marker.pack())
    }

    /// Writes a credential.
    ///
    /// # Errors
    ///
    /// The flash is full or worn.
    pub fn put(&mut self, slot: Slot, credential: &Credential, rng: &mut impl Rng) -> Result<(), StoreFault> {
        let encoded = self.encode(slot, credential, rng);
        self.store.set_bytes(slot.key(), &encoded)
    }

    /// Deletes a credential.
    ///
    /// # Errors
    ///
    /// The flash is worn.
    pub fn erase(&mut self, slot: Slot) -> Result<(), StoreFault> {
        self.store.delete(slot.key())
    }

    /// Keeps the key of an enrolment that begins: whoever asks again with the same key is the same device.
    ///
    /// # Errors
    ///
    /// The flash is full or worn.
    pub fn put_pending(&mut self, secret: &Secret, rng: &mut impl Rng) -> Result<(), StoreFault> {
        let sealed = self.seal(PENDING, secret, rng);
        self.store.set_bytes(PENDING, &sealed)
    }

    /// Forgets the key of an enrolment.
    ///
    /// # Errors
    ///
    /// The flash is worn.
    pub fn erase_pending(&mut self) -> Result<(), StoreFault> {
        self.store.delete(PENDING)
    }

    /// Puts a claim into the working region; a service tool does so over the console.
    ///
    /// # Errors
    ///
    /// The flash is full or worn.
    pub fn put_claim(&mut self, claim: &Claim) -> Result<(), StoreFault> {
        self.store.set_bytes(CLAIM_KEY, &claim.key)?;
        self.store.set_bytes(CLAIM_CERTIFICATE, &claim.certificate)
    }

    /// Erases the claim of the working region.
    ///
    /// # Errors
    ///
    /// The flash is worn.
    pub fn erase_claim(&mut self) -> Result<(), StoreFault> {
        self.store.delete(CLAIM_CERTIFICATE)?;
        self.store.delete(CLAIM_KEY)
    }

    fn seal(&mut self, context: &str, secret: &Secret, rng: &mut impl Rng) -> Vec<u8> {
        let mut nonce = [0; 12];
        rng.fill(&mut nonce);
        let mut sealed = nonce.to_vec();
        sealed.extend(self.sealing.seal(nonce, context.as_bytes(), secret));
        sealed
    }

    fn unseal(&mut self, context: &str, stored: &[u8]) -> Option<Secret> {
        let (nonce, sealed) = stored.split_first_chunk()?;
        self.sealing.open(*nonce, context.as_bytes(), sealed)
    }

    /// `SGN1`, then sealed secret, name and certificate, each after its length, then the SHA-256 of all that, cut to 8 bytes.
    fn encode(&mut self, slot: Slot, credential: &Credential, rng: &mut impl Rng) -> Vec<u8> {
        let mut encoded = MAGIC.to_vec();
        let sealed = self.seal(slot.key(), &credential.secret, rng);
        for part in [&sealed[..], credential.thing.as_bytes(), &credential.leaf.der] {
            // Each part is far below 64 KiB: certificates are bounded, names have 64 bytes.
            encoded.extend((part.len() as u16).to_le_bytes());
            encoded.extend(part);
        }
        let digest = Sha256::digest(&encoded);
        encoded.extend(&digest[..8]);
        encoded
    }

    fn decode(&mut self, slot: Slot, stored: &[u8]) -> Option<Credential> {
        let (body, digest) = stored.split_last_chunk::<8>()?;
        if Sha256::digest(body)[..8] != digest[..] {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (part, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            rest = after;
            Some(part)
        };
        let (sealed, thing, der) = (part()?, part()?, part()?);
        let thing = core::str::from_utf8(thing).ok().filter(|thing| is_name(thing))?;
        let secret = self.unseal(slot.key(), sealed)?;
        Some(Credential { leaf: Leaf::read(der).ok()?, secret, thing: thing.into() })
    }
}

/// The marker, corrected when it points to nothing: with a readable credential the device is never without one.
fn sensible(marker: Marker, credentials: &[Option<Credential>; 2]) -> Marker {
    let holds = |slot: Slot| credentials[slot as usize].is_some();
    let mut marker = marker;
    if marker.candidate().is_some_and(|slot| !holds(slot)) {
        marker = Marker { trial: false, failures: 0, since: 0, ..marker };
    }
    if marker.active.is_none_or(|slot| !holds(slot)) {
        if let Some(candidate) = marker.candidate() {
            // Nothing to fall back to, but the candidate counts as one.
            return Marker {
                active: marker.active.filter(|slot| holds(*slot)),
                ..marker_for(candidate, marker)
            };
        }
        let newest = Slot::ALL.into_iter().filter(|slot| holds(*slot)).max_by_key(|slot| {
            credentials[*slot as usize].as_ref().map(|credential| credential.leaf.not_before)
        });
        marker = Marker { active: newest, trial: false, failures: 0, since: 0 };
    }
    marker
}

/// A trial of `candidate` with nothing in use. The spare slot of that state is A; a candidate in B becomes the one in use at
/// once, since there is nothing that it could harm.
const fn marker_for(candidate: Slot, marker: Marker) -> Marker {
    match candidate {
        Slot::A => Marker { active: None, ..marker },
        Slot::B => Marker { active: Some(Slot::B), trial: false, failures: 0, since: 0 },
    }
}
