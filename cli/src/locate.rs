//! Where our own files and LLVM are.
//!
//! Three layouts are known, tried in this order:
//! 1. `AME_HOME`: a prefix (`lib/`, `include/`) or a flat folder that holds everything.
//! 2. Beside the executable: cargo's `target/release`, headers in the source tree around it.
//! 3. A prefix around the executable: `bin/ame`, `lib/libame_*.so`, `include/ame.h`; what builds
//!    CPython in `share/ame`, which is laid out like the source tree.

use anyhow::{bail, Context, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The LLVM that the plugin is built for; the plugin interface is only stable within one.
pub const LLVM_MAJOR: u32 = 19;
/// What installs the compiler on the system we support.
pub const APT_CLANG: &str = "sudo apt-get install clang-19";
const BUILD: &str = "cargo build --release";

pub const PLUGIN: &str = "libame_pass.so";
pub const RUNTIME: &str = "libame_rt.so";
pub const RUNTIME_STATIC: &str = "libame_rt.a";
pub const HEADER: &str = "ame.h";
/// Stands before CPython's header of this name.
pub const PYTHON_HEADER: &str = "cpython-shim/extension/include/Python.h";
/// Builds CPython.
pub const RECIPE: &str = "cpython-shim/build";

/// Our files as far as they were found. Methods turn a missing one into an error that says how to
/// get it, so that a command only fails over the files that it needs.
#[derive(Debug, Clone, Default)]
pub struct Install {
    pub plugin: Option<PathBuf>,
    pub runtime: Option<PathBuf>,
    pub runtime_static: Option<PathBuf>,
    /// Folder of `ame.h`.
    pub include: Option<PathBuf>,
    pub recipe: Option<PathBuf>,
    /// Folder of the `Python.h` that stands before CPython's.
    pub extension: Option<PathBuf>,
    /// Folders that were searched, for the error message.
    pub searched: Vec<PathBuf>,
}

impl Install {
    /// Searches relative to the running executable and `AME_HOME`.
    pub fn find() -> Result<Install> {
        let exe = std::env::current_exe().context("cannot find the path of this executable")?;
        let home = std::env::var_os("AME_HOME").map(PathBuf::from);
        Ok(Install::search(&exe, home.as_deref()))
    }

    /// The search itself, by the executable's path and the value of `AME_HOME`.
    pub fn search(exe: &Path, home: Option<&Path>) -> Install {
        let exe = exe.canonicalize().unwrap_or_else(|_| exe.to_path_buf());
        let exe_dir = exe.parent().unwrap_or(Path::new("/"));
        let mut roots: Vec<&Path> = Vec::new();
        // AME_HOME replaces the search: mixing two builds would mix two ABIs.
        match home {
            Some(home) => roots.push(home),
            None => {
                roots.push(exe_dir);
                // Tests of cargo run from target/<profile>/deps.
                roots.extend(exe_dir.parent());
            }
        }
        let libs: Vec<PathBuf> = roots
            .iter()
            .flat_map(|root| [root.to_path_buf(), root.join("lib")])
            .collect();
        let mut includes: Vec<PathBuf> = roots
            .iter()
            .flat_map(|root| [root.join("include"), root.to_path_buf()])
            .collect();
        for ancestor in roots.iter().flat_map(|root| root.ancestors()) {
            includes.push(ancestor.join("annotations/include"));
        }
        // A target folder outside of the source tree: where this was built from, if still there.
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        includes.push(source.join("annotations/include"));
        let trees: Vec<PathBuf> = roots
            .iter()
            .map(|root| root.join("share/ame"))
            .chain(
                roots
                    .iter()
                    .flat_map(|root| root.ancestors().map(Path::to_path_buf)),
            )
            .chain([source])
            .collect();

        let first = |name: &str, folders: &[PathBuf]| {
            folders
                .iter()
                .map(|folder| folder.join(name))
                .find(|path| path.is_file())
        };
        Install {
            plugin: first(PLUGIN, &libs),
            runtime: first(RUNTIME, &libs),
            runtime_static: first(RUNTIME_STATIC, &libs),
            include: first(HEADER, &includes).and_then(|path| path.parent()?.canonicalize().ok()),
            recipe: first(RECIPE, &trees),
            extension: first(PYTHON_HEADER, &trees)
                .and_then(|path| path.parent()?.canonicalize().ok()),
            searched: libs,
        }
    }

    pub fn plugin(&self) -> Result<&Path> {
        self.need(&self.plugin, PLUGIN)
    }

    pub fn runtime(&self) -> Result<&Path> {
        self.need(&self.runtime, RUNTIME)
    }

    pub fn runtime_static(&self) -> Result<&Path> {
        self.need(&self.runtime_static, RUNTIME_STATIC)
    }

    pub fn include(&self) -> Result<&Path> {
        self.need(&self.include, HEADER)
    }

    pub fn recipe(&self) -> Result<&Path> {
        self.need(&self.recipe, RECIPE)
    }

    fn need<'a>(&self, found: &'a Option<PathBuf>, name: &str) -> Result<&'a Path> {
        if let Some(path) = found {
            return Ok(path);
        }
        let searched: Vec<String> = self
            .searched
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        bail!(
            "{name} not found (searched {}): build it with `{BUILD}` in Ame's source folder, or \
             set AME_HOME to the folder that holds it",
            searched.join(", ")
        )
    }
}

