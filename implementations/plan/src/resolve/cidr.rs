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

#[cfg(test)]
mod tests {
    use super::masked;

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
