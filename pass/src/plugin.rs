//! The two phases as LLVM calls them.

use crate::extension;
use crate::ffi::Module;
use crate::instrument;
use crate::options::Options;
use ame_annotations::Sets;
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::OnceLock;

struct Setup {
    options: Options,
    sets: Sets,
}

/// Options and sets are read once: a compiler process has one set of them.
fn setup() -> Result<&'static Setup, String> {
    static SETUP: OnceLock<Result<Setup, String>> = OnceLock::new();
    SETUP
        .get_or_init(|| {
            let options = Options::read()?;
            let sets = Sets::builtin_and(&options.annotations)
                .map_err(|e| format!("AME_ANNOTATIONS:\n{e}"))?;
            Ok(Setup { options, sets })
        })
        .as_ref()
        .map_err(Clone::clone)
}

thread_local! {
    static CURRENT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What the pass is working on, for messages about internal errors.
pub fn current() -> String {
    CURRENT.with(|c| c.borrow().clone())
}

pub fn set_current(what: &str) {
    CURRENT.with(|c| {
        let mut c = c.borrow_mut();
        c.clear();
        c.push_str(what);
    });
}

/// Where `ame ext check` wants to find what a compilation says of a file.
fn check_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("AME_CHECK")?;
    (!folder.is_empty()).then(|| folder.into())
}

/// Whether code is looked at and left as it is.
pub fn checks() -> bool {
    check_folder().is_some()
}

/// The tag phase; true when the module was changed.
pub fn tag(module: Module) -> Result<bool, String> {
    if let Some(folder) = check_folder() {
        set_current(&String::from_utf8_lossy(module.name()));
        return crate::check::run(module, &folder).map(|()| false);
    }
    let setup = setup()?;
    set_current(&String::from_utf8_lossy(module.name()));
    if extension::is_one(module) {
        return extension::run(module, &setup.options);
    }
    if setup.options.extension {
        return extension::run_without_header(module, &setup.options);
    }
    crate::tag::run(module, &setup.sets, &setup.options)
}

/// The instrument phase; true when the module was changed.
pub fn instrument(module: Module) -> Result<bool, String> {
    if checks() {
        return Ok(false);
    }
    let setup = setup()?;
    set_current(&String::from_utf8_lossy(module.name()));
    if extension::is_one(module) || setup.options.extension {
        return extension::instrument(module, &setup.options);
    }
    instrument::run(module, &setup.sets, &setup.options)
}