/// Finds clang 19 (or clang++ 19): `AME_CLANG` (for C++ `AME_CLANGXX`), then `PATH`, then Debian's
/// folder of the version.
pub fn clang(cxx: bool) -> Result<PathBuf> {
    let (variable, name) = if cxx {
        ("AME_CLANGXX", "clang++")
    } else {
        ("AME_CLANG", "clang")
    };
    if let Some(chosen) = std::env::var_os(variable) {
        let path = PathBuf::from(&chosen);
        return check_version(&path)
            .with_context(|| format!("{variable}={} cannot be used", path.display()))
            .map(|()| path);
    }
    let versioned = format!("{name}-{LLVM_MAJOR}");
    if let Some(path) = in_path(OsStr::new(&versioned)) {
        return Ok(path);
    }
    let debian = PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}/bin/{name}"));
    if debian.is_file() {
        return Ok(debian);
    }
    bail!("{versioned} not found: install it with `{APT_CLANG}`, or set {variable} to its path")
}

/// Runs `PATH -dumpversion` and compares the major version.
fn check_version(clang: &Path) -> Result<()> {
    let output = Command::new(clang)
        .arg("-dumpversion")
        .output()
        .with_context(|| format!("cannot run `{} -dumpversion`", clang.display()))?;
    let version = String::from_utf8_lossy(&output.stdout);
    let version = version.trim();
    if version.split('.').next() != Some(&LLVM_MAJOR.to_string()) {
        bail!(
            "it is version {version:?}, and the plugin is built for LLVM {LLVM_MAJOR}: \
             install that with `{APT_CLANG}`"
        );
    }
    Ok(())
}

/// The first file of this name in `PATH`.
pub fn in_path(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn target_folder_of_cargo() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for file in [
            "target/release/ame",
            "target/release/libame_pass.so",
            "target/release/libame_rt.so",
            "annotations/include/ame.h",
        ] {
            touch(&root.join(file));
        }
        let found = Install::search(&root.join("target/release/ame"), None);
        assert_eq!(
            found.plugin().unwrap(),
            root.join("target/release/libame_pass.so")
        );
        assert_eq!(
            found.runtime().unwrap(),
            root.join("target/release/libame_rt.so")
        );
        assert_eq!(found.include().unwrap(), root.join("annotations/include"));
        let error = found.runtime_static.clone();
        assert!(error.is_none());
    }

    #[test]
    fn installed_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for file in [
            "bin/ame",
            "lib/libame_pass.so",
            "lib/libame_rt.a",
            "include/ame.h",
        ] {
            touch(&root.join(file));
        }
        let found = Install::search(&root.join("bin/ame"), None);
        assert_eq!(found.plugin().unwrap(), root.join("lib/libame_pass.so"));
        assert_eq!(
            found.runtime_static().unwrap(),
            root.join("lib/libame_rt.a")
        );
        assert_eq!(found.include().unwrap(), root.join("include"));
    }

    #[test]
    fn home_replaces_the_folder_of_the_executable() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for file in [
            "here/bin/ame",
            "here/lib/libame_pass.so",
            "there/lib/libame_rt.so",
        ] {
            touch(&root.join(file));
        }
        let found = Install::search(&root.join("here/bin/ame"), Some(&root.join("there")));
        assert_eq!(
            found.runtime().unwrap(),
            root.join("there/lib/libame_rt.so")
        );
        let message = found.plugin().unwrap_err().to_string();
        assert!(message.contains("libame_pass.so not found"), "{message}");
        assert!(message.contains("cargo build --release"), "{message}");
        assert!(message.contains("AME_HOME"), "{message}");
    }
}
