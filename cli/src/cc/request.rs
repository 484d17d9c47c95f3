//! Reads the arguments of `ame cc`: our own flags, and as much of clang's as decides what happens.

use super::limits::Limits;
use super::response;
use anyhow::{bail, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// How far this run of clang goes; later stages include earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Prints something about the compiler, or has no input: nothing of ours belongs there.
    Query,
    /// Preprocesses, or only checks: the header is wanted, no code is made.
    Preprocess,
    /// Makes object files, assembly or bitcode.
    Compile,
    /// Makes a program or a shared library, perhaps compiling sources on the way.
    Link,
}

/// The flags that `ame cc` takes for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    pub annotations: Vec<OsString>,
    pub optimisations: Vec<OsString>,
    pub remarks: Option<OsString>,
    pub stats: Option<OsString>,
    /// Name of an extension's domain.
    pub domain: Option<OsString>,
    /// `-fno-ame`: plain clang.
    pub plain: bool,
    /// `-fame`: with the plugin, whatever is compiled.
    pub asked: bool,
    pub static_runtime: bool,
    pub ccache: bool,
    pub print_ccache_env: bool,
}

/// What the arguments ask for.
#[derive(Debug, Clone)]
pub struct Request {
    pub own: Own,
    /// The user's arguments without ours, in their order.
    pub forwarded: Vec<OsString>,
    pub stage: Stage,
    /// `-shared`: the output is a library.
    pub shared: bool,
    /// `-static`, `-static-pie`: no shared library can be linked.
    pub fully_static: bool,
    /// `-r`, `-nostdlib`, `-nodefaultlibs`: the user decides which libraries are linked.
    pub bare: bool,
    /// Flags that the instrumented code cannot live with, or needs something for.
    pub limits: Limits,
}

/// Options of clang whose value is the next argument. One that is missing here would make its value
/// look like an input file, which matters only when there is no other.
const WITH_VALUE: &[&str] = &[
    "-o",
    "-x",
    "-D",
    "-U",
    "-I",
    "-L",
    "-l",
    "-F",
    "-B",
    "-T",
    "-u",
    "-z",
    "-e",
    "-A",
    "-G",
    "-include",
    "-imacros",
    "-isystem",
    "-iquote",
    "-idirafter",
    "-iprefix",
    "-iwithprefix",
    "-iwithprefixbefore",
    "-isysroot",
    "-isystem-after",
    "-include-pch",
    "-ivfsoverlay",
    "-MF",
    "-MT",
    "-MQ",
    "-MJ",
    "-Xclang",
    "-Xlinker",
    "-Xassembler",
    "-Xpreprocessor",
    "-Xanalyzer",
    "-Xopenmp-target",
    "-Xoffload-linker",
    "-mthread-model",
    "-Xarch_host",
    "-mllvm",
    "-target",
    "-arch",
    "-framework",
    "--param",
    "-rpath",
    "-resource-dir",
    "-dumpdir",
    "-dumpbase",
    "-dumpbase-ext",
    "-working-directory",
    "-gcc-toolchain",
    "--sysroot",
    "--output",
    "--include",
    "--define-macro",
    "--undefine-macro",
    "--include-directory",
    "--language",
    "--config",
    "-fmodules-user-build-path",
    "-aux-info",
    "--library-directory",
    "-serialize-diagnostics",
    "--serialize-diagnostics",
    "-soname",
];

/// Options that print something and stop.
const QUERIES: &[&str] = &[
    "--version",
    "-dumpversion",
    "-dumpmachine",
    "--help",
    "-help",
    "--help-hidden",
    "-cc1",
    "-cc1as",
    "--driver-mode=cl",
];

impl Request {
    /// `read` gives the words of a response file.
    pub fn parse(
        args: &[OsString],
        read: &dyn Fn(&OsStr) -> Option<Vec<OsString>>,
    ) -> Result<Request> {
        let mut reader = Reader::new(read);
        for arg in args {
            reader.argument(arg)?;
        }
        reader.finish()
    }

    /// True when code is made and the plugin has to see it.
    pub fn instruments(&self) -> bool {
        self.stage >= Stage::Compile && !self.own.plain
    }

    pub fn links_runtime(&self) -> bool {
        self.stage == Stage::Link && !self.own.plain && !self.bare
    }

