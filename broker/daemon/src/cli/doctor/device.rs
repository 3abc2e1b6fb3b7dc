//! What a chain and a record size cost a small device with Mbed TLS.

use serde::Serialize;

use super::chain::Chain;
use super::finding::Finding;

/// ESP-IDF's default of CONFIG_MBEDTLS_SSL_OUT_CONTENT_LEN, in bytes.
const OUT_BUFFER_BYTES: usize = 4096;
/// More than a certificate and an intermediate with P-256 keys need, in bytes.
const CHAIN_BYTES_LONG: usize = 2048;
/// Certificates that a device should send or be sent at most.
const CERTIFICATES_LONG: usize = 2;
/// Records above this size ask for more than the small buffers of devices, in bytes.
const RECORD_BYTES_LARGE: usize = 4096;

/// Heap that TLS and MQTT take at their peak with Mbed TLS 3.6.5 on 32-bit RISC-V, P-256 and a chain of up to 1 KiB on
/// either side: measured with 16 KiB buffers in both directions, and with 4 KiB in and 2 KiB out. What lies between is
/// interpolated, in bytes.
const MEASURED: [(usize, usize); 2] = [(4096 + 2048, 24_000), (16_384 + 16_384, 59_600)];
/// What the measured chains had, in bytes.
const CHAIN_BYTES_MEASURED: usize = 1024;

/// An estimate of the heap of a device, all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Heap {
    /// CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN.
    pub in_buffer: usize,
    /// CONFIG_MBEDTLS_SSL_OUT_CONTENT_LEN.
    pub out_buffer: usize,
    /// The peak of TLS and MQTT together.
    pub heap: usize,
}

impl Heap {
    /// With buffers of these sizes and a chain of `chain_bytes` held. A certificate beyond what was measured is there twice:
    /// as it came, and parsed.
    #[must_use]
    pub fn estimate(
        in_buffer: usize,
        out_buffer: usize,
        chain_bytes: usize,
        rsa_bits: Option<usize>,
    ) -> Self {
        let [(small, with_small), (large, with_large)] = MEASURED;
        let buffers = in_buffer + out_buffer;
        let slope = |bytes: usize| bytes * (with_large - with_small) / (large - small);
        let base = if buffers >= small {
            with_small + slope(buffers - small)
        } else {
            with_small.saturating_sub(slope(small - buffers))
        };
        let chain = 2 * chain_bytes.saturating_sub(CHAIN_BYTES_MEASURED);
        // Factors, their halves and the blinding of a private operation: some 24 numbers of the key's size.
        let rsa = rsa_bits.map_or(0, |bits| bits / 8 * 24);
        Self { in_buffer, out_buffer, heap: base + chain + rsa }
    }
}

/// The estimates that a report shows: ESP-IDF's defaults, and small buffers.
pub(super) fn estimates(chain_bytes: usize, rsa_bits: Option<usize>) -> Vec<Heap> {
    [(16_384, OUT_BUFFER_BYTES), (4096, 2048)]
        .into_iter()
        .map(|(input, output)| Heap::estimate(input, output, chain_bytes, rsa_bits))
        .collect()
}

/// The bytes of the certificate message of TLS 1.3 (RFC 8446, 4.4.2), the larger of the two versions'.
pub(super) fn certificate_message_bytes(chain: &Chain) -> usize {
    const HEADER: usize = 4 + 1 + 3;
    const EACH: usize = 3 + 2;
    HEADER + chain.bytes() + EACH * chain.certificates()
}

/// Whether the chain that `whose` sends is long for a small device.
pub(super) fn check_length(chain: &Chain, whose: String, findings: &mut Vec<Finding>) {
    let (certificates, bytes) = (chain.certificates(), chain.bytes());
    if certificates > CERTIFICATES_LONG || bytes > CHAIN_BYTES_LONG {
        findings.push(Finding::LongChain { whose, certificates, bytes });
    }
}

/// Whether a device can send this chain of its own.
pub(super) fn check_own_message(chain: &Chain, findings: &mut Vec<Finding>) {
    let bytes = certificate_message_bytes(chain);
    if bytes > OUT_BUFFER_BYTES {
        findings.push(Finding::ChainExceedsBuffer { bytes, buffer: OUT_BUFFER_BYTES });
    }
}

/// Whether records of this size ask for a large input buffer.
pub(super) fn check_records(largest: usize, findings: &mut Vec<Finding>) {
    if largest > RECORD_BYTES_LARGE {
        findings.push(Finding::LargeRecords { largest });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_gives_back_what_was_measured_and_grows_with_buffers_chain_and_rsa() {
        assert_eq!(Heap::estimate(4096, 2048, 900, None).heap, 24_000);
        assert_eq!(Heap::estimate(16_384, 16_384, 900, None).heap, 59_600);
        let usual = Heap::estimate(16_384, 4096, 900, None).heap;
        assert!((24_000..59_600).contains(&usual), "{usual}");
        assert_eq!(Heap::estimate(16_384, 4096, 2024, None).heap, usual + 2000);
        assert_eq!(Heap::estimate(16_384, 4096, 900, Some(2048)).heap, usual + 6144);
        assert!(Heap::estimate(512, 512, 900, None).heap < 24_000);
    }
}
