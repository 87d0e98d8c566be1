//! The client of a request, for fair queueing.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// A client with a queue of its own at the workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// The holder of the API key of this name.
    Key(Arc<str>),
    /// The address of a client without a key.
    Address(IpAddr),
    /// A request without a connection, as in tests.
    Unknown,
}

impl Client {
    /// Returns the client at an address. IPv6 addresses count by their /64 network, because one
    /// machine can use any number of addresses of it.
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
    fn ipv6_clients_count_by_network() {
        let at = |address: &str| Client::at(address.parse().unwrap());
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:0:0:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    }
}
