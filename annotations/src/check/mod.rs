//! Checks a set against the real headers, and generates its layout.
//!
//! Everything that a set names must exist: structs, fields, functions, the arguments of ranges,
//! globals. Static functions and variables are found in C files, each parsed as a unit of its own.

mod clang;
mod declarations;
mod fields;

use crate::diagnostic::{Diagnostic, Error};
use crate::file::{Layouts, SetFile};
use crate::function::{FunctionRule, Len, Range};
use crate::layout::{self, Layout, StructLayout};
use crate::parse::{RawSet, RawStruct};
use crate::pattern;
use crate::sets::Origin;
use crate::toml_view::closest;
use clang::{Bodies, Type, Unit};
use declarations::Declarations;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// What to check, and against what.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The set: a path, or the name of one that comes with Ame.
    pub set: PathBuf,
    /// Headers (`Python.h`) and C files, instead of those that the set's `[check]` names.
    pub includes: Vec<String>,
    /// Arguments for clang, after those of the set.
    pub args: Vec<String>,
    /// What relative paths in the set and in `includes` are relative to; default: this folder.
    pub root: Option<PathBuf>,
    /// Write the layout beside the set instead of comparing it. Needs a set that is a file.
    pub write_layout: bool,
    /// Default: the machine that this runs on.
    pub target: Option<String>,
}

/// What a check has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub set: String,
    /// What the headers do not have, or have differently. Empty: the set is right.
    pub problems: Vec<Diagnostic>,
    /// How many of each were found.
    pub structs: usize,
    pub fields: usize,
    pub functions: usize,
    pub globals: usize,
    /// Functions that the set declares to be in no header.
    pub undeclared: usize,
    pub layout: LayoutState,
}

/// What became of the layout file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LayoutState {
    /// The set names no fields.
    #[default]
    NotNeeded,
    /// It says what the headers say.
    Matches(PathBuf),
    /// It was written, because the options asked for it.
    Written(PathBuf),
    /// It is missing or differs; the problems say how.
    Wrong(PathBuf),
}

impl Report {
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let verdict = if self.is_ok() { "ok" } else { "FAILED" };
        write!(
            f,
            "{}: {verdict}: found {} structs, {} fields, {} functions, {} globals",
            self.set, self.structs, self.fields, self.functions, self.globals
        )?;
        if self.undeclared > 0 {
            write!(f, "; {} functions not to be declared", self.undeclared)?;
        }
        if !self.problems.is_empty() {
            write!(f, "; {} problems", self.problems.len())?;
        }
        match &self.layout {
            LayoutState::NotNeeded => Ok(()),
            LayoutState::Matches(path) => write!(f, "\nlayout {}: matches", path.display()),
            LayoutState::Written(path) => write!(f, "\nlayout {}: written", path.display()),
            LayoutState::Wrong(path) => write!(f, "\nlayout {}: wrong", path.display()),
        }
    }
}

/// Checks a set. An error means that the check could not be made: the set is not readable, libclang
/// is missing, or the headers do not compile.
pub fn check(options: &Options) -> Result<Report, Error> {
    let target = options.target.clone().unwrap_or_else(layout::host_target);
    let layouts = match options.write_layout {
        true => Layouts::Ignore,
        false => Layouts::Read,
    };
    let file = SetFile::read(&options.set, &target, layouts)?;
    if options.write_layout && !options.set.exists() {
        let message = "the layout of a set that is part of `ame` cannot be written";
        let problem = Diagnostic::of_file(&options.set, message);
        return Err(problem.help("give the path of a set file").into());
    }
    clang::open_library().map_err(|problem| {
        Diagnostic::of_file(&options.set, format!("cannot check: {problem}")).help(
            "install libclang (Debian: apt-get install libclang-19-dev), or set LIBCLANG_PATH to \
             the folder that holds libclang.so",
        )
    })?;
    let units = parse_units(options, &file.raw)?;
    let mut declared = Declarations::default();
    units.iter().for_each(|unit| declared.add(unit));
    let mut checker = Checker {
        declared: &declared,
        report: Report {
            set: file.raw.name.clone(),
            ..Report::default()
        },
    };
    let made = checker.structs(&file.raw, &target);
    checker.functions(&file.raw);
    checker.globals(&file.raw);
    checker.layout(&file, made, options.write_layout);
    let mut report = checker.report;
    report
        .problems
        .sort_by_key(|p| (p.file.clone(), p.line, p.column));
    Ok(report)
}

