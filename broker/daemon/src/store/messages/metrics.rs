//! What `/metrics` shows of the message store.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The metrics of one message store.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    pub(super) commits: IntCounter,
    pub(super) commit_seconds: Histogram,
    pub(super) portion_records: Histogram,
    pub(super) batch_bytes: Histogram,
    pub(super) spared: IntCounter,
    pub(super) without_commit: IntCounter,
    pub(super) errors: IntCounterVec,
    pub(super) unwritable: IntCounter,
    pub(super) failing: IntGauge,
    pub(super) unsettled_bytes: IntGauge,
    pub(super) disk_bytes: IntGauge,
    pub(super) tables: IntGauge,
    pub(super) memory_bytes: IntGauge,
    pub(super) compactions: IntGauge,
    pub(super) waiting_messages: IntGauge,
}

impl StoreMetrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| -> Result<Histogram, prometheus::Error> {
            let made = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let errors = IntCounterVec::new(
            Opts::new("store_errors_total", "Attempts to write the message store that failed, by kind."),
            &["kind"],
        )?;
        registry.register(Box::new(errors.clone()))?;
        Ok(Self {
            commits: counter("store_commits_total", "Batches that were written and synced.")?,
            commit_seconds: histogram(
                "store_commit_seconds",
                "To write and sync one batch.",
                prometheus::exponential_buckets(0.000_1, 2.0, 16)?,
            )?,
            portion_records: histogram(
                "store_portion_records",
                "Records that one batch was made of.",
                prometheus::exponential_buckets(1.0, 4.0, 10)?,
            )?,
            batch_bytes: histogram(
                "store_batch_bytes",
                "Bytes of one batch.",
                prometheus::exponential_buckets(64.0, 4.0, 12)?,
            )?,
            spared: counter(
                "store_spared_messages_total",
                "Messages that were queued and acknowledged before they were written.",
            )?,
            without_commit: counter(
                "store_portions_without_commit_total",
                "Portions of records that came to nothing and were settled without a write.",
            )?,
            errors,
            unwritable: counter(
                "store_unwritable_total",
                "Sessions and messages that cannot be written as they are.",
            )?,
            failing: gauge("store_failing", "1: the message store cannot be written now.")?,
            unsettled_bytes: gauge("store_unsettled_bytes", "Bytes of records that are not on disk yet.")?,
            disk_bytes: gauge("store_disk_bytes", "Bytes that the message store takes on disk.")?,
            tables: gauge("store_tables", "Files of rows of the message store.")?,
            memory_bytes: gauge("store_memory_bytes", "Bytes of rows of the message store in memory.")?,
            compactions: gauge("store_compactions", "Compactions since the store was opened.")?,
            waiting_messages: gauge(
                "store_waiting_messages",
                "Messages in the store that wait for sessions.",
            )?,
        })
    }
}
