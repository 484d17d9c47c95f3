//! Options of the pass, from the environment or `-mllvm -ame-...` (crate docs list them).

use crate::ffi;
use std::path::PathBuf;

macro_rules! optimisations {
    ($($field:ident $name:literal $doc:literal,)*) => {
        /// Optimisations; each can be switched off with `AME_PASS_OPT=-name`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Optimisations { $(#[doc = $doc] pub $field: bool,)* }

        impl Optimisations {
            pub const ALL: Optimisations = Optimisations { $($field: true,)* };
            pub const NONE: Optimisations = Optimisations { $($field: false,)* };

            /// Applies `-a,-b` or `-all,+b` to all.
            pub fn parse(text: &str) -> Result<Optimisations, String> {
                let mut chosen = Optimisations::ALL;
                for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
                    let (on, name) = match (word.strip_prefix('-'), word.strip_prefix('+')) {
                        (Some(name), _) => (false, name),
                        (_, Some(name)) => (true, name),
                        _ => return Err(format!(
                            "AME_PASS_OPT: `{word}` must start with - (off) or + (on)")),
                    };
                    match name {
                        "all" if on => chosen = Optimisations::ALL,
                        "all" => chosen = Optimisations::NONE,
                        $($name => chosen.$field = on,)*
                        _ => return Err(format!(
                            "AME_PASS_OPT: there is no optimisation `{name}`; there are: all{}",
                            concat!($(", ", $name),*))),
                    }
                }
                Ok(chosen)
            }
        }
    };
}

optimisations! {
    redundancy "redundancy" "A barrier dominated by one that covers it is dropped.",
    granule "granule" "Fields of one 16-byte-aligned granule share a barrier.",
    upgrade "upgrade" "A read that is always followed by a write of the same takes the write barrier.",
    hoist "hoist" "Barriers on loop-invariant addresses move in front of the loop.",
    range "range" "Counted loops over consecutive memory take one range barrier.",
    fresh "fresh" "Memory allocated since the last possible transaction boundary needs no barrier.",
    summary "summary" "Calls of functions that cannot end a transaction keep barriers valid.",
    inline_read "inline-read" "First reads are marked inline while the thread reads without fences.",
    clone "clone" "Hot functions have a clone without barriers for outside transactions.",
    compact "compact" "Where sets name hot functions, the others' barriers are cheaper to compile.",
}

/// Everything that the user can choose.
#[derive(Clone, Debug)]
pub struct Options {
    pub annotations: Vec<PathBuf>,
    pub optimise: Optimisations,
    pub stats: Option<PathBuf>,
    pub remarks: Option<PathBuf>,
    pub warn: bool,
    /// The files belong to extensions that have a domain, also those without `Python.h`.
    pub extension: bool,
    /// Entries of such extensions may run as transactions.
    pub elide: bool,
    /// Of an interpreter with a GIL: which run without that.
    pub parallel: Option<Parallel>,
}

/// Functions that run without the GIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parallel {
    /// All that Python can reach.
    pub all: bool,
    /// Besides those that the source marks.
    pub names: Vec<String>,
}

impl Parallel {
    /// `all`, or names with commas in between, or nothing.
    fn parse(text: &str) -> Parallel {
        let names = text.split(',').map(str::trim).filter(|n| !n.is_empty());
        Parallel {
            all: text == "all",
            names: names.map(str::to_owned).collect(),
        }
    }
}

impl Options {
    pub fn read() -> Result<Options, String> {
        let annotations = ffi::option(0)
            .map(|text| {
                text.split(':')
                    .filter(|p| !p.is_empty())
                    .map(PathBuf::from)
                    .collect()
            })
            .unwrap_or_default();
        let extension = ffi::option(5);
        let parallel = match extension.as_deref() {
            None | Some("free-threaded") => None,
            Some("parallel") => Some(Parallel::parse(
                &std::env::var("AME_PARALLEL").unwrap_or_default(),
            )),
            Some(other) => {
                return Err(format!(
                    "AME_EXTENSION={other}: what is known is free-threaded, and parallel"
                ))
            }
        };
        Ok(Options {
            annotations,
            optimise: Optimisations::parse(&ffi::option(1).unwrap_or_default())?,
            stats: ffi::option(2).map(PathBuf::from),
            remarks: ffi::option(3).map(PathBuf::from),
            warn: ffi::option(4).is_some_and(|v| v != "0"),
            elide: parallel.is_some() || std::env::var_os("AME_ELIDE").is_some_and(|v| v != "0"),
            extension: extension.is_some(),
            parallel,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Optimisations;

    #[test]
    fn switches_are_applied_in_order() {
        let o = Optimisations::parse("-all,+hoist").unwrap();
        assert!(o.hoist && !o.redundancy && !o.range);
        assert!(!Optimisations::parse("-hoist").unwrap().hoist);
        let error = Optimisations::parse("-hosit").unwrap_err();
        assert!(
            error.contains("`hosit`") && error.contains("hoist"),
            "{error}"
        );
        assert!(Optimisations::parse("hoist").is_err());
    }
}
