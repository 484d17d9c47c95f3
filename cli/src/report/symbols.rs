//! From code addresses of the traced process to source lines.
//!
//! An address is first resolved against the mappings known when its record was written (a library
//! may be unloaded and another one take its place), to a file and an offset in it. Names and lines
//! are looked up once per such place.

use super::trace::HostSite;
use addr2line::Loader;
use object::{Object, ObjectSegment};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// A place in a file that was mapped as code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The runtime did not know the address.
    Unknown,
    /// In no mapping that the trace names.
    Unmapped(u64),
    /// Offset in the file of module number `module`.
    InFile { module: usize, offset: u64 },
    /// In the program that an interpreter runs: a number of the trace.
    Host(u32),
}

/// What a reader is told about a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Site {
    /// Source file as the debug information names it; absent without debug information.
    pub file: Option<String>,
    pub line: Option<u32>,
    /// Function (with an offset when there is no line), or module and offset, or the bare address.
    pub function: String,
    /// The functions that this one was inlined into, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inlined_into: Vec<String>,
    /// Where execution was in code that this place, the interpreted program's own, had called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// File name of the module.
    pub module: Option<String>,
    /// The source line, when the file can be read.
    pub source: Option<String>,
}

impl Site {
    /// `bank.c:12`, or the best there is.
    pub fn label(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.clone(),
            _ => self.function.clone(),
        }
    }

    /// Notes the code that the interpreter executed there.
    pub fn within(&mut self, code: Site) {
        let place = match (&code.file, code.line) {
            (Some(file), Some(line)) => within(file, line, &code.function),
            _ => code.function,
        };
        self.within = Some(match self.within.take() {
            Some(library) => format!("{library}, {place}"),
            None => place,
        });
    }
}

/// `random.py:250 in randrange`: a place in a library, the folder of which says nothing new.
fn within(file: &str, line: u32, function: &str) -> String {
    let file = Path::new(file);
    let name = file.file_name().unwrap_or(file.as_os_str());
    format!("{}:{line} in {function}", name.to_string_lossy())
}

/// Executable mappings of the traced process at the current point of the trace.
#[derive(Debug, Default)]
pub struct Mappings {
    modules: Vec<String>,
    /// By start address: end, offset in the file of the start, module.
    ranges: BTreeMap<u64, (u64, u64, usize)>,
    /// Places of an interpreted program, by number.
    pub host: HashMap<u32, HostSite>,
}

impl Mappings {
    /// A new mapping replaces what it overlaps.
    pub fn map(&mut self, start: u64, end: u64, file_offset: u64, path: &str) {
        self.unmap(start, end);
        let module = match self.modules.iter().position(|known| known == path) {
            Some(module) => module,
            None => {
                self.modules.push(path.to_string());
                self.modules.len() - 1
            }
        };
        self.ranges.insert(start, (end, file_offset, module));
    }

    fn unmap(&mut self, start: u64, end: u64) {
        let overlapping: Vec<u64> = self
            .ranges
            .range(..end)
            .filter(|(_, (other_end, ..))| *other_end > start)
            .map(|(other_start, _)| *other_start)
            .collect();
        for other_start in overlapping {
            if let Some((other_end, offset, module)) = self.ranges.remove(&other_start) {
                if other_start < start {
                    self.ranges.insert(other_start, (start, offset, module));
                }
                if other_end > end {
                    self.ranges
                        .insert(end, (other_end, offset + (end - other_start), module));
                }
            }
        }
    }

    /// The place in the interpreted program, or else that of the code.
    pub fn place_of(&self, pc: u64, site: u32) -> Place {
        match self.host.contains_key(&site) {
            true => Place::Host(site),
            false => self.place(pc),
        }
    }

    /// The place of the instruction that a return address belongs to: the call before it, which may
    /// be on another line than what follows.
    pub fn place(&self, pc: u64) -> Place {
        let Some(call) = pc.checked_sub(1) else {
            return Place::Unknown;
        };
        match self.ranges.range(..=call).next_back() {
            Some((&start, &(end, offset, module))) if call < end => Place::InFile {
                module,
                offset: (call - start).wrapping_add(offset),
            },
            _ => Place::Unmapped(pc),
        }
    }
}

/// Looks places up, each module opened once.
pub struct Symbols<'a> {
    mappings: &'a Mappings,
    modules: HashMap<usize, Option<Module>>,
    sites: HashMap<Place, Site>,
    sources: HashMap<PathBuf, Option<Vec<String>>>,
    /// Prefix that is left out of source paths: the current folder.
    here: Option<PathBuf>,
    /// Modules that could not be read, with the reason.
    pub problems: Vec<String>,
}

struct Module {
    loader: Loader,
    /// Loadable segments: offset in the file, its length, address.
    segments: Vec<(u64, u64, u64)>,
    /// There is debug information; else symbols give names.
    has_lines: bool,
}

impl<'a> Symbols<'a> {
    pub fn new(mappings: &'a Mappings) -> Self {
        Symbols {
            mappings,
            modules: HashMap::new(),
            sites: HashMap::new(),
            sources: HashMap::new(),
            here: std::env::current_dir().ok(),
            problems: Vec::new(),
        }
    }

    pub fn site(&mut self, place: Place) -> Site {
        if let Some(site) = self.sites.get(&place) {
            return site.clone();
        }
        let site = match place {
            Place::Unknown => Site {
                function: "(unknown)".into(),
                ..Site::default()
            },
            Place::Unmapped(pc) => Site {
                function: format!("{pc:#x}"),
                ..Site::default()
            },
            Place::InFile { module, offset } => self.look_up(module, offset),
            Place::Host(number) => self.host_site(number),
        };
        self.sites.insert(place, site.clone());
        site
    }

