//! A real token: its module, a session, the key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11 as Module};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use signet_config::Pkcs11;
use signet_registry::ca::{KeyKind, NewKey, PublicKey, SignatureAlgorithm};

use super::pin::Pin;
use super::{Pkcs11Error, SignFault, Token, encoding};

/// The bytes of a key pair's CKA_ID.
const ID_BYTES: usize = 16;
/// The most keys that a message names.
const KEYS_SHOWN_MAX: usize = 20;

/// How long a module is waited for that is to be shut down and begun again, while other tokens of it are in use.
const ALONE_WITHIN: Duration = Duration::from_secs(1);

/// secp256r1 and secp384r1 as CKA_EC_PARAMS (RFC 5480 section 2.1.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// PKCS #11 has one state for a process: a module is loaded once, and stays.
static MODULES: Mutex<Vec<(PathBuf, Arc<Loaded>)>> = Mutex::new(Vec::new());

/// A module that is loaded.
struct Loaded {
    module: Module,
    /// Held for reading during every call, and for writing while the module is shut down and begun again, which must not
    /// happen under a call (PKCS #11 section 5.4.2, C_Finalize).
    calls: RwLock<()>,
}

/// The token that the settings name.
pub(super) struct HsmToken {
    settings: Pkcs11,
    loaded: Arc<Loaded>,
    pin: Option<Pin>,
    open: Option<Open>,
}

/// A session in which the key is known.
struct Open {
    session: Session,
    slot: Slot,
    key: ObjectHandle,
}

impl HsmToken {
    pub(super) fn new(settings: Pkcs11, state: &Path) -> Result<Self, Pkcs11Error> {
        let loaded = load(&settings.module)?;
        let pin = settings.pin_file.clone().map(|file| Pin::new(file, state));
        Ok(Self { settings, loaded, pin, open: None })
    }

    fn module(&self) -> &Module {
        &self.loaded.module
    }

    fn connect_once(&mut self) -> Result<(), Pkcs11Error> {
        let loaded = Arc::clone(&self.loaded);
        let _calling = loaded.calls.read();
        self.open = None;
        let (slot, info) = self.slot()?;
        let session = self.module().open_ro_session(slot)?;
        self.log_in(&session, &info)?;
        let key = self.private_key(&session)?;
        self.open = Some(Open { session, slot, key });
        Ok(())
    }

    /// Shuts the module down and begins it again: many see a token that came back only then.
    fn begin_again(&mut self) -> Result<(), Pkcs11Error> {
        self.open = None;
        let _alone = alone(&self.loaded.calls, ALONE_WITHIN)?;
        if let Err(error) = self.module().clone().finalize() {
            tracing::debug!(%error, "the PKCS #11 module did not shut down");
        }
        initialize(&self.settings.module, self.module())
    }

    /// The slot of the one token of that label or serial number.
    fn slot(&self) -> Result<(Slot, TokenInfo), Pkcs11Error> {
        let wanted = &self.settings.token;
        let mut there = Vec::new();
        for slot in self.module().get_slots_with_token()? {
            // A slot that cannot be asked is not the one.
            if let Ok(info) = self.module().get_token_info(slot)
                && info.token_initialized()
            {
                there.push((slot, info));
            }
        }
        let name = |info: &TokenInfo| format!("{:?} (serial number {})", info.label(), info.serial_number());
        let is_it = |info: &TokenInfo| info.label() == wanted || info.serial_number() == wanted;
        let mut found: Vec<_> = there.iter().filter(|(_, info)| is_it(info)).cloned().collect();
        if found.len() > 1 {
            let found = found.iter().map(|(_, info)| name(info)).collect();
            return Err(Pkcs11Error::SeveralTokens { wanted: wanted.clone(), found });
        }
        found.pop().ok_or_else(|| Pkcs11Error::NoToken {
            wanted: wanted.clone(),
            found: there.iter().map(|(_, info)| name(info)).collect(),
        })
    }

