//! A package that is to be built: where it comes from, and how pip builds it with `ame cc`.

use super::interpreter::Interpreter;
use anyhow::{bail, Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Package {
    /// A folder with the source.
    Folder(PathBuf),
    /// A source archive.
    Archive(PathBuf),
    /// `NAME` or `NAME==VERSION`, from PyPI.
    Name(String),
}

impl Package {
    pub fn parse(text: &str) -> Result<Package> {
        let path = Path::new(text);
        if path.is_dir() {
            let sources = ["pyproject.toml", "setup.py", "setup.cfg"];
            if !sources.iter().any(|name| path.join(name).is_file()) {
                bail!("{text} has no pyproject.toml and no setup.py: name the folder of a Python package");
            }
            let path = path
                .canonicalize()
                .with_context(|| format!("cannot find {text}"))?;
            return Ok(Package::Folder(path));
        }
        if path.is_file() {
            if text.ends_with(".whl") {
                bail!("{text} is built already: give the source, a folder or an archive");
            }
            return Ok(Package::Archive(path.to_path_buf()));
        }
        let (name, version) = text.split_once("==").unwrap_or((text, "1"));
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-+!".contains(c))
        };
        if !is_word(name) || !is_word(version) {
            bail!("there is no file or folder {text}, and it is no package either: those are NAME or NAME==VERSION");
        }
        Ok(Package::Name(text.to_string()))
    }

    /// As the user would say it.
    pub fn shown(&self) -> String {
        match self {
            Package::Folder(path) | Package::Archive(path) => path.display().to_string(),
            Package::Name(name) => name.clone(),
        }
    }

    /// The word for pip, and options that go with it. A folder is copied into `scratch` first: objects of
    /// an earlier build with another compiler must not be used again, and the user's folder stays as it is.
    fn for_pip(&self, scratch: &Path) -> Result<Vec<OsString>> {
        Ok(match self {
            Package::Folder(path) => {
                let copy = scratch
                    .join("source")
                    .join(path.file_name().unwrap_or_default());
                copy_tree(path, &copy)
                    .with_context(|| format!("cannot copy {} to build it", path.display()))?;
                vec![copy.into()]
            }
            Package::Archive(path) => vec![path.into()],
            Package::Name(text) => {
                let name = text.split("==").next().unwrap_or(text);
                vec!["--no-binary".into(), name.into(), text.into()]
            }
        })
    }
}

/// Without what builds leave behind.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        let is_object = path.extension().is_some_and(|end| end == "o");
        if is_object || (kind.is_dir() && (name == "build" || name == "__pycache__")) {
            continue;
        }
        let target = to.join(&name);
        if kind.is_dir() {
            copy_tree(&path, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path)?, target)?;
        } else {
            fs::copy(&path, target)?;
        }
    }
    Ok(())
}

/// A wheel that was just built, in a folder of its own.
pub struct Wheel {
    pub path: PathBuf,
    /// Its extension modules, unpacked.
    pub modules: Vec<PathBuf>,
}

impl Wheel {
    pub fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// Builds a wheel of the package in `scratch`, with `ame cc` and the variables; pip's and the compiler's
/// messages go to standard error. Fails where there is no C code in it.
pub fn wheel(
    package: &Package,
    python: &Interpreter,
    variables: &[(&str, OsString)],
    options: &[OsString],
    scratch: &Path,
) -> Result<Wheel> {
    let folder = scratch.join("wheel");
    let mut pip = python.pip();
    // Not from pip's cache, nor into it: what was built by another compiler has the same name.
    pip.args(["wheel", "--no-deps", "--no-cache-dir", "--wheel-dir"])
        .arg(&folder)
        .args(options)
        .args(package.for_pip(scratch)?);
    compilers(&mut pip)?;
    pip.envs(variables.iter().map(|(name, value)| (name, value)));
    if !runs(&mut pip)? {
        bail!("{} could not be built: see above", package.shown());
    }
    let built = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "whl"))
        .with_context(|| format!("pip left no wheel of {}", package.shown()))?;
    let content = scratch.join("content");
    let mut unzip = Command::new(&python.path);
    unzip
        .args(["-m", "zipfile", "-e"])
        .arg(&built)
        .arg(&content);
    if !runs(&mut unzip)? {
        bail!("cannot unpack {}", built.display());
    }
    let mut modules = Vec::new();
    find_modules(&content, &mut modules)
        .with_context(|| format!("cannot read {}", content.display()))?;
    if modules.is_empty() {
        bail!(
            "there is no C code in {}, or its build has left that out (see above): it has nothing \
             to do with the GIL, and `{} -m pip install` is all that it needs",
            package.shown(),
            python.path.display()
        );
    }
    modules.sort();
    Ok(Wheel {
        path: built,
        modules,
    })
}

/// CC and CXX, as one word each: some builds look for a file of that name.
pub fn compilers(command: &mut Command) -> Result<()> {
    let own = std::env::current_exe().context("cannot find the path of this executable")?;
    for (variable, name) in [("CC", "ame-cc"), ("CXX", "ame-cxx")] {
        let path = own.with_file_name(name);
        if !path.is_file() {
            bail!(
                "{} not found: it belongs beside `ame`; build it with `cargo build --release`",
                path.display()
            );
        }
        command.env(variable, path);
    }
    // setuptools derives them from the two.
    for name in ["LDSHARED", "LDCXXSHARED"] {
        command.env_remove(name);
    }
    Ok(())
}

/// Runs it with its output on our standard error; false when it failed.
pub fn runs(command: &mut Command) -> Result<bool> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    Ok(status.success())
}

/// Shared objects that an interpreter can import.
fn find_modules(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_modules(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "so") {
            let content = fs::read(&path)?;
            if contains(&content, b"PyInit_") {
                found.push(path);
            }
        }
    }
    Ok(())
}

pub fn contains(content: &[u8], word: &[u8]) -> bool {
    content.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_archives_and_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let empty = Package::parse(path).unwrap_err().to_string();
        assert!(empty.contains("pyproject.toml"), "{empty}");
        fs::write(folder.path().join("setup.py"), "").unwrap();
        assert!(matches!(Package::parse(path), Ok(Package::Folder(_))));

        let wheel = folder.path().join("x-1-py3-none-any.whl");
        fs::write(&wheel, "").unwrap();
        let built = Package::parse(wheel.to_str().unwrap())
            .unwrap_err()
            .to_string();
        assert!(built.contains("built already"), "{built}");

        let name = |text: &str| Package::parse(text).unwrap();
        assert_eq!(
            name("lru-dict==1.4.1"),
            Package::Name("lru-dict==1.4.1".into())
        );
        assert_eq!(name("zope.proxy"), Package::Name("zope.proxy".into()));
        for bad in ["./nowhere", "a b", "--index-url", "x==", ""] {
            let error = Package::parse(bad).unwrap_err().to_string();
            assert!(error.contains("NAME==VERSION"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_copy_leaves_out_what_builds_leave_behind() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        for file in [
            "setup.py",
            "src/a.c",
            "src/a.o",
            "build/temp/a.o",
            "src/data.txt",
        ] {
            let path = from.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let to = folder.path().join("to");
        copy_tree(&from, &to).unwrap();
        for (file, there) in [
            ("setup.py", true),
            ("src/a.c", true),
            ("src/data.txt", true),
            ("src/a.o", false),
            ("build", false),
        ] {
            assert_eq!(to.join(file).exists(), there, "{file}");
        }
    }
}
