//! On whose behalf work is asked for.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// A client, as far as turns at the workers go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Whoever has the key of this name.
    Key(Arc<str>),
    /// Whoever asks from this address.
    Address(IpAddr),
    /// Whoever asks without a connection: tests of this program.
    Unknown,
}

impl Client {
    /// Who asks from an address. Of IPv6 the network counts: one machine has as many addresses of
    /// it as it likes.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
            }
            address => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_the_network_of_one() {
        let at = |address: &str| Client::at(address.parse().unwrap());
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:0:0:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    }
}
