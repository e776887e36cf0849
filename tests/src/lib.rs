//! The lab (namespaces, PKI, record locator, agent, clients), the demo, and what the black-box suites share.

pub mod client;
pub mod command;
pub mod demo;
pub mod echo;
pub mod expect;
pub mod fhir;
pub mod frames;
pub mod json;
pub mod lab;
pub mod locator;
pub mod netns;
pub mod observe;
pub mod pki;
pub mod probes;
pub mod pty;
pub mod pump;
pub mod raw;
pub mod recorder;
pub mod rogue;
pub mod seed;
mod server;
pub mod slapd;
pub mod soak;
pub mod suite;
pub mod tools;
pub mod wait;
pub mod web;
