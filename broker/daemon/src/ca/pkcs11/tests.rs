//! The signer over a token that does as it is told. A real one (SoftHSM) is tried in `tests/interop`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

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
    /// It does not come back before it is told to.
    Hang,
}

/// Longer than any test waits for a token that answers.
const LONG: Duration = Duration::from_secs(20);
/// When a call of a token that hangs is given up.
const SHORT: Duration = Duration::from_millis(100);

struct Scripted {
    key: EcdsaKeyPair,
    script: Arc<Mutex<VecDeque<Does>>>,
    /// Ends when what hangs is to go on.
    held: Receiver<()>,
}

impl Token for Scripted {
    fn connect(&mut self) -> Result<(), Pkcs11Error> {
        // The lock ends here: what hangs must not hold it.
        let does = self.script.lock().pop_front().unwrap();
        match does {
            Does::Connect => Ok(()),
            Does::Hang => {
                let _released = self.held.recv();
                Ok(())
            }
            Does::RefuseThePin => {
                Err(Pkcs11Error::PinWrong { token: "t".to_owned(), file: PathBuf::from("pin") })
            }
            other => panic!("a session was opened where the script has {other:?}"),
        }
    }

    fn sign(&mut self, _: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        // The lock ends here: what hangs must not hold it.
        let does = self.script.lock().pop_front().unwrap();
        match does {
            does @ (Does::Sign | Does::Hang) => {
                if does == Does::Hang {
                    let _released = self.held.recv();
                }
                Ok(self.key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
            }
            Does::LoseSession => Err(SignFault::Lost("SessionHandleInvalid".to_owned())),
            Does::Refuse => Err(SignFault::Refused("KeyFunctionNotPermitted".to_owned())),
            other => panic!("a signature was asked for where the script has {other:?}"),
        }
    }
}

/// A token that does `script`, its public key, and what lets it go on where it hangs.
fn token(script: impl IntoIterator<Item = Does>) -> (Scripted, PublicKey, Sender<()>) {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let pkcs8 = key.to_pkcs8v1().unwrap();
    let public = KeySigner::from_pkcs8(pkcs8.as_ref()).unwrap().public_key().clone();
    let (release, held) = channel();
    (Scripted { key, script: Arc::new(Mutex::new(script.into_iter().collect())), held }, public, release)
}

fn opened(
    token: Scripted,
    public: PublicKey,
    deadline: Duration,
) -> (Result<Pkcs11Signer, Pkcs11Error>, Arc<Worker>) {
    let settings = Pkcs11 {
        module: PathBuf::from("none.so"),
        token: "t".to_owned(),
        key: "issuing".to_owned(),
        pin_file: None,
    };
    let worker = Worker::start("t".to_owned()).unwrap();
    let open = move || Ok((Box::new(token) as Box<dyn Token>, public));
    (Pkcs11Signer::open_on(Arc::clone(&worker), &settings, deadline, open), worker)
}

/// A signer that has signed once, as each does when it is opened, and what its token does from then on.
fn signer(then: &[Does]) -> (Pkcs11Signer, Arc<Mutex<VecDeque<Does>>>) {
    let (token, public, _) = token(std::iter::once(Does::Sign).chain(then.iter().copied()));
    let script = Arc::clone(&token.script);
    (opened(token, public, LONG).0.unwrap(), script)
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
    let (token, ..) = token([Does::Sign]);
    let other = KeySigner::generate(NewKey::P256).unwrap().public_key().clone();
    assert!(matches!(opened(token, other, LONG).0, Err(Pkcs11Error::Mismatch { .. })));
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

#[test]
fn a_token_that_hangs_when_it_is_opened_is_given_up_at_the_deadline() {
    let (token, public, _release) = token([Does::Hang]);
    let begun = Instant::now();
    let said = opened(token, public, SHORT).0.unwrap_err().to_string();
    assert!(begun.elapsed() < LONG);
    assert!(said.contains("did not answer within") && said.contains("hint"), "{said}");
}

#[test]
fn a_signature_that_hangs_holds_up_nobody_beyond_the_deadline_and_the_token_is_used_again_afterwards() {
    let (token, public, release) = token([Does::Sign, Does::Hang, Does::Sign]);
    let script = Arc::clone(&token.script);
    let (signer, worker) = opened(token, public, LONG);
    let mut signer = signer.unwrap();
    signer.deadline = SHORT;
    let Err(SignerError::Unavailable(why)) = signer.sign(b"x") else { panic!("it was not signed") };
    assert!(why.contains("did not answer within"), "{why}");
    // Whoever comes meanwhile is told so at once, and the token is not asked again. The call began a moment after it was asked for.
    let end = Instant::now() + LONG;
    while worker.watch().stuck_for().is_none() {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    let Err(SignerError::Unavailable(why)) = signer.sign(b"x") else { panic!("it was not signed") };
    assert!(why.contains("is asked nothing more until it does") && why.contains("hint"), "{why}");
    assert_eq!((signer.watch().overdue(), signer.watch().refused(), script.lock().len()), (1, 1, 1));
    drop(release);
    let end = Instant::now() + LONG;
    while worker.watch().stuck_for().is_some() {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    signer.deadline = LONG;
    let signature = signer.sign(b"x").unwrap();
    assert!(signer.public_key().verifies(b"x", &signature));
}

#[test]
fn a_lost_session_that_hangs_when_it_is_opened_again_is_given_up_at_the_deadline() {
    let (token, public, _release) = token([Does::Sign, Does::LoseSession, Does::Hang]);
    let mut signer = opened(token, public, LONG).0.unwrap();
    signer.deadline = SHORT;
    assert!(matches!(signer.sign(b"x"), Err(SignerError::Unavailable(_))));
    // A signer whose token hangs can be taken out of use all the same.
    let begun = Instant::now();
    drop(signer);
    assert!(begun.elapsed() < LONG);
}
