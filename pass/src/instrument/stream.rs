//! Range barriers for counted loops over consecutive memory.

use super::runtime::Runtime;
use crate::ffi::Value;

/// Memory that a loop walks over.
#[derive(Clone, Debug)]
pub struct Stream {
    pub start: Value,
}

/// Builds the first address and the length in bytes.
pub fn build(runtime: &mut Runtime, stream: &Stream) -> (Value, Value) {
    (stream.start, runtime.i64.int(0))
}
