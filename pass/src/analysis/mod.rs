//! What the pass knows about a function before it plans barriers. Nothing here changes IR.

pub mod address;
pub mod cfg;
pub mod epoch;
pub mod escape;
pub mod loops;