    fn log_in(&mut self, session: &Session, info: &TokenInfo) -> Result<(), Pkcs11Error> {
        let token = self.settings.token.clone();
        if !info.login_required() {
            return Ok(());
        }
        if info.user_pin_locked() {
            return Err(Pkcs11Error::PinLocked { token });
        }
        let Some(pin) = &mut self.pin else {
            if !info.protected_authentication_path() {
                return Err(Pkcs11Error::PinNeeded { token });
            }
            return match session.login(UserType::User, None) {
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
                Err(error) => Err(error.into()),
            };
        };
        let text = pin.read(&token)?;
        if info.user_pin_final_try() {
            return Err(Pkcs11Error::PinLastTry { token });
        }
        let secret = RawAuthPin::new(Box::new(text.to_vec()));
        match session.login_with_raw(UserType::User, &secret) {
            Ok(()) => {
                pin.was_accepted();
                Ok(())
            }
            // Another session of this process has.
            Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinExpired,
                _,
            )) => {
                pin.was_refused();
                Err(Pkcs11Error::PinWrong { token, file: pin.file().to_owned() })
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(Pkcs11Error::PinLocked { token }),
            Err(error) => Err(error.into()),
        }
    }

    fn private_keys(&self, session: &Session) -> Result<Vec<ObjectHandle>, Pkcs11Error> {
        let label = self.settings.key.as_bytes().to_vec();
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label)];
        Ok(session.find_objects(&template)?)
    }

    fn private_key(&self, session: &Session) -> Result<ObjectHandle, Pkcs11Error> {
        let (token, key) = (self.settings.token.clone(), self.settings.key.clone());
        match self.private_keys(session)?.as_slice() {
            [one] => Ok(*one),
            [] => Err(Pkcs11Error::NoKey { token, key, found: labels(session) }),
            several => Err(Pkcs11Error::SeveralKeys { token, key, count: several.len() }),
        }
    }

    /// The public key that is in the token under the key's label; `None` when there is none.
    pub(super) fn public_key(&self) -> Result<Option<PublicKey>, Pkcs11Error> {
        let _calling = self.loaded.calls.read();
        let Some(open) = &self.open else { return Ok(None) };
        let label = self.settings.key.as_bytes().to_vec();
        let template = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Label(label)];
        let Some(object) = open.session.find_objects(&template)?.first().copied() else { return Ok(None) };
        let asked = [
            AttributeType::EcParams,
            AttributeType::EcPoint,
            AttributeType::Modulus,
            AttributeType::PublicExponent,
        ];
        let (mut params, mut point, mut modulus, mut exponent) = (None, None, None, None);
        for attribute in open.session.get_attributes(object, &asked)? {
            match attribute {
                Attribute::EcParams(bytes) => params = Some(bytes),
                Attribute::EcPoint(bytes) => point = Some(bytes),
                Attribute::Modulus(bytes) => modulus = Some(bytes),
                Attribute::PublicExponent(bytes) => exponent = Some(bytes),
                _ => {}
            }
        }
        let key = || self.settings.key.clone();
        let spki = match (params, point, modulus, exponent) {
            (Some(params), Some(point), _, _) => Some(encoding::ec_spki(&params, &point)),
            (_, _, Some(modulus), Some(exponent)) => encoding::rsa_spki(&modulus, &exponent),
            _ => None,
        };
        let spki = spki.ok_or_else(|| Pkcs11Error::KeyKind { key: key() })?;
        let public = PublicKey::from_spki(&spki).map_err(|error| Pkcs11Error::Key { key: key(), error })?;
        Ok(Some(public))
    }

    /// Whether the token signs with keys of this kind.
    pub(super) fn check_mechanism(&self, kind: KeyKind) -> Result<(), Pkcs11Error> {
        let Some(algorithm) = SignatureAlgorithm::of(kind) else {
            return Err(Pkcs11Error::KeyKind { key: self.settings.key.clone() });
        };
        let (_, wanted, mechanism) = mechanism_of(algorithm);
        let _calling = self.loaded.calls.read();
        let Some(open) = &self.open else { return Ok(()) };
        self.has_mechanism(open.slot, wanted, mechanism)
    }

    fn has_mechanism(
        &self,
        slot: Slot,
        wanted: MechanismType,
        mechanism: &'static str,
    ) -> Result<(), Pkcs11Error> {
        if self.module().get_mechanism_list(slot)?.contains(&wanted) {
            Ok(())
        } else {
            Err(Pkcs11Error::Mechanism { token: self.settings.token.clone(), mechanism })
        }
    }

    /// Makes a key pair that the token does not give away.
    pub(super) fn generate(&mut self, kind: NewKey) -> Result<(), Pkcs11Error> {
        let loaded = Arc::clone(&self.loaded);
        let _calling = loaded.calls.read();
        let (slot, info) = self.slot()?;
        let session = self.module().open_rw_session(slot)?;
        self.log_in(&session, &info)?;
        if !self.private_keys(&session)?.is_empty() {
            let (token, key) = (self.settings.token.clone(), self.settings.key.clone());
            return Err(Pkcs11Error::KeyExists { token, key });
        }
        self.has_mechanism(slot, MechanismType::ECC_KEY_PAIR_GEN, "CKM_EC_KEY_PAIR_GEN")?;
        self.has_mechanism(slot, MechanismType::ECDSA, "CKM_ECDSA")?;
        let curve = match kind {
            NewKey::P256 => P256,
            NewKey::P384 => P384,
        };
        let label = Attribute::Label(self.settings.key.as_bytes().to_vec());
        let mut id = vec![0; ID_BYTES];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| Pkcs11Error::Call {
            call: "the random number generator".to_owned(),
            reason: "nothing".to_owned(),
        })?;
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(curve.to_vec()),
            label.clone(),
            Attribute::Id(id.clone()),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label,
            Attribute::Id(id),
        ];
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
        Ok(())
    }
}

impl Token for HsmToken {
    fn connect(&mut self) -> Result<(), Pkcs11Error> {
        match self.connect_once() {
            Err(Pkcs11Error::NoToken { .. } | Pkcs11Error::Call { .. }) => {
                self.begin_again()?;
                self.connect_once()
            }
            other => other,
        }
    }

