//! Looks into JSON that others wrote.

use serde_json::Value;

/// The value at a JSON pointer (RFC 6901); null, where there is none.
#[must_use]
pub fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}
