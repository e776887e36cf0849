//! Lab.

pub mod locator;
