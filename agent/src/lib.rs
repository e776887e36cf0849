//! Spinegate's agent: the userspace half of the gateway, as a library so that its rooms can be tested one by one.

pub mod audit;
pub mod authz;
mod burst;
pub mod capture;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod diff;
pub mod directory;
pub mod doctor;
pub mod explain;
pub mod fetch;
pub mod filter;
pub mod gateway;
pub mod keeper;
pub mod log;
pub mod mask;
pub mod metrics;
pub mod nrl;
pub mod program;
pub mod rates;
pub mod registry;
pub mod replace;
pub mod run;
pub mod sandbox;
#[cfg(test)]
mod screens;
pub mod service;
pub mod sources;
pub mod tls;
pub mod top;
pub mod upgrade;
pub mod verdict;
#[cfg(test)]
mod written;
