//! The vectors, by the rule that they are about.

mod authorities;
mod constraints;
mod extensions;
mod fields;
mod names;
mod paths;
mod purposes;
mod signatures;

use meshproof_model::Level;

use crate::vector::{Expected, Group, Make, Vector};

pub(crate) const GROUPS: &[Group] = &[
    authorities::BASIC_CONSTRAINTS,
    authorities::PATH_LENGTH,
    purposes::KEY_USAGE,
    purposes::EXTENDED_KEY_USAGE,
    constraints::NAME_CONSTRAINTS,
    fields::VALIDITY,
    signatures::SIGNATURES,
    extensions::EXTENSIONS,
    fields::VERSION_AND_SERIAL,
    extensions::KEY_IDENTIFIERS,
    paths::CHAINING,
    paths::BUILDING,
    names::HOST_NAMES,
];

type Text = &'static str;

/// Must be accepted.
const fn accept(id: Text, source: Text, rule: Text, make: Make) -> Vector {
    Vector::new(id, Level::Must, Expected::Accepted, source, rule, make)
}

/// Must be refused.
const fn refuse(id: Text, source: Text, rule: Text, make: Make) -> Vector {
    Vector::new(id, Level::Must, Expected::Refused, source, rule, make)
}

/// Should be accepted.
const fn should_accept(id: Text, source: Text, rule: Text, make: Make) -> Vector {
    Vector::new(id, Level::Should, Expected::Accepted, source, rule, make)
}

/// Practice differs; the source says that it is to be accepted.
const fn may_accept(id: Text, source: Text, rule: Text, make: Make) -> Vector {
    Vector::new(id, Level::May, Expected::Accepted, source, rule, make)
}

/// Practice differs; the source says that it is to be refused.
const fn may_refuse(id: Text, source: Text, rule: Text, make: Make) -> Vector {
    Vector::new(id, Level::May, Expected::Refused, source, rule, make)
}
