//! `[events]`: what the broker tells operators about the fleet while it happens.

/// `[events]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// Whether connections and subscriptions are told below `$aws/events`.
    pub lifecycle: bool,
}
