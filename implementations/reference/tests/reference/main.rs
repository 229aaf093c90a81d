//! The reference data plane from outside: plans made by hand, servers of the tests' own.

mod http;
mod lifecycle;
mod saboteurs;
mod support;
mod tcp;
mod tls;
