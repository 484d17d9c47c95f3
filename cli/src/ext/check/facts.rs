//! What the plugin writes of each file (pass/src/check), one JSON document per file.

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    /// Empty for declarations.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub function: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Unit {
    pub file: String,
    pub folder: String,
    pub modules: BTreeMap<String, String>,
    pub globals: Vec<Global>,
    pub held: Vec<Held>,
    pub references: Vec<Reference>,
    pub unsupported: Vec<Unsupported>,
    pub functions: BTreeMap<String, Function>,
    pub capsules: Vec<Named>,
    pub releases: Vec<Place>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Global {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    pub file: String,
    pub line: u32,
    pub local_to: Option<String>,
    pub external: bool,
    pub defined: bool,
    pub thread_local: bool,
    pub role: Option<String>,
    pub lazy: bool,
    pub writes: Vec<Write>,
    pub passed: Vec<Passed>,
    pub reads: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Write {
    #[serde(flatten)]
    pub place: Place,
    pub init: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Passed {
    pub to: String,
    pub argument: u32,
    #[serde(flatten)]
    pub place: Place,
    pub init: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Held {
    pub way: String,
    pub memory: String,
    pub read: Place,
    pub call: Call,
    pub then: Place,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    pub name: String,
    pub runs: Option<String>,
    #[serde(flatten)]
    pub place: Place,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Reference {
    pub container: String,
    pub way: String,
    pub function_name: Option<String>,
    pub text: String,
    #[serde(flatten)]
    pub place: Place,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Unsupported {
    pub construct: String,
    pub detail: String,
    #[serde(flatten)]
    pub place: Place,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Function {
    pub external: bool,
    pub given_away: bool,
    pub init: bool,
    pub writes: Vec<u32>,
    pub runs: Option<String>,
    pub calls: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Named {
    pub name: String,
    #[serde(flatten)]
    pub place: Place,
}

/// The files of a package, in the order of their names, with names relative to where they were compiled.
pub fn read(folder: &Path, package: &str) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    for entry in std::fs::read_dir(folder).context("cannot read what the pass has written")? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let unit: Unit = serde_json::from_str(&text)
            .with_context(|| format!("{} is not what the pass writes: `ame` and libame_pass.so are of different versions", path.display()))?;
        // What a configure script compiles to try something.
        if !unit.file.contains("conftest") {
            units.push(unit);
        }
    }
    if units.is_empty() {
        bail!("the build of {package} compiled nothing with CC, which names `ame cc`: see above what it ran");
    }
    let root = common(&units);
    for unit in &mut units {
        unit.make_relative(&root);
    }
    units.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(units)
}

/// The folder that all were compiled in, or below: builds run in one with a name of no interest.
fn common(units: &[Unit]) -> PathBuf {
    let mut root = PathBuf::from(&units[0].folder);
    while !units
        .iter()
        .all(|unit| Path::new(&unit.folder).starts_with(&root))
    {
        if !root.pop() {
            break;
        }
    }
    root
}

impl Unit {
    /// Names of files get to be relative to the root.
    fn make_relative(&mut self, root: &Path) {
        let folder = PathBuf::from(&self.folder);
        let cut = |file: &mut String| {
            let mut path = PathBuf::new();
            for part in folder.join(&*file).components() {
                match part {
                    Component::CurDir => {}
                    Component::ParentDir => {
                        path.pop();
                    }
                    other => path.push(other),
                }
            }
            *file = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string();
        };
        cut(&mut self.file);
        for global in &mut self.globals {
            cut(&mut global.file);
            global
                .writes
                .iter_mut()
                .for_each(|w| cut(&mut w.place.file));
            global
                .passed
                .iter_mut()
                .for_each(|p| cut(&mut p.place.file));
        }
        for held in &mut self.held {
            for place in [&mut held.read, &mut held.call.place, &mut held.then] {
                cut(&mut place.file);
            }
        }
        self.references
            .iter_mut()
            .for_each(|r| cut(&mut r.place.file));
        self.unsupported
            .iter_mut()
            .for_each(|u| cut(&mut u.place.file));
        self.capsules
            .iter_mut()
            .for_each(|n| cut(&mut n.place.file));
        self.releases.iter_mut().for_each(|p| cut(&mut p.file));
    }
}
