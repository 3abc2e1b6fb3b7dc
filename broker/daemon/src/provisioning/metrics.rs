//! What `/metrics` shows of provisioning. Labels are from closed sets, never a claim or a device.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// The metrics of provisioning.
#[derive(Debug)]
pub(crate) struct ProvisioningMetrics {
    /// Requests by operation and result.
    pub(crate) requests: IntCounterVec,
    /// Refusals by reason.
    pub(crate) refusals: IntCounterVec,
    /// From request to answer, in seconds, by operation.
    pub(crate) seconds: HistogramVec,
    /// Hooks by what came of them.
    pub(crate) hooks: IntCounterVec,
    /// Odd use by kind.
    pub(crate) alarms: IntCounterVec,
    /// Unknown certificates of authorities that let them in, by policy and result.
    pub(crate) just_in_time: IntCounterVec,
}

impl ProvisioningMetrics {
    /// Registers everything.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters =
            |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
                let made = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(made.clone()))?;
                Ok(made)
            };
        let buckets = prometheus::exponential_buckets(0.000_5, 2.0, 14)?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("provisioning_seconds", "From a request for a certificate to its answer.")
                .buckets(buckets),
            &["operation"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            requests: counters(
                "provisioning_requests_total",
                "Requests for certificates that were answered.",
                &["operation", "result"],
            )?,
            refusals: counters(
                "provisioning_refusals_total",
                "Requests for certificates that were refused.",
                &["reason"],
            )?,
            hooks: counters(
                "provisioning_hooks_total",
                "Pre-provisioning hooks that were asked.",
                &["result"],
            )?,
            alarms: counters("provisioning_alarms_total", "Odd use of claims.", &["kind"])?,
            just_in_time: counters(
                "provisioning_just_in_time_total",
                "Unknown certificates of authorities that let them in.",
                &["policy", "result"],
            )?,
            seconds,
        })
    }
}
