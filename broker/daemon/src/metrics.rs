//! What `/metrics` shows. Labels are bounded: a listener, a reason out of a closed set, never a device.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use signet_core::Counts;

use crate::ca::AuthorityMetrics;
use crate::census::StandingMetrics;
use crate::lists::ListSight;
use crate::provisioning::ProvisioningMetrics;

/// The metrics of one broker. Each broker of a process has its own registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Panics in the work of one connection.
    pub panics: IntCounter,
    /// Handshakes that ended well, by TLS version and kind (full, resumed).
    pub handshakes: IntCounterVec,
    /// Handshakes that did not, by cause.
    pub tls_failures: IntCounterVec,
    /// Connections turned away before TLS, by reason.
    pub not_admitted: IntCounterVec,
    /// From accept to an identified peer, in seconds.
    pub handshake_seconds: Histogram,
    /// Connections that ended, by reason.
    pub closed: IntCounterVec,
    /// Requests over HTTPS, by operation and status.
    pub https_requests: IntCounterVec,
    /// Reloads by outcome.
    pub reloads: IntCounterVec,
    /// Log records left out by a rate limit.
    pub log_suppressed: IntCounter,
    /// How often memory ran short.
    pub memory_short: IntCounter,
    /// How often nothing was read from a connection for a while, by the rate that it was ahead of, or for want of memory.
    pub held_back: IntCounterVec,
    pub(crate) provisioning: ProvisioningMetrics,
    pub(crate) standing: StandingMetrics,
    pub(crate) authority: AuthorityMetrics,
    events: IntCounterVec,
    gauges: IntGaugeVec,
    connections: IntGaugeVec,
    lists: ListGauges,
    uptime: IntGauge,
    /// One scrape at a time: the counters of the core are copied in before the text is made.
    scrape: parking_lot::Mutex<()>,
}

/// The values that are read at scrape time.
#[derive(Debug)]
pub struct Sampled {
    /// Counters of the core.
    pub counts: Counts,
    /// Named levels.
    pub gauges: Vec<(&'static str, u64)>,
    /// Open connections per listener address.
    pub connections: Vec<(String, u64)>,
    /// The revocation lists in force.
    pub lists: Vec<ListSight>,
    /// Since the start.
    pub uptime_seconds: u64,
}

/// What is shown of each revocation list.
#[derive(Debug)]
struct ListGauges {
    next_update: IntGaugeVec,
    entries: IntGaugeVec,
    alarm: IntGaugeVec,
}

impl ListGauges {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let made = IntGaugeVec::new(Opts::new(name, help), &["issuer", "file"])?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        Ok(Self {
            next_update: gauge("crl_next_update_timestamp_seconds", "When the next revocation list is due.")?,
            entries: gauge("crl_entries", "Certificates in the revocation list.")?,
            alarm: gauge(
                "crl_alarm",
                "0: the list has time; 1: it is due soon; 2: it is past its nextUpdate.",
            )?,
        })
    }

    fn set(&self, lists: &[ListSight]) {
        for gauge in [&self.next_update, &self.entries, &self.alarm] {
            gauge.reset();
        }
        for list in lists {
            let labels = [list.issuer.as_str(), list.file.as_str()];
            if let Some(end) = list.next_update {
                self.next_update.with_label_values(&labels).set(end);
            }
            self.entries.with_label_values(&labels).set(level(list.entries as u64));
            self.alarm.with_label_values(&labels).set(list.level.metric_value());
        }
    }
}

impl Metrics {
    /// Where the parts of the broker register metrics of their own.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Registers everything.
    pub fn new(version: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("signet".to_owned()), None)?;
        let build =
            IntGaugeVec::new(Opts::new("build_info", "The version that runs; always 1."), &["version"])?;
        build.with_label_values(&[version]).set(1);
        registry.register(Box::new(build))?;
        let counters = |name: &str, help: &str, label: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let made = IntCounterVec::new(Opts::new(name, help), label)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let handshakes =
            counters("tls_handshakes_total", "TLS handshakes that ended well.", &["version", "kind"])?;
        let tls_failures = counters("tls_failures_total", "TLS handshakes that failed.", &["cause"])?;
        let not_admitted =
            counters("not_admitted_total", "Connections turned away before TLS.", &["reason"])?;
        let closed = counters(
            "connections_closed_total",
            "Connections that ended after their handshake.",
            &["reason"],
        )?;
        let https_requests =
            counters("https_requests_total", "Requests over HTTPS.", &["operation", "status"])?;
        let reloads = counters("reloads_total", "Reloads of configuration, trust and policy.", &["outcome"])?;
        let events = counters("events_total", "What the core counts; names as in the manual.", &["event"])?;
        let levels = |name: &str, help: &str, label: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let made = IntGaugeVec::new(Opts::new(name, help), label)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let gauges = levels("level", "What there is now.", &["of"])?;
        let connections = levels("connections", "Connections open now.", &["listener"])?;
        let lists = ListGauges::new(&registry)?;
        let panics =
            IntCounter::new("panics_total", "Panics in the work of one connection; each is a defect.")?;
        let log_suppressed =
            IntCounter::new("log_suppressed_total", "Log records left out by a rate limit.")?;
        let memory_short = IntCounter::new("memory_short_total", "How often memory ran short.")?;
        let held_back = counters(
            "held_back_total",
            "Times that nothing was read from a connection for a while.",
            &["reason"],
        )?;
        let uptime = IntGauge::new("uptime_seconds", "Since the start.")?;
        let buckets = prometheus::exponential_buckets(0.000_5, 2.0, 16)?;
        let handshake_seconds = Histogram::with_opts(
            HistogramOpts::new("handshake_seconds", "From accept to an identified peer.").buckets(buckets),
        )?;
        registry.register(Box::new(panics.clone()))?;
        registry.register(Box::new(log_suppressed.clone()))?;
        registry.register(Box::new(memory_short.clone()))?;
        registry.register(Box::new(uptime.clone()))?;
        registry.register(Box::new(handshake_seconds.clone()))?;
        let provisioning = ProvisioningMetrics::new(&registry)?;
        let standing = StandingMetrics::new(&registry)?;
        let authority = AuthorityMetrics::new(&registry)?;
        Ok(Self {
            registry,
            panics,
            handshakes,
            tls_failures,
            not_admitted,
            handshake_seconds,
            closed,
            https_requests,
            reloads,
            log_suppressed,
            memory_short,
            held_back,
            provisioning,
            standing,
            authority,
            events,
            gauges,
            connections,
            lists,
            uptime,
            scrape: parking_lot::Mutex::new(()),
        })
    }

    /// The text that Prometheus reads.
    pub fn text(&self, sampled: &Sampled) -> Result<String, prometheus::Error> {
        let _one_at_a_time = self.scrape.lock();
        for (name, value) in sampled.counts.named() {
            let counter = self.events.with_label_values(&[name]);
            counter.inc_by(value.saturating_sub(counter.get()));
        }
        for (name, value) in &sampled.gauges {
            self.gauges.with_label_values(&[name]).set(level(*value));
        }
        for (listener, value) in &sampled.connections {
            self.connections.with_label_values(&[listener.as_str()]).set(level(*value));
        }
        self.lists.set(&sampled.lists);
        self.uptime.set(level(sampled.uptime_seconds));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

fn level(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
