//! Subnets, as far as they decide which filter chain takes a connection.

use std::net::IpAddr;

/// The subnet without its host bits; none where the text is no address or stands for every address
/// (`conflictsWith` in pilot/pkg/networking/core/listener.go).
pub(crate) fn masked(text: &str) -> Option<String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u32>().ok()?)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    if address.is_unspecified() {
        return None;
    }
    match address {
        IpAddr::V4(v4) => {
            let bits = bits.unwrap_or(32).min(32);
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Some(format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from(v4) & mask)))
        }
        IpAddr::V6(v6) => {
            let bits = bits.unwrap_or(128).min(128);
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Some(format!("{}/{bits}", std::net::Ipv6Addr::from(u128::from(v6) & mask)))
        }
    }
}

/// Whether an address is in a subnet.
pub(crate) fn holds(subnet: &str, address: IpAddr) -> bool {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    masked(subnet)
        .is_some_and(|known| masked(&format!("{address}/{}", width(subnet).min(bits))) == Some(known))
}

/// How many bits of a subnet's addresses are the same.
pub(crate) fn width(subnet: &str) -> u32 {
    let whole = if subnet.contains(':') { 128 } else { 32 };
    subnet.split_once('/').and_then(|(_, bits)| bits.parse().ok()).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::{holds, masked};

    #[test]
    fn an_address_is_in_the_subnets_that_begin_as_it_does() {
        let at = |text: &str| text.parse().unwrap();
        assert!(holds("192.0.2.0/24", at("192.0.2.7")) && holds("192.0.2.7", at("192.0.2.7")));
        assert!(!holds("192.0.2.0/24", at("192.0.3.7")) && !holds("192.0.2.6", at("192.0.2.7")));
        assert!(holds("2001:db8::/32", at("2001:db8::1")) && !holds("192.0.2.0/24", at("::ffff:192.0.2.7")));
    }

    #[test]
    fn subnets_are_equal_when_they_differ_in_host_bits_alone() {
        assert_eq!(masked("192.0.2.7/24"), masked("192.0.2.0/24"));
        assert_ne!(masked("192.0.2.7/24"), masked("192.0.2.7/25"));
        assert_eq!(masked("192.0.2.7"), masked("192.0.2.7/32"));
        assert_eq!(masked("0.0.0.0"), None);
        assert_eq!(masked("10.0.0.0/0"), masked("192.0.2.1/0"));
        assert_eq!(masked("name.example"), None);
    }
}
