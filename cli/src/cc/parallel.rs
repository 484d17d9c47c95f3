//! Which functions of an extension run without the GIL: what `ame.toml` beside setup.py says, or AME_PARALLEL, or the
//! source.

use anyhow::{bail, Context, Result};
use serde::Deserialize;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub const VARIABLE: &str = "AME_PARALLEL";
pub const FILE: &str = "ame.toml";
/// What is beside it.
const PROJECT: [&str; 3] = ["pyproject.toml", "setup.py", "setup.cfg"];
/// What marks a function in the source, and a whole file.
const MARKS: [&str; 2] = ["AME_PARALLEL", "AME_PARALLEL_MODULE"];
/// What the variable says of functions that the source marks, and of all.
const MARKED: &str = "marked";
const ALL: &str = "all";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    parallel: Option<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    all: bool,
    #[serde(default)]
    functions: Vec<String>,
}

/// For the plugin: `all`, or names; `None` where nothing is to run without the GIL. `inherited` is the value of
/// AME_PARALLEL, `folder` where the compiler runs.
pub fn find(inherited: Option<&OsStr>, folder: &Path) -> Result<Option<String>> {
    let project = folder
        .ancestors()
        .find(|f| PROJECT.iter().any(|name| f.join(name).is_file()));
    if let Some(text) = inherited.and_then(OsStr::to_str).filter(|t| !t.is_empty()) {
        if text != ALL && text != MARKED {
            let names: Vec<&str> = text.split(',').map(str::trim).collect();
            check(&names, project.unwrap_or(folder), VARIABLE)?;
        }
        return Ok(Some(text.to_owned()));
    }
    let Some(project) = project else {
        return Ok(None);
    };
    let file = project.join(FILE);
    if file.is_file() {
        if let Some(table) = read(&file)?.parallel {
            if table.all {
                return Ok(Some(ALL.to_owned()));
            }
            let names: Vec<&str> = table.functions.iter().map(String::as_str).collect();
            check(&names, project, &file.display().to_string())?;
            return Ok(Some(match names.is_empty() {
                true => MARKED.to_owned(),
                false => names.join(","),
            }));
        }
    }
    let is_marked = sources(project).any(|text| MARKS.iter().any(|mark| has_word(&text, mark)));
    Ok(is_marked.then(|| MARKED.to_owned()))
}

fn read(file: &Path) -> Result<Settings> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    toml::from_str(&text).with_context(|| {
        format!(
            "{}: what goes there is [parallel] with functions = [\"name\", ...], the C functions that run without \
             the GIL, or all = true",
            file.display()
        )
    })
}

/// Names that no source has are mistakes.
fn check(names: &[&str], project: &Path, said_by: &str) -> Result<()> {
    let texts: Vec<String> = match names {
        [] => Vec::new(),
        _ => sources(project).collect(),
    };
    for name in names {
        if !texts.iter().any(|text| has_word(text, name)) {
            bail!(
                "{said_by}: there is no function {name:?} in the C files below {}: the names are those of functions in \
                 C, not those that Python calls them by",
                project.display()
            );
        }
    }
    Ok(())
}

fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside)
        })
}

/// Texts of all C files below a folder.
fn sources(folder: &Path) -> impl Iterator<Item = String> {
    const ENDINGS: [&str; 9] = ["c", "h", "cc", "cpp", "cxx", "hh", "hpp", "inc", "in"];
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    std::iter::from_fn(move || loop {
        if let Some(file) = files.pop() {
            if let Ok(bytes) = std::fs::read(&file) {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            continue;
        }
        let entries = std::fs::read_dir(folders.pop()?).into_iter().flatten();
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let is_hidden = name.to_string_lossy().starts_with('.');
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_hidden => folders.push(path),
                Ok(kind) if kind.is_file() => {
                    let ending = path.extension().and_then(OsStr::to_str);
                    if ending.is_some_and(|e| ENDINGS.contains(&e)) {
                        files.push(path);
                    }
                }
                _ => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(settings: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("setup.py"), "").unwrap();
        std::fs::write(folder.path().join(FILE), settings).unwrap();
        std::fs::create_dir_all(folder.path().join("src/deep")).unwrap();
        let source = "static int solve(void); int solved; /* AME */";
        std::fs::write(folder.path().join("src/deep/a.c"), source).unwrap();
        folder
    }

    fn found(settings: &str) -> Result<Option<String>> {
        let folder = project(settings);
        find(None, &folder.path().join("src/deep"))
    }

    #[test]
    fn the_file_beside_setup_py_says() {
        assert_eq!(found("").unwrap(), None);
        assert_eq!(found("[parallel]").unwrap().as_deref(), Some("marked"));
        assert_eq!(
            found("[parallel]\nall = true").unwrap().as_deref(),
            Some("all")
        );
        let named = found("[parallel]\nfunctions = [\"solve\"]").unwrap();
        assert_eq!(named.as_deref(), Some("solve"));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |settings| format!("{:#}", found(settings).unwrap_err());
        let unknown = message("[parallel]\nfunctions = [\"solve\", \"solv\"]");
        assert!(
            unknown.contains("\"solv\"") && unknown.contains("ame.toml"),
            "{unknown}"
        );
        let wrong = message("[parallel]\nfunction = [\"solve\"]");
        assert!(
            wrong.contains("function") && wrong.contains("[parallel]"),
            "{wrong}"
        );
        assert!(message("[paralel]").contains("paralel"));
    }

    #[test]
    fn the_variable_and_the_source_count_as_well() {
        let folder = project("");
        let at = folder.path();
        let all = find(Some(OsStr::new("all")), at).unwrap();
        assert_eq!(all.as_deref(), Some("all"));
        assert!(find(Some(OsStr::new("solv")), at).is_err());
        std::fs::write(at.join("b.h"), "AME_PARALLEL static int f(void);").unwrap();
        assert_eq!(find(None, at).unwrap().as_deref(), Some("marked"));
        assert_eq!(find(None, Path::new("/nowhere")).unwrap(), None);
    }
}