    fn sign(&mut self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        let loaded = Arc::clone(&self.loaded);
        let _calling = loaded.calls.read();
        let Some(open) = &self.open else { return Err(SignFault::Lost("there is no session".to_owned())) };
        let (mechanism, ..) = mechanism_of(algorithm);
        let signed = match algorithm {
            SignatureAlgorithm::EcdsaP256Sha256 => {
                open.session.sign(&mechanism, open.key, hash(&digest::SHA256, message).as_ref())
            }
            SignatureAlgorithm::EcdsaP384Sha384 => {
                open.session.sign(&mechanism, open.key, hash(&digest::SHA384, message).as_ref())
            }
            SignatureAlgorithm::RsaPkcs1Sha256 => open.session.sign(&mechanism, open.key, message),
        };
        signed.map_err(|error| {
            let lost = is_lost(&error);
            let why = Pkcs11Error::from(error).to_string();
            if lost {
                self.open = None;
                SignFault::Lost(why)
            } else {
                SignFault::Refused(why)
            }
        })
    }
}

fn hash(algorithm: &'static digest::Algorithm, message: &[u8]) -> digest::Digest {
    digest::digest(algorithm, message)
}

/// The mechanism, its type and its name in the standard. ECDSA is given the hash: more tokens do that than hash themselves.
fn mechanism_of(algorithm: SignatureAlgorithm) -> (Mechanism<'static>, MechanismType, &'static str) {
    match algorithm {
        SignatureAlgorithm::EcdsaP256Sha256 | SignatureAlgorithm::EcdsaP384Sha384 => {
            (Mechanism::Ecdsa, MechanismType::ECDSA, "CKM_ECDSA")
        }
        SignatureAlgorithm::RsaPkcs1Sha256 => {
            (Mechanism::Sha256RsaPkcs, MechanismType::SHA256_RSA_PKCS, "CKM_SHA256_RSA_PKCS")
        }
    }
}

/// Whether the session, and not the key or the request, is what is wrong.
fn is_lost(error: &Error) -> bool {
    let Error::Pkcs11(value, _) = error else { return false };
    matches!(
        value,
        RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::UserNotLoggedIn
            | RvError::CryptokiNotInitialized
            | RvError::DeviceRemoved
            | RvError::DeviceError
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::SlotIdInvalid
            | RvError::KeyHandleInvalid
            | RvError::ObjectHandleInvalid
            | RvError::GeneralError
            | RvError::FunctionFailed
    )
}

/// Waits until no call of the module is being made, no longer than `within`. Calls of other tokens wait behind this one.
fn alone(calls: &RwLock<()>, within: Duration) -> Result<RwLockWriteGuard<'_, ()>, Pkcs11Error> {
    calls.try_write_for(within).ok_or_else(|| Pkcs11Error::Call {
        call: "C_Finalize".to_owned(),
        reason: "nothing, since a call of another token of this module has not ended".to_owned(),
    })
}

/// The labels of the private keys in the token, for a message.
fn labels(session: &Session) -> Vec<String> {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
    let keys = session.find_objects(&template).unwrap_or_default();
    let label = |key: &ObjectHandle| {
        let attributes = session.get_attributes(*key, &[AttributeType::Label]).ok()?;
        attributes.into_iter().find_map(|attribute| match attribute {
            Attribute::Label(bytes) => Some(format!("{:?}", String::from_utf8_lossy(&bytes))),
            _ => None,
        })
    };
    keys.iter().take(KEYS_SHOWN_MAX).filter_map(label).collect()
}

fn load(path: &Path) -> Result<Arc<Loaded>, Pkcs11Error> {
    let mut modules = MODULES.lock();
    if let Some((_, loaded)) = modules.iter().find(|(known, _)| known == path) {
        return Ok(Arc::clone(loaded));
    }
    let fail = |error: &dyn std::fmt::Display| Pkcs11Error::Module {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let module = Module::new(path).map_err(|error| match error {
        Error::LibraryLoading(why) => fail(&why),
        Error::MissingSymbol(_) => fail(&"it is no PKCS #11 module"),
        other => fail(&other),
    })?;
    initialize(path, &module)?;
    let loaded = Arc::new(Loaded { module, calls: RwLock::new(()) });
    modules.push((path.to_owned(), Arc::clone(&loaded)));
    Ok(loaded)
}

fn initialize(path: &Path, module: &Module) -> Result<(), Pkcs11Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, Function::Initialize)) => Ok(()),
        Err(error) => Err(Pkcs11Error::Module {
            path: path.to_owned(),
            reason: format!("{}, is it set up for this user?", Pkcs11Error::from(error)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_not_waited_for_without_end_while_another_token_of_it_hangs() {
        let calls = RwLock::new(());
        let hangs = calls.read();
        let refused = std::thread::scope(|scope| {
            let other = scope.spawn(|| alone(&calls, Duration::from_millis(20)).err());
            other.join().unwrap()
        });
        assert!(matches!(refused, Some(Pkcs11Error::Call { .. })), "{refused:?}");
        drop(hangs);
        assert!(alone(&calls, Duration::from_secs(20)).is_ok());
    }
}