    fn host_site(&mut self, number: u32) -> Site {
        let host = &self.mappings.host;
        let Some(inner) = host.get(&number) else {
            return Site::default();
        };
        let own = host.get(&inner.caller).unwrap_or(inner);
        let called = host.contains_key(&inner.caller);
        Site {
            file: Some(self.shortened(&own.file)),
            line: Some(own.line),
            function: own.function.clone(),
            within: called.then(|| within(&inner.file, inner.line, &inner.function)),
            source: self.source_line(Path::new(&own.file), own.line),
            ..Site::default()
        }
    }

    fn look_up(&mut self, number: usize, offset: u64) -> Site {
        let path = Path::new(&self.mappings.modules[number]).to_path_buf();
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let module = match self.modules.entry(number) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let opened = Module::open(&path);
                if let Err(problem) = &opened {
                    self.problems.push(format!("{}: {problem}", path.display()));
                }
                entry.insert(opened.ok())
            }
        };
        let mut site = Site {
            function: format!("{name}+{offset:#x}"),
            module: Some(name),
            ..Site::default()
        };
        if let Some(module) = module {
            module.describe(offset, &mut site);
        }
        if let (Some(file), Some(line)) = (&site.file, site.line) {
            site.source = self.source_line(Path::new(file), line);
            site.file = Some(self.shortened(file));
        }
        site
    }

    fn source_line(&mut self, file: &Path, line: u32) -> Option<String> {
        let lines = self.sources.entry(file.to_path_buf()).or_insert_with(|| {
            let text = std::fs::read(file).ok()?;
            Some(
                String::from_utf8_lossy(&text)
                    .lines()
                    .map(|line| line.trim().into())
                    .collect(),
            )
        });
        lines
            .as_ref()?
            .get((line as usize).checked_sub(1)?)
            .cloned()
    }

    fn shortened(&self, file: &str) -> String {
        let path = Path::new(file);
        let short = self
            .here
            .as_deref()
            .and_then(|here| path.strip_prefix(here).ok());
        let short = short.unwrap_or(path);
        short
            .strip_prefix(".")
            .unwrap_or(short)
            .to_string_lossy()
            .into_owned()
    }
}

impl Module {
    fn open(path: &Path) -> Result<Module, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let file = object::File::parse(&*bytes).map_err(|error| error.to_string())?;
        let segments = file
            .segments()
            .map(|segment| {
                let (offset, size) = segment.file_range();
                (offset, size, segment.address())
            })
            .collect();
        let has_lines = file.section_by_name(".debug_line").is_some();
        let loader = Loader::new(path).map_err(|error| error.to_string())?;
        Ok(Module {
            loader,
            segments,
            has_lines,
        })
    }

    fn describe(&self, offset: u64, site: &mut Site) {
        let Some(address) = self.segments.iter().find_map(|&(start, size, address)| {
            (offset >= start && offset - start < size)
                .then(|| (offset - start).wrapping_add(address))
        }) else {
            return;
        };
        if let Some(symbol) = self.loader.find_symbol_info(address) {
            let name = addr2line::demangle_auto(symbol.name().into(), None);
            // The place is the call's last byte: count from the instruction after it, as
            // debuggers and backtraces do.
            site.function = format!(
                "{name}+{:#x}",
                address.wrapping_add(1).wrapping_sub(symbol.address())
            );
        }
        if !self.has_lines {
            return;
        }
        let Ok(mut frames) = self.loader.find_frames(address) else {
            return;
        };
        let mut functions = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            if functions.is_empty() {
                let location = frame.location.as_ref();
                site.file = location
                    .and_then(|location| location.file)
                    .map(str::to_string);
                // Line 0 is code that no line stands for.
                site.line = location
                    .and_then(|location| location.line)
                    .filter(|&line| line != 0);
            }
            let name = frame
                .function
                .as_ref()
                .and_then(|function| function.demangle().ok());
            functions.extend(name.map(|name| name.into_owned()));
        }
        let mut functions = functions.into_iter();
        if let Some(innermost) = functions.next() {
            site.function = innermost;
            site.inlined_into = functions.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_replace_what_they_overlap() {
        let mut mappings = Mappings::default();
        mappings.map(0x1000, 0x5000, 0, "a");
        mappings.map(0x2000, 0x3000, 0x400, "b");
        let place = |pc: u64| mappings.place(pc + 1);
        assert_eq!(
            place(0x1010),
            Place::InFile {
                module: 0,
                offset: 0x10
            }
        );
        assert_eq!(
            place(0x2010),
            Place::InFile {
                module: 1,
                offset: 0x410
            }
        );
        assert_eq!(
            place(0x3010),
            Place::InFile {
                module: 0,
                offset: 0x2010
            }
        );
        assert_eq!(place(0x5000), Place::Unmapped(0x5001));
        assert_eq!(mappings.place(0), Place::Unknown);
        assert_eq!(
            mappings.place(0x2000),
            Place::InFile {
                module: 0,
                offset: 0xfff
            }
        );
    }

    #[test]
    fn labels_say_the_best_there_is() {
        let mut site = Site {
            function: "f".into(),
            ..Site::default()
        };
        assert_eq!(site.label(), "f");
        site.file = Some("a.c".into());
        assert_eq!(site.label(), "a.c");
        site.line = Some(3);
        assert_eq!(site.label(), "a.c:3");
    }
}
