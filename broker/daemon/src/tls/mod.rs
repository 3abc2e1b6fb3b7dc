//! TLS of a listener: what is trusted, how a client's certificate is judged, the configurations handed to
//! rustls, and the one record that a failed handshake leaves.
//!
//! The way of a handshake: the listener reads the ClientHello through a [`HelloTap`](hello::HelloTap), asks
//! [`TlsListener::server_config`] for the configuration that suits it, drives the handshake inside
//! [`observed`], and then calls [`TlsListener::judge`], resumed or not. A failure becomes a
//! [`FailureRecord`], which [`FailureLog`] keeps, counts and rate-limits.

mod anchor;
mod cache;
mod cause;
mod config;
mod crl;
mod editions;
mod failure;
mod failure_groups;
mod failure_log;
pub mod hello;
mod hkdf;
pub(crate) mod inspect;
mod issuers;
mod observe;
mod options;
mod provider;
mod refusal;
mod selftest;
mod source;
mod trust;
mod verifier;
mod version_one;
mod warning;

#[cfg(test)]
mod tests;

pub use cache::ChainCache;
pub use cause::FailureCause;
pub use config::{Inside, ListenerSources, TlsListener, TlsOptions, TlsVersions};
pub use editions::{Edition, Editions, EditionsError};
pub use failure::{AlertShown, CertificateShown, Direction, Ended, FailureContext, FailureRecord};
pub use failure_groups::{FailedDevice, FailureGroup};
pub use failure_log::{FailureLog, FailureLogLimits, FailuresSince, KeptFailure, LogAdvice};
pub use hello::ClientHello;
pub(crate) use observe::holds_back;
pub use observe::{Gate, Refusal, guarded, observed, observed_sync};
pub use options::{CrlCoverage, EkuRule, StaleCrl, TrustOptions, X509V1};
pub use refusal::{VerifyFailure, Which};
pub(crate) use source::in_words;
pub use source::{Source, SourceError, SourceProblem};
pub use trust::{CrlInfo, Trust};
pub use verifier::{DeviceVerifier, Judged};
pub use warning::TrustWarning;
pub(crate) use warning::is_due;
