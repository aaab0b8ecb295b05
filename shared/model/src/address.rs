//! Which addresses lie outside: those that the Internet routes to anybody.
//!
//! Whoever may choose an address that a server calls must not choose one that only the server reaches: itself, its
//! neighbours, the metadata service of its cloud. The standard library's own `is_global` is not stable, and what is
//! stable knows no carrier's networks and no embedded addresses; so the special-purpose registries of IANA stand here,
//! as tables. Where a network is of no use to a server that somebody wants called, it counts as inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and how many of its leading bits name the network.
type Net<A> = (A, u32);

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u32) -> Net<Ipv4Addr> {
    (Ipv4Addr::new(a, b, c, d), bits)
}

/// The first four segments of a network, which go as deep as any that is listed.
const fn v6(a: u16, b: u16, c: u16, d: u16, bits: u32) -> Net<Ipv6Addr> {
    (Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), bits)
}

/// Everything else is outside.
const INSIDE_V4: &[Net<Ipv4Addr>] = &[
    v4(0, 0, 0, 0, 8),        // this host on this network
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // shared by a carrier's customers; Alibaba's metadata
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // Azure's platform, which is public by its number only
    v4(169, 254, 0, 0, 16),   // link-local; the metadata of AWS, Google and Azure
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments; Oracle's metadata
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // relays of 6to4, given up
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarking
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved; broadcast
];

/// The only part of IPv6 that is given out. What is not in it is inside: loopback, unique local (the metadata of AWS is
/// `fd00:ec2::254`), link-local, site-local, multicast, discard, IPv4-compatible, NAT64 of one's own network.
const GIVEN_OUT: Net<Ipv6Addr> = v6(0x2000, 0, 0, 0, 3);

/// Inside within [`GIVEN_OUT`].
const INSIDE_V6: &[Net<Ipv6Addr>] = &[
    v6(0x2001, 0, 0, 0, 23),     // protocol assignments: Teredo, benchmarking, ORCHID
    v6(0x2001, 0xdb8, 0, 0, 32), // documentation
    v6(0x3fff, 0, 0, 0, 20),     // documentation
];

/// Networks that lead to the IPv4 address that stands behind their bits.
const EMBEDDING: &[Net<Ipv6Addr>] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), // IPv4-mapped
    v6(0x64, 0xff9b, 0, 0, 96),                       // NAT64
    v6(0x2002, 0, 0, 0, 16),                          // 6to4
];

/// Whether `ip` lies outside. False for all that leads inside or nowhere; an IPv6 address that stands for an IPv4
/// address is judged by that one.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !INSIDE_V4.iter().any(|net| v4_is_in(ip, *net)),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(ip) => is_public(IpAddr::V4(ip)),
            None => v6_is_in(ip, GIVEN_OUT) && !INSIDE_V6.iter().any(|net| v6_is_in(ip, *net)),
        },
    }
}

fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let (_, bits) = EMBEDDING.iter().find(|net| v6_is_in(ip, **net))?;
    // the cast cuts off the bits of the network
    Some(Ipv4Addr::from_bits((ip.to_bits() >> (96 - bits)) as u32))
}

fn v4_is_in(ip: Ipv4Addr, (net, bits): Net<Ipv4Addr>) -> bool {
    (ip.to_bits() ^ net.to_bits()) >> (32 - bits) == 0
}

fn v6_is_in(ip: Ipv6Addr, (net, bits): Net<Ipv6Addr>) -> bool {
    (ip.to_bits() ^ net.to_bits()) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expect: bool) {
        assert_eq!(is_public(text.parse().unwrap()), expect, "{text}");
    }

    #[test]
    fn what_leads_inside_or_nowhere_is_not_public() {
        let inside = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 \
            127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.170.2 172.16.0.0 \
            172.31.255.255 192.0.0.0 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 \
            198.51.100.1 203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255 :: ::1 ::7f00:1 \
            ::808:808 64:ff9b:1::1 64:ff9b:1::808:808 100::1 2001::1 2001:0:808:808::1 2001:2::1 2001:10::1 \
            2001:20::1 2001:1ff::1 2001:db8::1 3fff::1 3fff:fff::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 \
            fe80::1 fe80::a9fe:a9fe febf::1 fec0::1 feff::1 ff02::1 ffff::1 4000::1";
        inside.split_whitespace().for_each(|text| check(text, false));
    }

    #[test]
    fn the_rest_is_public_up_to_the_borders() {
        let outside = "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 \
            128.0.0.0 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 \
            191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 \
            198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 \
            2000::1 2001:200::1 2001:4860:4860::8888 2001:db7::1 2001:db9::1 2606:4700::1111 2a00:1450::1 \
            3ffe::1 3fff:1000::1";
        outside.split_whitespace().for_each(|text| check(text, true));
    }

    #[test]
    fn an_embedded_address_is_judged_by_itself() {
        let cases = [
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::1:8.8.8.8", false),
            ("2002:7f00:1::1", false),
            ("2002:c0a8:101::", false),
            ("2002:808:808::1", true),
        ];
        cases.into_iter().for_each(|(text, expect)| check(text, expect));
    }

    /// The address in all the places that IPv6 has for it.
    fn embeddings(ip: Ipv4Addr, rest: u128) -> Vec<Ipv6Addr> {
        let bits = u128::from(ip.to_bits());
        let behind = |net: &str| Ipv6Addr::from_bits(net.parse::<Ipv6Addr>().unwrap().to_bits() | bits);
        let sixth = 0x2002_u128 << 112 | bits << 80 | rest >> 48;
        let teredo = 0x2001_0000_u128 << 96 | (rest >> 64 << 32) & (u128::MAX >> 32) | (!bits & u128::from(u32::MAX));
        let mut found = vec![Ipv6Addr::from_bits(sixth), Ipv6Addr::from_bits(teredo), ip.to_ipv6_mapped()];
        found.extend(["::", "64:ff9b::", "64:ff9b:1::", "fe80::", "fe80::5efe:0:0", "fd00::"].map(behind));
        found
    }

    fn inside() -> impl Strategy<Value = Ipv4Addr> {
        (0..INSIDE_V4.len(), any::<u32>()).prop_map(|(at, rest)| {
            let (net, bits) = INSIDE_V4[at];
            Ipv4Addr::from_bits(net.to_bits() | rest.checked_shr(bits).unwrap_or(0))
        })
    }

    proptest! {
        #[test]
        fn what_is_inside_stays_inside_however_it_is_embedded(ip in inside(), rest: u128) {
            prop_assert!(!is_public(IpAddr::V4(ip)));
            for embedding in embeddings(ip, rest) {
                prop_assert!(!is_public(IpAddr::V6(embedding)), "{ip} as {embedding}");
            }
        }

        #[test]
        fn no_embedding_is_more_public_than_its_address(bits: u32, rest: u128) {
            let ip = Ipv4Addr::from_bits(bits);
            for embedding in embeddings(ip, rest) {
                prop_assert!(is_public(IpAddr::V4(ip)) || !is_public(IpAddr::V6(embedding)), "{ip} as {embedding}");
            }
        }

        /// The standard library's own names for parts of the tables.
        #[test]
        fn what_the_standard_library_knows_as_special_is_not_public(bits: u32, wide: u128) {
            let (v4, v6) = (Ipv4Addr::from_bits(bits), Ipv6Addr::from_bits(wide));
            let special_v4 = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
            let special_v6 = v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast()
                || v6.is_loopback();
            prop_assert!(!(special_v4 && is_public(IpAddr::V4(v4))));
            prop_assert!(!(special_v6 && is_public(IpAddr::V6(v6))));
        }
    }
}