    /// Folders of `-I` and `-isystem`, but those in response files.
    pub fn include_folders(&self) -> impl Iterator<Item = &Path> {
        let separate = |word: &OsStr| word == "-I" || word == "-isystem";
        let mut before: Option<&OsString> = None;
        self.forwarded.iter().filter_map(move |word| {
            let value = before.is_some_and(|option| separate(option));
            before = Some(word);
            match word.as_bytes().strip_prefix(b"-I") {
                _ if value => Some(Path::new(word)),
                Some(folder) if !folder.is_empty() => Some(Path::new(OsStr::from_bytes(folder))),
                _ => None,
            }
        })
    }

    pub fn static_runtime(&self) -> bool {
        self.own.static_runtime || self.fully_static
    }
}

struct Reader<'a> {
    read: &'a dyn Fn(&OsStr) -> Option<Vec<OsString>>,
    request: Request,
    stop: Option<Stage>,
    query: bool,
    inputs: usize,
    /// Inputs that are headers: clang precompiles them and does not link.
    headers: usize,
    /// The next argument is the value of this option.
    pending: Option<String>,
    forced_language: Option<String>,
    /// Depth of response files.
    depth: usize,
    /// How many flags of ours were taken out.
    taken: usize,
}

impl<'a> Reader<'a> {
    fn new(read: &'a dyn Fn(&OsStr) -> Option<Vec<OsString>>) -> Self {
        Reader {
            read,
            request: Request {
                own: Own::default(),
                forwarded: Vec::new(),
                stage: Stage::Query,
                shared: false,
                fully_static: false,
                bare: false,
                limits: Limits::default(),
            },
            stop: None,
            query: false,
            inputs: 0,
            headers: 0,
            pending: None,
            forced_language: None,
            depth: 0,
            taken: 0,
        }
    }

    fn argument(&mut self, arg: &OsStr) -> Result<()> {
        if let Some(words) = response::path_of(arg).and_then(|path| (self.read)(path)) {
            return self.response_file(arg, &words);
        }
        if self.own_flag(arg)? {
            return Ok(());
        }
        self.request.forwarded.push(arg.to_os_string());
        self.observe(&arg.to_string_lossy());
        Ok(())
    }

    /// Looks into a response file and forwards it as it is, or word by word when a flag of ours is
    /// in it, which clang would not know.
    fn response_file(&mut self, arg: &OsStr, words: &[OsString]) -> Result<()> {
        // A file that names itself would never end; clang stops there, too.
        const DEEPEST: usize = 32;
        if self.depth == DEEPEST {
            bail!(
                "{}: response files are nested more than {DEEPEST} deep",
                arg.to_string_lossy()
            );
        }
        self.depth += 1;
        let start = self.request.forwarded.len();
        let taken = self.taken;
        for word in words {
            self.argument(word)?;
        }
        self.depth -= 1;
        if self.taken == taken {
            self.request.forwarded.truncate(start);
            self.request.forwarded.push(arg.to_os_string());
        }
        Ok(())
    }