fn parse_units(options: &Options, set: &RawSet) -> Result<Vec<Unit>, Error> {
    let section = &set.check;
    let given = &options.includes;
    let is_source = |name: &&String| name.ends_with(".c");
    let (headers, sources): (Vec<&String>, Vec<&String>) = if given.is_empty() {
        (
            section.headers.iter().collect(),
            section.sources.iter().collect(),
        )
    } else {
        (
            given.iter().filter(|n| !is_source(n)).collect(),
            given.iter().filter(is_source).collect(),
        )
    };
    if headers.is_empty() && sources.is_empty() {
        return Err(
            Diagnostic::of_file(&options.set, "nothing to check the set against")
                .help("give --include HEADER, or name headers in the set's [check]")
                .into(),
        );
    }
    let root = options.root.as_deref().unwrap_or(Path::new("."));
    let root = std::path::absolute(root)
        .map_err(|e| Diagnostic::of_file(root, format!("no such folder: {e}")))?;
    let mut args = vec![format!("-working-directory={}", root.display())];
    args.extend(section.args.iter().chain(&options.args).cloned());
    let mut units = Vec::new();
    if !headers.is_empty() {
        let lines = headers.iter().map(|name| {
            // A header that is there is meant; others are searched as the compiler would.
            if root.join(name).is_file() {
                format!("#include \"{}\"\n", root.join(name).display())
            } else {
                format!("#include <{name}>\n")
            }
        });
        let text: String = lines.collect();
        let main = root.join("ame-check.c");
        let main = main.to_string_lossy();
        units.push(parse_unit(
            options,
            &main,
            Some(&text),
            &args,
            Bodies::Skip,
        )?);
    }
    for source in sources {
        units.push(parse_unit(options, source, None, &args, Bodies::Parse)?);
    }
    Ok(units)
}

fn parse_unit(
    options: &Options,
    file: &str,
    text: Option<&str>,
    args: &[String],
    bodies: Bodies,
) -> Result<Unit, Error> {
    let unit = Unit::parse(file, text, args, bodies).map_err(|problem| {
        Diagnostic::of_file(Path::new(file), problem).help("is it there? --root says where from")
    })?;
    let errors = unit.errors();
    if errors.is_empty() {
        return Ok(unit);
    }
    let shown: Vec<&str> = errors.iter().take(5).map(String::as_str).collect();
    let message = format!(
        "the set cannot be checked, because its headers do not compile:\n  {}",
        shown.join("\n  ")
    );
    Err(Diagnostic::of_file(&options.set, message)
        .help("give what the headers need as arguments for clang, such as -I and -D, after --")
        .into())
}

struct Checker<'u> {
    declared: &'u Declarations<'u>,
    report: Report,
}

impl<'u> Checker<'u> {
    fn problem(&mut self, origin: &Origin, message: String, help: Option<String>) {
        let mut problem = origin.diagnostic(message);
        problem.help = help;
        self.report.problems.push(problem);
    }

    // --- structs ---

