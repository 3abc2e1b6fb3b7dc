//! The built-in rights of provisioning claims.

use std::sync::OnceLock;

use crate::compile::{self, ParseOptions};
use crate::policy::Policy;

const TEXT: &str = include_str!("../policies/built-in-claim.acl");

/// The policy that every claim has, whatever the policy file says. A test shows that it compiles; if it did not,
/// claims would have no rights.
pub(crate) fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| match compile::parse(TEXT, "built-in", &ParseOptions::default(), true) {
        Ok((policy, _)) => policy,
        Err(_) => Policy::deny_all(),
    })
}
