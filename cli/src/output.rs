//! Standard output that may be closed early (`ame report x | head`).

use anyhow::{Context, Result};
use std::io::{ErrorKind, Write};

/// Prints; a reader who has seen enough is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}
