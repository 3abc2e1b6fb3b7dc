//! The signer over a token that does as it is told. A real one (SoftHSM) is tried in `tests/interop`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use signet_registry::ca::{KeySigner, NewKey};

use super::*;

/// What a scripted token does at the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Sign,
    LoseSession,
    Refuse,
    Connect,
    RefuseThePin,
}

struct Scripted {
    key: EcdsaKeyPair,
    script: Arc<Mutex<VecDeque<Does>>>,
}

impl Token for Scripted {
    fn connect(&mut self) -> Result<(), Pkcs11Error> {
        match self.script.lock().pop_front().unwrap() {
            Does::Connect => Ok(()),
            Does::RefuseThePin => {
                Err(Pkcs11Error::PinWrong { token: "t".to_owned(), file: PathBuf::from("pin") })
            }
            other => panic!("a session was opened where the script has {other:?}"),
        }
    }

    fn sign(&mut self, _: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        match self.script.lock().pop_front().unwrap() {
            Does::Sign => Ok(self.key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()),
            Does::LoseSession => Err(SignFault::Lost("SessionHandleInvalid".to_owned())),
            Does::Refuse => Err(SignFault::Refused("KeyFunctionNotPermitted".to_owned())),
            other => panic!("a signature was asked for where the script has {other:?}"),
        }
    }
}

/// A signer that has signed once, as each does when it is opened, and what its token does from then on.
fn signer(then: &[Does]) -> (Pkcs11Signer, Arc<Mutex<VecDeque<Does>>>) {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let pkcs8 = key.to_pkcs8v1().unwrap();
    let public = KeySigner::from_pkcs8(pkcs8.as_ref()).unwrap().public_key().clone();
    let script = Arc::new(Mutex::new(std::iter::once(Does::Sign).chain(then.iter().copied()).collect()));
    let token = Scripted { key, script: Arc::clone(&script) };
    (Pkcs11Signer::with(Box::new(token), public, "issuing").unwrap(), script)
}

#[test]
fn the_numbers_of_a_token_become_a_signature_that_verifies() {
    // Leading zeros and high bits come up in some of them.
    let (signer, _) = signer(&[Does::Sign; 300]);
    for n in 0..300_u32 {
        let message = n.to_be_bytes();
        assert!(signer.public_key().verifies(&message, &signer.sign(&message).unwrap()));
    }
    assert_eq!(signer.algorithm(), SignatureAlgorithm::EcdsaP256Sha256);
}

#[test]
fn a_lost_session_is_opened_again_and_the_signature_made() {
    let (signer, script) = signer(&[Does::LoseSession, Does::Connect, Does::Sign, Does::Sign]);
    assert!(signer.sign(b"x").is_ok());
    assert!(signer.sign(b"y").is_ok());
    assert!(script.lock().is_empty());
}

#[test]
fn a_session_that_is_lost_twice_is_given_up_for_this_signature_only() {
    let (signer, _) = signer(&[
        Does::LoseSession,
        Does::Connect,
        Does::LoseSession,
        Does::LoseSession,
        Does::Connect,
        Does::Sign,
    ]);
    assert!(matches!(signer.sign(b"x"), Err(SignerError::Unavailable(_))));
    assert!(signer.sign(b"x").is_ok());
}

#[test]
fn a_refused_signature_is_not_asked_for_again() {
    let (signer, script) = signer(&[Does::Refuse]);
    assert_eq!(signer.sign(b"x"), Err(SignerError::Failed("KeyFunctionNotPermitted".to_owned())));
    assert!(script.lock().is_empty());
}

#[test]
fn a_pin_that_is_refused_at_a_new_session_is_tried_once() {
    let (signer, script) = signer(&[Does::LoseSession, Does::RefuseThePin]);
    let Err(SignerError::Unavailable(why)) = signer.sign(b"x") else { panic!("it was not signed") };
    assert!(why.contains("refuses this PIN"), "{why}");
    assert!(script.lock().is_empty());
}

#[test]
fn a_key_that_is_not_the_certificates_is_found_before_anything_is_issued() {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let other = KeySigner::generate(NewKey::P256).unwrap().public_key().clone();
    let script = Arc::new(Mutex::new(VecDeque::from([Does::Sign])));
    let outcome = Pkcs11Signer::with(Box::new(Scripted { key, script }), other, "issuing");
    assert!(matches!(outcome, Err(Pkcs11Error::Mismatch { .. })));
}

#[test]
fn a_module_that_is_missing_or_none_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.so");
    std::fs::write(&none, "text").unwrap();
    for module in [dir.path().join("missing.so"), none] {
        let settings =
            Pkcs11 { module: module.clone(), token: "t".to_owned(), key: "k".to_owned(), pin_file: None };
        let said = Pkcs11Signer::open(&settings, dir.path(), None).unwrap_err().to_string();
        assert!(said.starts_with(&module.display().to_string()) && said.contains("hint"), "{said}");
    }
}
