//! Networks that a claim may be used from.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::id::{IdError, stored_by_display};

/// An IP network: an address and the length of its prefix in bits, as in `192.0.2.0/24` (RFC 4632).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether `address` lies in this network. An IPv4 address that came over an IPv6 socket counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let alike_bits = match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(other)) => (net.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V6(net), IpAddr::V6(other)) => (net.to_bits() ^ other.to_bits()).leading_zeros(),
            _ => return false,
        };
        alike_bits >= u32::from(self.prefix_bits)
    }
}

impl FromStr for Network {
    type Err = IdError;

    /// `ADDRESS/BITS`, or `ADDRESS` for that one address.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| IdError::Network)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => bits_max,
            Some(bits) => bits.parse().map_err(|_| IdError::Network)?,
        };
        if prefix_bits > bits_max {
            return Err(IdError::Network);
        }
        Ok(Self { address, prefix_bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

stored_by_display!(Network);

#[cfg(test)]
mod tests {
    use super::*;

    fn within(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_holds_the_addresses_of_its_prefix_and_no_other() {
        assert!(within("192.0.2.0/24", "192.0.2.255"));
        assert!(!within("192.0.2.0/24", "192.0.3.0"));
        assert!(within("192.0.2.7", "192.0.2.7"));
        assert!(!within("192.0.2.7", "192.0.2.6"));
        assert!(within("0.0.0.0/0", "203.0.113.1"));
        assert!(!within("0.0.0.0/0", "2001:db8::1"));
        assert!(within("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!within("2001:db8::/32", "2001:db9::1"));
        assert!(within("192.0.2.0/24", "::ffff:192.0.2.9"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "a", "192.0.2.0/33", "192.0.2.0/", "2001:db8::/129", "192.0.2.0/24/1", "192.0.2.0/-1"]
        {
            assert_eq!(text.parse::<Network>(), Err(IdError::Network), "{text:?}");
        }
    }
}
