//! The findings of a package: those of its files, put together.

use super::facts::{Global, Held, Place, Reference, Unit, Unsupported};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What Ame does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ame {
    /// The domain is held whenever code of the extension runs.
    Serialised,
    /// A reference is held, or the access goes through a safe function.
    MadeSafe,
    /// The domain may change hands there, as a GIL may.
    AsUnderAGil,
    /// Not handled: for the maintainer.
    Attention,
    /// Needs nothing.
    Fine,
}

/// Everything; the keys of the JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub package: String,
    pub python: String,
    pub modules: Vec<Module>,
    /// Variables that live as long as the process and are written.
    pub state: Vec<State>,
    /// Places that a function reads, makes a call to Python, and then writes or follows.
    pub held: Vec<Carried>,
    /// Borrowed references to elements of containers, and looks into their memory.
    pub references: Vec<Borrowed>,
    /// Constructs that Ame does not handle, or not well.
    pub unsupported: Vec<Construct>,
    /// What is good to know.
    pub notes: Vec<Note>,
    pub summary: BTreeMap<&'static str, usize>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Module {
    pub name: String,
    /// `multi-phase` or `single-phase`.
    pub init: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct State {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    pub file: String,
    pub line: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_to: Option<String>,
    /// `state`, `lazy` (a pointer that is filled when it is first needed), `import` (written only while the
    /// module is imported) or `thread_local`.
    pub kind: &'static str,
    /// Functions that write it, with their first line that does.
    pub writers: Vec<Place>,
    /// Calls that get its address.
    pub passed: Vec<PassedTo>,
    pub ame: Ame,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PassedTo {
    pub to: String,
    #[serde(flatten)]
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Carried {
    pub file: String,
    pub line: u32,
    pub function: String,
    /// `update`, `pointer`, `drop` or `callback`.
    pub way: String,
    /// A variable, or `Struct.field`.
    pub memory: String,
    pub read: u32,
    pub call: CallOut,
    /// Where it is written, or the pointer is followed.
    pub then: u32,
    pub ame: Ame,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CallOut {
    pub name: String,
    /// What of Python's API it comes to.
    pub runs: String,
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Borrowed {
    pub file: String,
    pub line: u32,
    pub function: String,
    pub container: String,
    /// `function`, `element`, `store`, `pointer` or `field`.
    pub way: String,
    /// The function or macro of the API, where one is named.
    pub api: String,
    pub ame: Ame,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Construct {
    pub file: String,
    pub line: u32,
    pub function: String,
    /// `assembly`, `setjmp`, `longjmp`, `varargs`, `member`, `thread`.
    pub construct: String,
    pub detail: String,
    pub ame: Ame,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    pub text: String,
    pub file: String,
    pub line: u32,
}

impl Report {
    pub fn new(package: &str, python: &str, mut units: Vec<Unit>) -> Report {
        follow_imports(&mut units);
        follow_addresses(&mut units);
        let calls = Calls::new(&units);
        let mut modules: Vec<Module> = units
            .iter()
            .flat_map(|unit| &unit.modules)
            .map(|(name, init)| Module {
                name: name.clone(),
                init: init.clone(),
            })
            .collect();
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        modules.dedup_by(|a, b| a.name == b.name);
        let mut held = BTreeSet::new();
        let mut references = BTreeSet::new();
        let mut unsupported = BTreeSet::new();
        // Templates are compiled into many files: what is at the same place is one finding.
        for unit in &units {
            held.extend(unit.held.iter().filter_map(|held| carried(held, &calls)));
            references.extend(unit.references.iter().map(borrowed));
            unsupported.extend(unit.unsupported.iter().map(construct));
        }
        let mut report = Report {
            package: package.to_owned(),
            python: python.to_owned(),
            modules,
            state: state(&units),
            held: held.into_iter().collect(),
            references: references.into_iter().collect(),
            unsupported: unsupported.into_iter().collect(),
            notes: notes(&units),
            summary: BTreeMap::new(),
        };
        report.summary = report.count();
        report
    }

    fn count(&self) -> BTreeMap<&'static str, usize> {
        let of = |kind: &str| self.state.iter().filter(|s| s.kind == kind).count();
        let attention = self
            .references
            .iter()
            .map(|r| r.ame)
            .chain(self.unsupported.iter().map(|u| u.ame))
            .filter(|ame| *ame == Ame::Attention)
            .count();
        BTreeMap::from([
            ("state", of("state")),
            ("lazy", of("lazy")),
            ("import", of("import")),
            ("thread_local", of("thread_local")),
            ("held", self.held.len()),
            ("references", self.references.len()),
            ("unsupported", self.unsupported.len()),
            ("attention", attention),
        ])
    }
}

/// Functions that other files call only while the module is imported: what they write is written then.
fn follow_imports(units: &mut [Unit]) {
    let mut init: BTreeSet<String> = BTreeSet::new();
    let is_init = |init: &BTreeSet<String>, name: &str, f: &super::facts::Function| {
        f.init || (f.external && init.contains(name))
    };
    loop {
        let mut callers: BTreeMap<&str, bool> = BTreeMap::new();
        for (name, function) in units.iter().flat_map(|unit| &unit.functions) {
            let only_init = is_init(&init, name, function);
            for callee in &function.calls {
                *callers.entry(callee).or_insert(true) &= only_init;
            }
        }
        let more: Vec<String> = units
            .iter()
            .flat_map(|unit| &unit.functions)
            .filter(|(name, f)| f.external && !f.given_away && !is_init(&init, name, f))
            .filter(|(name, _)| callers.get(name.as_str()) == Some(&true))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        init.extend(more);
    }
    for unit in units {
        // Static functions that only those call.
        let mut own: BTreeSet<String> = unit
            .functions
            .iter()
            .filter(|(name, f)| is_init(&init, name, f))
            .map(|(name, _)| name.clone())
            .collect();
        loop {
            let is_own = |name: &String| {
                let mut callers = unit
                    .functions
                    .iter()
                    .filter(|(_, f)| f.calls.contains(name))
                    .peekable();
                callers.peek().is_some() && callers.all(|(caller, _)| own.contains(caller))
            };
            let more: Vec<String> = unit
                .functions
                .iter()
                .filter(|(name, f)| {
                    !f.external && !f.given_away && !own.contains(*name) && is_own(name)
                })
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            own.extend(more);
        }
        for global in &mut unit.globals {
            for write in &mut global.writes {
                write.init |= own.contains(&write.place.function);
            }
            for passed in &mut global.passed {
                passed.init |= own.contains(&passed.place.function);
            }
        }
    }
}

/// An address that is given to a function of another file, which only reads there, is no write.
fn follow_addresses(units: &mut [Unit]) {
    let mut writes: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (name, function) in units.iter().flat_map(|unit| &unit.functions) {
        if function.external {
            writes.insert(name.clone(), function.writes.clone());
        }
    }
    for global in units.iter_mut().flat_map(|unit| &mut unit.globals) {
        global.passed.retain(|passed| {
            let known = writes.get(&passed.to);
            known.is_none_or(|arguments| arguments.contains(&passed.argument))
        });
    }
}

/// Which functions of the package come to run Python code, through all its files.
struct Calls {
    runs: BTreeMap<String, String>,
}

impl Calls {
    fn new(units: &[Unit]) -> Calls {
        let all = || units.iter().flat_map(|unit| &unit.functions);
        let mut runs: BTreeMap<String, String> = all()
            .filter(|(_, f)| f.external)
            .filter_map(|(name, f)| Some((name.clone(), f.runs.clone()?)))
            .collect();
        // Static functions of other files are known to the pass; here it is enough to go from file to file.
        loop {
            let more: Vec<(String, String)> = all()
                .filter(|(name, _)| !runs.contains_key(*name))
                .filter_map(|(name, f)| {
                    let through = f.calls.iter().find_map(|callee| runs.get(callee))?;
                    Some((name.clone(), through.clone()))
                })
                .collect();
            if more.is_empty() {
                return Calls { runs };
            }
            runs.extend(more);
        }
    }
}

fn carried(held: &Held, calls: &Calls) -> Option<Carried> {
    let runs = match &held.call.runs {
        Some(known) => known,
        // A function of another file: of this package, or of a library, which knows nothing of Python.
        None => calls.runs.get(&held.call.name)?,
    };
    Some(Carried {
        file: held.read.file.clone(),
        line: held.read.line,
        function: held.read.function.clone(),
        way: held.way.clone(),
        memory: held.memory.clone(),
        read: held.read.line,
        call: CallOut {
            name: held.call.name.clone(),
            runs: runs.clone(),
            line: held.call.place.line,
        },
        then: held.then.line,
        ame: Ame::AsUnderAGil,
    })
}

/// Macros that look into a container, longest names first.
const MACROS: [&str; 11] = [
    "PySequence_Fast_GET_ITEM",
    "PySequence_Fast_ITEMS",
    "PyWeakref_GET_OBJECT",
    "PyByteArray_AS_STRING",
    "PyByteArray_GET_SIZE",
    "PyDict_GET_SIZE",
    "PyList_GET_ITEM",
    "PyList_SET_ITEM",
    "PySet_GET_SIZE",
    "PyCell_GET",
    "PyCell_SET",
];

fn borrowed(reference: &Reference) -> Borrowed {
    let named = MACROS
        .iter()
        .find(|name| reference.text.contains(*name))
        .map(|name| (*name).to_owned());
    let api = reference
        .function_name
        .clone()
        .or(named)
        .unwrap_or_default();
    // What the header that `ame cc` puts before Python.h defines anew, and what the pass replaces.
    let by_macro = matches!(
        api.as_str(),
        "PyList_GET_ITEM"
            | "PyList_SET_ITEM"
            | "PySequence_Fast_GET_ITEM"
            | "PyWeakref_GET_OBJECT"
            | "PyCell_GET"
            | "PyCell_SET"
    );
    let is_replaced = match reference.way.as_str() {
        "function" => !api.starts_with("_PySet_") && api != "PySys_GetObject",
        "element" | "store" | "field" => by_macro || api.ends_with("_GET_SIZE"),
        _ => false,
    };
    Borrowed {
        file: reference.place.file.clone(),
        line: reference.place.line,
        function: reference.place.function.clone(),
        container: reference.container.clone(),
        way: reference.way.clone(),
        api,
        ame: if is_replaced {
            Ame::MadeSafe
        } else {
            Ame::Attention
        },
    }
}

fn construct(found: &Unsupported) -> Construct {
    let ame = match found.construct.as_str() {
        // With the domain held they do what they always did.
        "assembly" | "setjmp" | "longjmp" => Ame::Serialised,
        // A thread of its own is not attached, and works without the domain as without a GIL.
        "thread" => Ame::AsUnderAGil,
        _ => Ame::Attention,
    };
    Construct {
        file: found.place.file.clone(),
        line: found.place.line,
        function: found.place.function.clone(),
        construct: found.construct.clone(),
        detail: found.detail.clone(),
        ame,
    }
}

/// Variables that are written, each once: those that files share are known by name.
fn state(units: &[Unit]) -> Vec<State> {
    let mut merged: BTreeMap<(String, u32, String, String), Global> = BTreeMap::new();
    let mut places: BTreeMap<&str, (String, u32)> = BTreeMap::new();
    for global in units.iter().flat_map(|unit| &unit.globals) {
        if global.external && global.defined {
            places.insert(&global.name, (global.file.clone(), global.line));
        }
    }
    for global in units.iter().flat_map(|unit| &unit.globals) {
        let (file, line) = match places.get(global.name.as_str()) {
            Some(place) if global.external => place.clone(),
            // Of a library, or of a C file that was not compiled here.
            None if !global.defined => continue,
            _ => (global.file.clone(), global.line),
        };
        let local = global.local_to.clone().unwrap_or_default();
        let key = (file.clone(), line, global.name.clone(), local);
        match merged.get_mut(&key) {
            Some(known) => {
                known.writes.extend(global.writes.iter().cloned());
                known.passed.extend(global.passed.iter().cloned());
                known.reads += global.reads;
                known.lazy |= global.lazy;
                if global.defined {
                    known.ty.clone_from(&global.ty);
                    known.thread_local = global.thread_local;
                }
            }
            None => {
                let mut own = global.clone();
                (own.file, own.line) = (file, line);
                merged.insert(key, own);
            }
        }
    }
    merged.into_values().filter_map(variable).collect()
}

fn variable(global: Global) -> Option<State> {
    // Types and tables are Python's affair, unless the code writes them at run time.
    if global.role.is_some() && !global.writes.iter().any(|w| !w.init) {
        return None;
    }
    let passed: BTreeSet<PassedTo> = global
        .passed
        .iter()
        .filter(|p| !p.init && may_write(&p.to) && global.role.is_none())
        .map(|p| PassedTo {
            to: p.to.clone(),
            place: p.place.clone(),
        })
        .collect();
    if global.writes.is_empty() && passed.is_empty() {
        return None;
    }
    let at_run_time = global.writes.iter().any(|w| !w.init) || !passed.is_empty();
    let kind = if global.thread_local {
        "thread_local"
    } else if !at_run_time {
        "import"
    } else if global.lazy && global.ty.ends_with('*') {
        "lazy"
    } else {
        "state"
    };
    let mut writers: Vec<Place> = global.writes.into_iter().map(|w| w.place).collect();
    writers.sort_by(|a, b| (&a.file, &a.function, a.line).cmp(&(&b.file, &b.function, b.line)));
    writers.dedup_by(|a, b| a.file == b.file && a.function == b.function);
    Some(State {
        name: global.name,
        ty: global.ty,
        file: global.file,
        line: global.line,
        local_to: global.local_to,
        kind,
        writers,
        passed: passed.into_iter().collect(),
        ame: if matches!(kind, "thread_local" | "import") {
            Ame::Fine
        } else {
            Ame::Serialised
        },
    })
}

/// Whether a function that gets an address may write there. Python's API has its outputs elsewhere
/// (`PyArg_...`, which the pass knows).
fn may_write(name: &str) -> bool {
    const READERS: [&str; 15] = [
        "printf",
        "fprintf",
        "puts",
        "fputs",
        "strcmp",
        "strncmp",
        "strlen",
        "memcmp",
        "strchr",
        "strrchr",
        "strstr",
        "strcasecmp",
        "fwrite",
        "Py",
        "_Py",
    ];
    !READERS.iter().any(|reader| name.starts_with(reader))
}

fn notes(units: &[Unit]) -> Vec<Note> {
    let mut notes = BTreeSet::new();
    for unit in units {
        // Those of the standard library take care of themselves.
        let is_foreign = |name: &str| {
            !["datetime.", "_ctypes.", "pyexpat.", "_socket.", "_decimal."]
                .iter()
                .any(|own| name.starts_with(own))
        };
        for capsule in unit
            .capsules
            .iter()
            .filter(|capsule| is_foreign(&capsule.name))
        {
            notes.insert(Note {
                text: format!(
                    "uses the C interface {}: build both packages with one --domain NAME",
                    capsule.name
                ),
                file: capsule.place.file.clone(),
                line: capsule.place.line,
            });
        }
        for place in &unit.releases {
            notes.insert(Note {
                text: format!(
                    "{} releases the GIL (Py_BEGIN_ALLOW_THREADS): the domain is given up there",
                    place.function
                ),
                file: place.file.clone(),
                line: place.line,
            });
        }
    }
    notes.into_iter().collect()
}
