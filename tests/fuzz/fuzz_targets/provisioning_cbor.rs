//! The payload of a provisioning request in CBOR.
#![no_main]

use signet_core::provisioning::Format;

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::provisioning(data, Format::Cbor));
