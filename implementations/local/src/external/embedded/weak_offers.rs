//! What a ClientHello offers that must no longer be used. The TLS library does not show it, so the bytes are read.

/// A handshake record, and a ClientHello in it (RFC 8446, sections 5.1 and 4).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The extension `supported_versions` (RFC 8446, section 4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;

/// What these first bytes of a connection offer that RFC 9325 forbids (section 3.1.1: versions below TLS 1.2; section 4.1: cipher
/// suites with NULL encryption, RC4 or export keys). None if they hold no whole ClientHello.
pub(super) fn weak_offers(bytes: &[u8]) -> Option<Vec<String>> {
    let hello = handshake(bytes)?;
    let mut hello = Reader(&hello);
    let legacy_version = hello.u16()?;
    hello.take(32)?;
    hello.vector8()?;
    let mut suites = Reader(hello.vector16()?);
    hello.vector8()?;
    let mut versions = Vec::new();
    // A client of TLS 1.2 or less may send no extensions at all.
    let mut extensions = Reader(hello.vector16().unwrap_or_default());
    while let Some(kind) = extensions.u16() {
        let mut content = Reader(extensions.vector16()?);
        if kind == SUPPORTED_VERSIONS {
            let mut list = Reader(content.vector8()?);
            while let Some(version) = list.u16() {
                versions.push(version);
            }
        }
    }
    if versions.is_empty() {
        // Then this field is the highest version, and lower ones are not visible.
        versions.push(legacy_version);
    }
    let mut weak: Vec<String> = versions.into_iter().filter_map(weak_version).map(str::to_owned).collect();
    while let Some(suite) = suites.u16() {
        weak.extend(weak_suite(suite).map(|what| format!("cipher suite {suite:#06x} ({what})")));
    }
    Some(weak)
}

/// The ClientHello's content, which may be split over several records.
fn handshake(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut records = Reader(bytes);
    let mut message: Vec<u8> = Vec::new();
    loop {
        if let [CLIENT_HELLO, a, b, c, content @ ..] = message.as_slice() {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if let Some(content) = content.get(..length) {
                return Some(content.to_vec());
            }
        }
        let kind = records.take(1)?;
        records.u16()?;
        let fragment = records.vector16()?;
        if kind != [HANDSHAKE] || fragment.is_empty() {
            return None;
        }
        message.extend_from_slice(fragment);
    }
}

/// Values that are no version at all, as RFC 8701 has clients send, are not weak.
fn weak_version(version: u16) -> Option<&'static str> {
    match version {
        0x0002 => Some("SSL 2.0"),
        0x0300 => Some("SSL 3.0"),
        0x0301 => Some("TLS 1.0"),
        0x0302 => Some("TLS 1.1"),
        _ => None,
    }
}

/// By the numbers of IANA's registry "TLS Cipher Suites".
fn weak_suite(suite: u16) -> Option<&'static str> {
    match suite {
        0x0000..=0x0002
        | 0x002c..=0x002e
        | 0x003b
        | 0x00b0
        | 0x00b1
        | 0x00b4
        | 0x00b5
        | 0x00b8
        | 0x00b9
        | 0xc001
        | 0xc006
        | 0xc00b
        | 0xc010
        | 0xc015
        | 0xc039..=0xc03b => Some("NULL"),
        0x0003 | 0x0006 | 0x0008 | 0x000b | 0x000e | 0x0011 | 0x0014 | 0x0017 | 0x0019 | 0x0026..=0x002b => {
            Some("export")
        }
        0x0004 | 0x0005 | 0x0018 | 0x0020 | 0x0024 | 0x008a | 0x008e | 0x0092 | 0xc002 | 0xc007 | 0xc00c
        | 0xc011 | 0xc016 | 0xc033 => Some("RC4"),
        _ => None,
    }
}

/// Reads bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let two = self.take(2)?;
        Some(u16::from_be_bytes([two[0], two[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![HANDSHAKE, 3, 1];
        bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn hello(version: u16, suites: &[u16], versions: &[u16]) -> Vec<u8> {
        let mut content = version.to_be_bytes().to_vec();
        content.extend([7; 32]);
        content.push(0);
        content.extend(u16::try_from(suites.len() * 2).unwrap().to_be_bytes());
        suites.iter().for_each(|suite| content.extend(suite.to_be_bytes()));
        content.extend([1, 0]);
        if !versions.is_empty() {
            let length = u8::try_from(versions.len() * 2).unwrap();
            content.extend([0, 5 + length, 0, 43, 0, 1 + length, length]);
            versions.iter().for_each(|version| content.extend(version.to_be_bytes()));
        }
        let mut message = vec![CLIENT_HELLO, 0, 0, u8::try_from(content.len()).unwrap()];
        message.extend(content);
        message
    }

    #[test]
    fn old_versions_and_weak_suites_are_found() {
        let of = |version, suites: &[u16], versions: &[u16]| {
            weak_offers(&record(&hello(version, suites, versions))).unwrap()
        };
        assert_eq!(of(0x0303, &[0x1301, 0xc02f, 0x00ff], &[0x0304, 0x0303]), Vec::<String>::new());
        assert_eq!(of(0x0303, &[0x1301], &[0x0304, 0x0303, 0x0302, 0x0301]), ["TLS 1.1", "TLS 1.0"]);
        assert_eq!(of(0x0301, &[0x002f], &[]), ["TLS 1.0"]);
        assert_eq!(of(0x0303, &[0xc02f], &[]), Vec::<String>::new());
        assert_eq!(
            of(0x0303, &[0x0002, 0x0003, 0x0005], &[]),
            ["cipher suite 0x0002 (NULL)", "cipher suite 0x0003 (export)", "cipher suite 0x0005 (RC4)"]
        );
        // RFC 8701: values that mean nothing.
        assert_eq!(of(0x0303, &[0x0a0a, 0x1301], &[0x2a2a, 0x0304]), Vec::<String>::new());
    }

    #[test]
    fn a_hello_may_be_split_over_records_and_anything_else_is_none() {
        let message = hello(0x0301, &[0x002f], &[]);
        let (first, second) = message.split_at(9);
        let split = [record(first), record(second)].concat();
        assert_eq!(weak_offers(&split).unwrap(), ["TLS 1.0"]);
        assert_eq!(weak_offers(&split[..split.len() - 1]), None);
        assert_eq!(weak_offers(b"GET / HTTP/1.1"), None);
        assert_eq!(weak_offers(&[]), None);
    }
}