    fn structs(&mut self, set: &RawSet, target: &str) -> Layout {
        let mut layout = Layout {
            set: set.name.clone(),
            target: target.to_owned(),
            ..Layout::default()
        };
        let wanted: BTreeSet<&str> = set.structs.iter().map(|s| s.name.as_str()).collect();
        for rule in &set.structs {
            let Some(&ty) = self.declared.records.get(&rule.name) else {
                self.missing_struct(rule);
                continue;
            };
            self.report.structs += 1;
            let Some((size, align)) = ty.size_and_align() else {
                continue;
            };
            let ruled = rule.fields.iter().filter(|f| !f.pointee);
            let ruled: BTreeSet<&str> = ruled.map(|f| f.path.as_str()).collect();
            let mut made = StructLayout {
                size,
                align,
                embeds: fields::embedded(self.declared, ty, &wanted, &ruled),
                tail: fields::tail(ty),
                ..StructLayout::default()
            };
            for field in rule.fields.iter().filter(|f| !f.is_whole()) {
                match fields::place(ty, &field.path) {
                    Ok(place) => {
                        self.report.fields += 1;
                        if let Some(explicit) = field.explicit.filter(|e| *e != place) {
                            let message = format!(
                                "field `{}` of struct {} is at offset {} with size {}, not at {} \
                                 with {}",
                                field.path, rule.name, place.0, place.1, explicit.0, explicit.1
                            );
                            self.problem(&field.origin, message, None);
                        }
                        made.fields.insert(field.path.clone(), place);
                    }
                    Err(problem) => {
                        let message = format!(
                            "no field `{}` in struct {}: {problem}",
                            field.path, rule.name
                        );
                        self.problem(&field.origin, message, similar_field(ty, &field.path));
                    }
                }
            }
            layout.structs.insert(rule.name.clone(), made);
        }
        layout
    }

    fn missing_struct(&mut self, rule: &RawStruct) {
        let help = match self.declared.aliases.get(&rule.name) {
            Some(tag) => format!(
                "{} is a typedef of struct {tag}: write [struct.{tag}], as LLVM IR does",
                rule.name
            ),
            None => {
                let known: Vec<&str> = self.declared.records.keys().map(String::as_str).collect();
                match closest(&rule.name, &known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "is the header that defines it among those given?".into(),
                }
            }
        };
        let message = format!("no struct or union {} in the headers", rule.name);
        self.problem(&rule.origin, message, Some(help));
    }

    // --- functions ---

    fn functions(&mut self, set: &RawSet) {
        for (name, rule) in &set.functions {
            if pattern::is_pattern(name) {
                let mut all = self.declared.functions.keys();
                let found = all.any(|f| pattern::matches(name, f));
                self.pattern("function", name, &rule.origin, found);
                self.report.functions += usize::from(found);
                continue;
            }
            let Some(&ty) = self.declared.functions.get(name) else {
                if rule.declared {
                    let known: Vec<&str> =
                        self.declared.functions.keys().map(String::as_str).collect();
                    let help = closest(name, &known).map(|near| format!("did you mean {near}?"));
                    let message = format!("no function `{name}` in the headers");
                    self.problem(&rule.origin, message, help);
                } else {
                    self.report.undeclared += 1;
                }
                continue;
            };
            self.report.functions += 1;
            self.ranges(name, rule, &ty.parameters());
        }
    }

    fn pattern(&mut self, what: &str, name: &str, origin: &Origin, found: bool) {
        if !found {
            let message = format!("no {what} in the headers matches `{name}`");
            self.problem(origin, message, None);
        }
    }