    /// Takes a flag of ours out; false when it is not one.
    fn own_flag(&mut self, arg: &OsStr) -> Result<bool> {
        // The value of an option, as in `-o -fno-ame`, is never a flag.
        if self.pending.is_some() {
            return Ok(false);
        }
        let own = &mut self.request.own;
        let bytes = arg.as_bytes();
        let (name, value) = match bytes.iter().position(|&byte| byte == b'=') {
            Some(at) => (
                &bytes[..at],
                Some(OsString::from_vec(bytes[at + 1..].to_vec())),
            ),
            None => (bytes, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let takes_value = matches!(
            name.as_str(),
            "-fame-annotations" | "-fame-opt" | "-fame-remarks" | "-fame-stats" | "-fame-domain"
        );
        match (name.as_str(), value) {
            (_, Some(value)) if takes_value && !value.is_empty() => match name.as_str() {
                "-fame-annotations" => own.annotations.push(value),
                "-fame-opt" => own.optimisations.push(value),
                "-fame-remarks" => own.remarks = Some(value),
                "-fame-domain" => own.domain = Some(value),
                _ => own.stats = Some(value),
            },
            (_, _) if takes_value => bail!("{name} needs a value: {name}=..."),
            ("-fno-ame", None) => own.plain = true,
            ("-fame", None) => {
                own.plain = false;
                own.asked = true;
            }
            ("-fame-static", None) => own.static_runtime = true,
            ("-fame-ccache", None) => own.ccache = true,
            ("-fame-print-ccache-env", None) => own.print_ccache_env = true,
            _ if name.starts_with("-fame-") || name.starts_with("-fno-ame") => bail!(
                "unknown flag {}; ours are -fame-annotations=SET, -fame-opt=LIST, \
                 -fame-remarks=FILE, -fame-stats=FILE, -fame-domain=NAME, -fame-static, -fame-ccache, \
                 -fame-print-ccache-env, -fame and -fno-ame",
                arg.to_string_lossy()
            ),
            _ => return Ok(false),
        }
        self.taken += 1;
        Ok(true)
    }

    /// Notes what one forwarded word means for us.
    fn observe(&mut self, word: &str) {
        if let Some(option) = self.pending.take() {
            self.value(&option, word);
            return;
        }
        if !word.starts_with('-') || word == "-" {
            self.inputs += 1;
            self.headers += usize::from(self.is_header(word));
            return;
        }
        if QUERIES.contains(&word) || is_print_query(word) {
            self.query = true;
        }
        if WITH_VALUE.contains(&word) {
            self.pending = Some(word.to_string());
            return;
        }
        match word {
            "-E"
            | "--preprocess"
            | "-M"
            | "-MM"
            | "--dependencies"
            | "--user-dependencies"
            | "-fsyntax-only"
            | "--analyze"
            | "-verify-pch"
            | "-rewrite-objc" => {
                self.stop_at(Stage::Preprocess);
            }
            "-c"
            | "-S"
            | "--compile"
            | "--assemble"
            | "-emit-ast"
            | "--precompile"
            | "-emit-interface-stubs" => self.stop_at(Stage::Compile),
            "-shared" | "--shared" => self.request.shared = true,
            "-static" | "--static" | "-static-pie" => self.request.fully_static = true,
            "-r" | "-nostdlib" | "--no-standard-libraries" | "-nodefaultlibs" => {
                self.request.bare = true;
            }
            _ => {
                // Libraries and linker flags are inputs of the link; but a question to the linker
                // (meson asks -Wl,--version) stays one when nothing else is given.
                let asks = [
                    "-Wl,--version",
                    "-Wl,-version",
                    "-Wl,-v",
                    "-Wl,-V",
                    "-Wl,--help",
                ];
                if (word.starts_with("-l") || word.starts_with("-Wl,")) && !asks.contains(&word) {
                    self.inputs += 1;
                }
                if let Some(options) = word.strip_prefix("-Wl,") {
                    options
                        .split(',')
                        .for_each(|option| self.linker_option(option));
                }
                if let Some(language) = word
                    .strip_prefix("-x")
                    .or_else(|| word.strip_prefix("--language="))
                {
                    self.forced_language = Some(language.to_string());
                }
                self.request.limits.flag(word);
            }
        }
    }

    fn value(&mut self, option: &str, value: &str) {
        match option {
            "-x" | "--language" => self.forced_language = Some(value.to_string()),
            "-l" => self.inputs += 1,
            "-Xlinker" => {
                self.inputs += 1;
                self.linker_option(value);
            }
            "-target" => self.request.limits.target(value),
            _ => {}
        }
    }

    fn linker_option(&mut self, word: &str) {
        if matches!(word, "-r" | "--relocatable") {
            self.request.bare = true;
        }
    }

    /// The earliest stop wins: `-E -c` preprocesses.
    fn stop_at(&mut self, stage: Stage) {
        self.stop = Some(self.stop.map_or(stage, |stop| stop.min(stage)));
    }

    fn is_header(&self, input: &str) -> bool {
        match self.forced_language.as_deref() {
            None | Some("none") => [".h", ".hh", ".hpp", ".hxx", ".H", ".h++"]
                .iter()
                .any(|ending| input.ends_with(ending)),
            Some(language) => language.ends_with("-header"),
        }
    }

    fn finish(mut self) -> Result<Request> {
        self.request.stage = if self.query || self.inputs == 0 {
            Stage::Query
        } else if let Some(stop) = self.stop {
            stop
        } else if self.headers == self.inputs {
            Stage::Compile
        } else {
            Stage::Link
        };
        let request = self.request;
        if request.instruments() {
            request.limits.check()?;
        }
        if request.links_runtime() && request.shared && request.own.static_runtime {
            bail!(
                "-fame-static with -shared: a process must hold one copy of the runtime, and \
                 every such library would bring its own; link the library without -fame-static"
            );
        }
        Ok(request)
    }
}

/// `-print-search-dirs`, `--print-file-name=...` and so on; `-print-...` of the linker comes as -Wl.
fn is_print_query(word: &str) -> bool {
    let word = word.strip_prefix('-').unwrap_or(word);
    word.starts_with("-print-") || word.starts_with("-autocomplete=")
}
