//! The keeper: a small process of its own that alone holds the filter, so that a hole in what talks to the network can't
//! take it off.
//!
//! `spinegate run` starts it before anything else and stays its parent, the *worker*: TLS, HTTP, the control socket. Worker
//! and keeper talk over a socket pair, one call at a time. The keeper reads `[filter]` of the configuration by itself and
//! puts nothing in force that does not stand there. It ends when the worker ends; the filter stays pinned.

mod client;
mod fingerprint;
mod office;
mod orders;
mod protocol;
mod serve;
mod wire;

pub use client::Keeper;
pub use orders::{Order, announce};
pub use protocol::{Dropped, Figures, Interfaces, KeeperError};
pub use serve::serve;