    fn ranges(&mut self, name: &str, rule: &FunctionRule, parameters: &[Type<'u>]) {
        for range in rule.reads.iter().chain(&rule.writes) {
            if let Err(problem) = range_fits(range, parameters) {
                let message = format!("range \"{range}\" of function `{name}`: {problem}");
                let types: Vec<String> = parameters.iter().map(|t| t.spelling()).collect();
                let help = format!("its parameters, from 0: {}", types.join(", "));
                self.problem(&rule.origin, message, Some(help));
            }
        }
    }

    // --- globals ---

    fn globals(&mut self, set: &RawSet) {
        for (name, rule) in &set.globals {
            let found = if pattern::is_pattern(name) {
                let mut all = self.declared.globals.iter();
                let found = all.any(|g| pattern::matches(name, g));
                self.pattern("variable", name, &rule.origin, found);
                found
            } else {
                let found = self.declared.globals.contains(name);
                if !found {
                    let known: Vec<&str> =
                        self.declared.globals.iter().map(String::as_str).collect();
                    let help = closest(name, &known).map(|near| format!("did you mean {near}?"));
                    let message = format!("no variable `{name}` in the headers and sources");
                    self.problem(&rule.origin, message, help);
                }
                found
            };
            self.report.globals += usize::from(found);
        }
    }

    // --- layout ---

    fn layout(&mut self, file: &SetFile, made: Layout, write: bool) {
        let needed = file.raw.structs.iter().flat_map(|s| &s.fields);
        if !needed.clone().any(|f| f.explicit.is_none()) {
            return;
        }
        let path = file.layout_path.clone();
        if write && !self.report.is_ok() {
            self.report.layout = LayoutState::Wrong(path);
            return;
        }
        if write {
            self.report.layout = match std::fs::write(&path, made.to_toml()) {
                Ok(()) => LayoutState::Written(path),
                Err(error) => {
                    let message = format!("cannot write the layout: {error}");
                    self.report
                        .problems
                        .push(Diagnostic::of_file(&path, message));
                    LayoutState::Wrong(path)
                }
            };
            return;
        }
        let before = self.report.problems.len();
        match &file.layout {
            None => {
                let message = "the set names fields without offsets, and its layout is missing";
                let problem = Diagnostic::of_file(&path, message);
                self.report
                    .problems
                    .push(problem.help("run the same command with --write-layout"));
            }
            Some(old) => self.compare(&file.raw, old, &made),
        }
        self.report.layout = if self.report.problems.len() == before {
            LayoutState::Matches(path)
        } else {
            LayoutState::Wrong(path)
        };
    }

    fn compare(&mut self, set: &RawSet, old: &Layout, made: &Layout) {
        let help = "the headers are not those that the layout was made from; \
                    if they are right, write it anew with --write-layout";
        let mut missing = Vec::new();
        for rule in &set.structs {
            // Structs and fields that the headers lack have been reported.
            let Some(new) = made.structs.get(&rule.name) else {
                continue;
            };
            let Some(old) = old.structs.get(&rule.name) else {
                missing.push(rule);
                continue;
            };
            let whole = |s: &StructLayout| (s.size, s.align, s.tail, s.embeds.clone());
            if whole(old) != whole(new) {
                let message = format!(
                    "struct {} has size {} and alignment {} in the headers; the layout says {} \
                     and {}, or another tail or other embedded structs",
                    rule.name, new.size, new.align, old.size, old.align
                );
                self.problem(&rule.origin, message, Some(help.into()));
            }
            for field in &rule.fields {
                let Some(place) = new.fields.get(&field.path) else {
                    continue;
                };
                let was = old.fields.get(&field.path);
                if was != Some(place) {
                    let was = was.map_or("nothing".into(), |(o, s)| format!("[{o}, {s}]"));
                    let message = format!(
                        "field `{}` of struct {} is at [{}, {}] in the headers; the layout says \
                         {was}",
                        field.path, rule.name, place.0, place.1
                    );
                    self.problem(&field.origin, message, Some(help.into()));
                }
            }
        }
        if let Some(first) = missing.first() {
            let names: Vec<&str> = missing.iter().map(|s| s.name.as_str()).collect();
            let message = format!("the layout has no struct {}", names.join(", "));
            self.problem(&first.origin, message, Some(help.into()));
        }
    }
}

fn similar_field(ty: Type<'_>, path: &str) -> Option<String> {
    let names = fields::names(ty);
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(near) = closest(path, &known) {
        return Some(format!("did you mean `{near}`?"));
    }
    Some(format!("its fields: {}", names.join(", ")))
}

fn range_fits(range: &Range, parameters: &[Type<'_>]) -> Result<(), String> {
    let get = |i: u32| {
        let parameter = parameters.get(i as usize);
        parameter.ok_or_else(|| format!("it has no argument {i}"))
    };
    if !get(range.arg)?.is_pointer() {
        return Err(format!("argument {} is not a pointer", range.arg));
    }
    let integer = |i: u32| match get(i)?.is_integer() {
        true => Ok(()),
        false => Err(format!(
            "argument {i} is not an integer, so it is no length"
        )),
    };
    match range.len {
        Len::Arg(a) | Len::Scaled(a, _) | Len::CString(Some(a)) => integer(a),
        Len::Product(a, b) => integer(a).and_then(|()| integer(b)),
        Len::Const(_) | Len::CString(None) => Ok(()),
    }
}
