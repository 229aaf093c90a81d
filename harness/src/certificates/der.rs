//! The parts of DER (ITU-T X.690) that certificates are made of.

use time::OffsetDateTime;

/// One element: tag, length, content.
#[must_use]
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap_or_default());
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

/// The parts, one after another.
#[must_use]
pub fn joined<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.as_ref().iter().copied()).collect()
}

/// SEQUENCE.
#[must_use]
pub fn sequence<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    element(0x30, &joined(parts))
}

/// SET.
#[must_use]
pub fn set<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    element(0x31, &joined(parts))
}

/// OBJECT IDENTIFIER.
#[must_use]
pub fn oid(arcs: &[u64]) -> Vec<u8> {
    let (first, rest) = match arcs {
        [first, second, rest @ ..] => (first * 40 + second, rest),
        [] | [_] => (0, &[][..]),
    };
    let mut content = Vec::new();
    for arc in std::iter::once(first).chain(rest.iter().copied()) {
        let mut septets = vec![u8::try_from(arc & 0x7f).unwrap_or_default()];
        let mut left = arc >> 7;
        while left > 0 {
            septets.push(0x80 | u8::try_from(left & 0x7f).unwrap_or_default());
            left >>= 7;
        }
        content.extend(septets.iter().rev());
    }
    element(0x06, &content)
}

/// INTEGER with these content bytes, as they are.
#[must_use]
pub fn integer(content: &[u8]) -> Vec<u8> {
    element(0x02, content)
}

/// BOOLEAN TRUE.
#[must_use]
pub fn yes() -> Vec<u8> {
    element(0x01, &[0xff])
}

/// OCTET STRING.
#[must_use]
pub fn octets(content: &[u8]) -> Vec<u8> {
    element(0x04, content)
}

/// BIT STRING of whole bytes.
#[must_use]
pub fn bits(content: &[u8]) -> Vec<u8> {
    element(0x03, &joined(&[&[0][..], content]))
}

/// BIT STRING of named bits (X.680, section 22.7): the first of them is the highest bit, and trailing zero bits are left out.
#[must_use]
pub fn named_bits(set: &[usize]) -> Vec<u8> {
    let Some(last) = set.iter().max() else { return element(0x03, &[0]) };
    let mut bytes = vec![0_u8; last / 8 + 1];
    for bit in set {
        bytes[bit / 8] |= 0x80 >> (bit % 8);
    }
    let unused = u8::try_from(7 - last % 8).unwrap_or_default();
    element(0x03, &joined(&[&[unused][..], &bytes]))
}

/// UTF8String.
#[must_use]
pub fn utf8(text: &str) -> Vec<u8> {
    element(0x0c, text.as_bytes())
}

/// A time as RFC 5280, section 4.1.2.5, asks for it: UTCTime through 2049, GeneralizedTime from 2050.
#[must_use]
pub fn time(at: OffsetDateTime) -> Vec<u8> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let year = at.year();
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    if (1950..2050).contains(&year) {
        element(0x17, format!("{:02}{rest}", year % 100).as_bytes())
    } else {
        element(0x18, format!("{year:04}{rest}").as_bytes())
    }
}

/// A name of one common name. RFC 5280, section 4.1.2.4.
#[must_use]
pub fn name(common_name: &str) -> Vec<u8> {
    sequence(&[set(&[sequence(&[oid(&[2, 5, 4, 3]), utf8(common_name)])])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_as_few_bytes_as_possible() {
        assert_eq!(element(0x04, &[]), [0x04, 0]);
        assert_eq!(element(0x04, &[7; 0x7f])[..2], [0x04, 0x7f]);
        assert_eq!(element(0x04, &[7; 0x80])[..3], [0x04, 0x81, 0x80]);
        assert_eq!(element(0x04, &[7; 0x123])[..4], [0x04, 0x82, 0x01, 0x23]);
    }

    #[test]
    fn an_object_identifier_has_its_arcs_in_septets() {
        // ITU-T X.690, section 8.19: ecdsa-with-SHA256.
        let expected = [0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        assert_eq!(oid(&[1, 2, 840, 10045, 4, 3, 2]), expected);
        assert_eq!(oid(&[2, 5, 29, 17]), [0x06, 3, 0x55, 0x1d, 0x11]);
    }

    #[test]
    fn named_bits_end_with_the_last_that_is_set() {
        assert_eq!(named_bits(&[0]), [0x03, 2, 7, 0x80]);
        assert_eq!(named_bits(&[5, 6]), [0x03, 2, 1, 0x06]);
        assert_eq!(named_bits(&[8]), [0x03, 3, 7, 0, 0x80]);
        assert_eq!(named_bits(&[]), [0x03, 1, 0]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let at = |seconds| time(OffsetDateTime::from_unix_timestamp(seconds).unwrap());
        assert_eq!(at(2_524_607_999), element(0x17, b"491231235959Z"));
        assert_eq!(at(2_524_608_000), element(0x18, b"20500101000000Z"));
    }
}
