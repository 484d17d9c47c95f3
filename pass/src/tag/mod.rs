//! The tag phase, at the start of the pipeline.

use crate::ffi::Module;
use crate::options::Options;
use ame_annotations::Sets;

/// Tags a module; true when it was changed.
pub fn run(_module: Module, _sets: &Sets, _options: &Options) -> Result<bool, String> {
    Ok(false)
}
