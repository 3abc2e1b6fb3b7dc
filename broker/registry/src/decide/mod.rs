//! Deciding commands.
use signet_identity::{CertificateId, PrincipalKey};

use crate::{Actor, Command, Event, KeyHash, Registry, RegistryError, TokenHash, Wall};

/// What a certificate is to be signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueFor<'a> {
    /// A holder that an operator names.
    Holder(&'a PrincipalKey),
    /// An enrolment, or a rotation in two steps, that the owner of this certificate asks for.
    Enrolment(&'a CertificateId),
    /// The renewal of this certificate in one step.
    Renewal(&'a CertificateId),
    /// The holder of this one-time token.
    Token(&'a TokenHash),
}

impl Registry {
    /// Decides `command`. Nothing changes; the events say what will, once they are stored and applied.
    ///
    /// # Errors
    /// [`RegistryError`] with the first reason why not.
    pub fn decide(&self, command: Command, actor: &Actor, now: Wall) -> Result<Vec<Event>, RegistryError> {
        todo!()
    }

    /// Whether a certificate for `public_key` may be signed now, so that no key signs what [`decide`](Self::decide)
    /// would refuse. The command that brings the certificate in asks all of this again.
    ///
    /// # Errors
    /// [`RegistryError`] with the first reason why not.
    pub fn may_issue(&self, to: IssueFor<'_>, public_key: &KeyHash, now: Wall) -> Result<(), RegistryError> {
        todo!()
    }
}
