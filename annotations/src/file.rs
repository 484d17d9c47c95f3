//! Set files: those that are part of this crate and those on disk, with the layout beside them.

use crate::diagnostic::{Diagnostic, Error};
use crate::layout::{self, Layout};
use crate::parse::{self, RawSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A set and its layout.
pub(crate) struct SetFile {
    pub raw: RawSet,
    pub layout: Option<Layout>,
    /// Where the layout is, or would be.
    pub layout_path: PathBuf,
}

/// Whether an unreadable layout matters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layouts {
    Read,
    /// It is going to be written anew.
    Ignore,
}

impl SetFile {
    pub fn read(path: &Path, target: &str, layouts: Layouts) -> Result<SetFile, Error> {
        let shipped = path.to_str().and_then(Shipped::find);
        match shipped.filter(|_| !path.exists()) {
            Some(shipped) => shipped.read(path, target),
            None => SetFile::on_disk(path, target, layouts),
        }
    }

    fn on_disk(path: &Path, target: &str, layouts: Layouts) -> Result<SetFile, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let names: Vec<&str> = shipped_names().collect();
            let message = format!("cannot read the annotation set: {error}");
            Diagnostic::of_file(path, message).help(format!(
                "give the path of a .toml file, or the name of a set that comes with Ame: {}",
                names.join(", ")
            ))
        })?;
        let raw = parse::parse(path, &text)?;
        let layout_path = layout::path_for(path, target);
        let layout = match std::fs::read_to_string(&layout_path) {
            _ if layouts == Layouts::Ignore => None,
            Ok(text) => Some(layout::parse(&layout_path, &text)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                let message = format!("cannot read the layout: {error}");
                return Err(Diagnostic::of_file(&layout_path, message).into());
            }
        };
        Ok(SetFile {
            raw,
            layout,
            layout_path,
        })
    }
}

/// Names of the sets that are part of this crate.
pub(crate) fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|s| s.name)
}

struct Shipped {
    name: &'static str,
    text: &'static str,
    /// Target and layout.
    layouts: &'static [(&'static str, &'static str)],
}

impl Shipped {
    fn find(name: &str) -> Option<&'static Shipped> {
        SHIPPED.iter().find(|s| s.name == name)
    }

    fn read(&self, path: &Path, target: &str) -> Result<SetFile, Error> {
        let file = PathBuf::from(format!("{}.toml", self.name));
        let layout_path = layout::path_for(path, target);
        let text = self.layouts.iter().find(|(t, _)| *t == target);
        let layout = text.map(|(_, text)| layout::parse(&layout_path, text));
        Ok(SetFile {
            raw: parse::parse(&file, self.text)?,
            layout: layout.transpose()?,
            layout_path,
        })
    }
}

const SHIPPED: [Shipped; 4] = [
    Shipped {
        name: "libc",
        text: include_str!("../sets/libc.toml"),
        layouts: &[],
    },
    Shipped {
        name: "python-extension",
        text: include_str!("../sets/python-extension.toml"),
        layouts: &[],
    },
    Shipped {
        name: "python-elision",
        text: include_str!("../sets/python-elision.toml"),
        layouts: &[],
    },
    Shipped {
        name: "cpython-3.13",
        text: include_str!("../sets/cpython-3.13.toml"),
        layouts: &[(
            "x86_64-linux",
            include_str!("../sets/cpython-3.13.x86_64-linux.layout.toml"),
        )],
    },
];
