//! How certificates and their revocation lists are judged, as the configuration says it.

use std::time::Duration;

/// Whether a client certificate must say that it is for client authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EkuRule {
    /// It must have an extended key usage with clientAuth.
    #[default]
    Required,
    /// If it has an extended key usage, that must contain clientAuth. Secure elements' certificates have none.
    IfPresent,
}

/// What is done with certificates of X.509 version 1: clients' own, and the server's. Authorities of version 1
/// are refused in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum X509V1 {
    /// They are refused.
    #[default]
    Refuse,
    /// They are accepted. A client's must have been issued by a trust anchor directly, and has no extended key
    /// usage, so [`EkuRule::IfPresent`] must hold too.
    Accept,
}

/// What a revocation list past its nextUpdate means for the certificates of its issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StaleCrl {
    /// They are refused.
    #[default]
    Reject,
    /// The list counts for so long after nextUpdate; then they are refused.
    Grace(Duration),
    /// The list counts.
    Warn,
}

/// Which certificates must be covered by a list, where any list is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CrlCoverage {
    /// None: what is listed is refused, the rest is not.
    IfPresent,
    /// The client's own certificate: a certificate whose issuer has no list is refused.
    #[default]
    Leaf,
    /// Every certificate below the trust anchor.
    Chain,
}

/// How certificates are judged. The default is the strictest of each but for [`CrlCoverage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrustOptions {
    /// Extended key usage.
    pub eku: EkuRule,
    /// Stale lists.
    pub stale: StaleCrl,
    /// Missing lists.
    pub coverage: CrlCoverage,
    /// Certificates of version 1.
    pub x509_v1: X509V1,
    /// How long after its end a client's own certificate is still judged good, in whole seconds. What it may do then is for
    /// others to say. Authorities have no such grace, and certificates of version 1 neither.
    pub expired_grace: Duration,
}
