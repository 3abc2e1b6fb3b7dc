//! What the cryptography of a full handshake costs the server: one P-256 signature, three verifications (leaf, intermediate,
//! CertificateVerify) and one X25519 key pair and agreement, with the library that the broker uses.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey as PeerKey, X25519};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

use crate::process::own_thread_time;
use crate::report::{Record, median};

const ROUNDS: usize = 9;
const PER_ROUND: u32 = 200;
/// About a TBSCertificate.
const SIGNED_BYTES: usize = 400;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    sign_us: f64,
    verify_us: f64,
    agree_us: f64,
}

impl Floor {
    /// Of a server in a full handshake with a client that presents leaf and intermediate.
    pub(crate) fn handshake_us(&self) -> f64 {
        self.sign_us + 3.0 * self.verify_us + self.agree_us
    }

    /// Of one P-256 signature.
    pub(crate) fn one_verification_us(&self) -> f64 {
        self.verify_us
    }

    /// Of a server that has verified the same chain before: CertificateVerify alone.
    pub(crate) fn returning_us(&self) -> f64 {
        self.sign_us + self.verify_us + self.agree_us
    }

    /// Of a TLS 1.3 handshake that resumes a session (psk_dhe_ke).
    pub(crate) fn resumed_us(&self) -> f64 {
        self.agree_us
    }

    /// Of a device's enrolment by a claim: a connect with the claim's chain, verified before; the proof in the CSR and the signature of the
    /// certificate; a connect with the new leaf, whose authority is an anchor.
    pub(crate) fn enrolment_us(&self) -> f64 {
        let certify = self.verify_us + self.sign_us;
        let leaf_alone = self.sign_us + 2.0 * self.verify_us + self.agree_us;
        self.returning_us() + certify + leaf_alone
    }

    pub(crate) fn record(&self) -> Record {
        let results = BTreeMap::from([
            ("sign_us", self.sign_us),
            ("verify_us", self.verify_us),
            ("agree_us", self.agree_us),
            ("handshake_us", self.handshake_us()),
            ("handshake_returning_us", self.returning_us()),
            ("handshake_resumed_us", self.resumed_us()),
            ("enrolment_us", self.enrolment_us()),
        ]);
        let (scenario, load) = ("floor", serde_json::json!({}));
        Record { scenario, broker: None, tls: None, load, results, distributions: BTreeMap::new() }
    }
}

/// Medians of several rounds, in CPU time of this thread.
pub(crate) fn measure() -> Result<Floor> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    let message = [7; SIGNED_BYTES];
    let signature = key.sign(&random, &message)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    let peer = EphemeralPrivateKey::generate(&X25519, &random)?.compute_public_key()?;
    Ok(Floor {
        sign_us: each_us(|| {
            key.sign(&random, &message)?;
            Ok(())
        })?,
        verify_us: each_us(|| Ok(public.verify(&message, signature.as_ref())?))?,
        agree_us: each_us(|| {
            let own = EphemeralPrivateKey::generate(&X25519, &random)?;
            own.compute_public_key()?;
            let peer = PeerKey::new(&X25519, peer.as_ref());
            agreement::agree_ephemeral(own, peer, anyhow::anyhow!("no agreement"), |_| Ok(()))
        })?,
    })
}

fn each_us(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let before = own_thread_time();
        for _ in 0..PER_ROUND {
            work()?;
        }
        let used = own_thread_time() - before;
        rounds.push(used.as_secs_f64() * 1e6 / f64::from(PER_ROUND));
    }
    median(&rounds).context("no rounds")
}
