//! `ame report` on traces written here, with code addresses of a real program.

use crate::trace::{fields, Conflict, Trace};
use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

const SOURCE: &str = "\
struct account { long balance; };
struct account accounts[8];
long total;

static inline __attribute__((always_inline)) void add(long *to, long amount) {
    *to += amount;
}

void transfer(int from, int to, long amount) {
    accounts[from].balance -= amount;
    add(&accounts[to].balance, amount);
}

long audit(void) {
    long sum = 0;
    for (int i = 0; i < 8; i++)
        sum += accounts[i].balance;
    return sum;
}

int main(void) { transfer(0, 1, 5); return audit() != 0; }
";

/// Where the traced process had its program mapped.
const BASE: u64 = 0x5555_0000_0000;

/// A compiled program in a folder of its own.
struct Program {
    dir: tempfile::TempDir,
}

impl Program {
    fn new(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bank.c"), SOURCE).unwrap();
        let status = Process::new("clang-19")
            .args([
                "-O1",
                "-fno-inline-functions",
                "-fdebug-compilation-dir=.",
                "bank.c",
                "-o",
                "bank",
            ])
            .args(flags)
            .current_dir(dir.path())
            .status()
            .expect("clang-19 runs");
        assert!(status.success());
        Program { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A return address in the traced process, on the given line of the source: just after an
    /// instruction of that line.
    fn pc(&self, line: u32) -> u64 {
        let loader = addr2line::Loader::new(self.path().join("bank")).unwrap();
        let (start, end) = (self.symbol("transfer"), self.symbol("main"));
        let address = (start..end)
            .find(|&address| {
                let location = loader.find_location(address).unwrap();
                location.and_then(|location| location.line) == Some(line)
            })
            .unwrap_or_else(|| panic!("no code on line {line}"));
        BASE + address + 1
    }

    /// Address of a function in the file.
    fn symbol(&self, name: &str) -> u64 {
        let output = Process::new("llvm-nm-19")
            .arg(self.path().join("bank"))
            .output()
            .expect("nm runs");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")))
            .unwrap();
        u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
    }

    /// Names every loadable segment of the program as a module, as the runtime does.
    fn modules(&self, trace: &mut Trace) {
        use object::{Object, ObjectSegment};
        let path = self.path().join("bank");
        let bytes = std::fs::read(&path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        for segment in file.segments() {
            let (offset, size) = segment.file_range();
            if size == 0 {
                continue;
            }
            let start = BASE + segment.address();
            trace.module(start, start + size, offset, path.to_str().unwrap());
        }
    }
}

/// Two threads that move money while a third adds it up, 100 ms in all.
fn sample(program: &Program) -> Trace {
    const MS: u64 = 1_000_000;
    let (transfer, inlined, audit) = (program.pc(10), program.pc(6), program.pc(17));
    let mut trace = Trace::new();
    trace.process(4711, "./bank 8 --threads 3");
    program.modules(&mut trace);
    trace.module(0x7000_0000, 0x7001_0000, 0, "/nonexistent/libgone.so");
    for step in 0..50u64 {
        trace.conflict(Conflict {
            time: step * 2 * MS,
            threads: (3, 1 + (step % 2) as u16),
            access: (step % 5 == 0) as u8 * 2,
            outcome: (step % 3) as u8,
            pcs: (audit, if step % 10 < 7 { transfer } else { inlined }),
            address: 0x6000_0000 + step % 4 * 16,
            lost_ns: 200_000 + step,
        });
    }
    trace
        .conflict(Conflict {
            time: 60 * MS,
            threads: (1, 2),
            access: 1,
            outcome: 1,
            pcs: (transfer, 0),
            address: 0x6000_0000,
            lost_ns: 77_000,
        })
        .conflict(Conflict {
            time: 61 * MS,
            threads: (2, 3),
            access: 3,
            outcome: 0,
            pcs: (0x7000_1235, 0x1234),
            address: 0,
            lost_ns: 3 * MS,
        })
        .abort(40 * MS, 3, 0, audit, 4 * MS)
        .abort(41 * MS, 3, 0, audit, 3 * MS)
        .abort(42 * MS, 1, 2, transfer, 900)
        .irrevocable(50 * MS, 2, transfer, 0)
        .irrevocable(51 * MS, 2, transfer, 0)
        .irrevocable(52 * MS, 3, audit, 1)
        .record(250, fields().bytes(b"from the future"));
    for step in 0..10u64 {
        trace
            .slice(
                step * 10 * MS,
                10 * MS,
                1,
                [100, 1, 8 * MS, MS, step * 100_000],
            )
            .slice(step * 10 * MS, 10 * MS, 2, [step, 0, step * MS, 0, 0])
            .slice(step * 10 * MS, 10 * MS, 3, [10, 7, 2 * MS, 6 * MS, 2 * MS]);
    }
    trace
        .thread_end(100 * MS, 1, [1_000, 10, 80 * MS, 10 * MS, 4_500_000])
        .thread_end(100 * MS, 3, [100, 70, 20 * MS, 60 * MS, 20 * MS]);
    trace
}

fn write(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("bank.trace");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn ame(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ame"));
    command.current_dir(dir).arg("report").arg("bank.trace");
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// Offsets of code depend on the compiler's patch release.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\+0x[0-9a-f]+", "+0x[offset]");
    settings.add_filter(r"/\S*/bank\b", "[dir]/bank");
    settings.set_prepend_module_to_snapshot(false);
    settings
}

#[test]
fn text() {
    let program = Program::new(&["-g"]);
    write(program.path(), &sample(&program).bytes);
    let text = stdout(&mut ame(program.path()));
    settings().bind(|| insta::assert_snapshot!("text", text));
}

#[test]
fn top_limits_each_list() {
    let program = Program::new(&["-g"]);
    write(program.path(), &sample(&program).bytes);
    let text = stdout(ame(program.path()).args(["--top", "1"]));
    assert!(text.contains("  1. "), "{text}");
    assert!(!text.contains("  2. "), "{text}");
    assert!(text.contains("more (--top "), "{text}");
}

#[test]
fn json() {
    let program = Program::new(&["-g"]);
    write(program.path(), &sample(&program).bytes);
    let text = stdout(ame(program.path()).arg("--json"));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["totals"]["conflicts"], 52);
    assert_eq!(value["totals"]["commits"], 1_000 + 45 + 100);
    assert_eq!(value["threads"].as_array().unwrap().len(), 3);
    let mut short = value.clone();
    for thread in short["threads"].as_array_mut().unwrap() {
        thread["slices"].as_array_mut().unwrap().truncate(1);
    }
    let short = serde_json::to_string_pretty(&short).unwrap();
    settings().bind(|| insta::assert_snapshot!("json", short));
}

#[test]
fn domains() {
    let dir = tempfile::tempdir().unwrap();
    let mut trace = Trace::new();
    trace
        .process(4711, "python3 app.py")
        .domain("lru", [10, 0, 0, 0, 0, 0, 0, 0, 0])
        .domain("a<b", [5000, 7, 1_500_000, 3, 60_000, 21, 1, 4, 3])
        .serialised(20, ["a<b", "get_item", "PyObject_Call"])
        .serialised(1, ["a<b", "set_item", "a call by pointer"])
        .serialised(1, ["not there", "f", "g"]);
    write(dir.path(), &trace.bytes);
    let text = stdout(&mut ame(dir.path()));
    settings().bind(|| insta::assert_snapshot!("domains", text));
    let page = dir.path().join("page.html");
    stdout(ame(dir.path()).arg("--html").arg(&page));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<li>a&lt;b<br>held 5,000 times, 7 after waiting"));
    assert!(page.contains("<br>20 times get_item: PyObject_Call"));
}

#[test]
fn html_is_one_page_without_outside_resources() {
    let program = Program::new(&["-g"]);
    let mut trace = sample(&program);
    trace.process(1, "./<b>&\"bank\"");
    write(program.path(), &trace.bytes);
    ame(program.path())
        .args(["--html", "out.html"])
        .assert()
        .success()
        .stdout("");
    let html = std::fs::read_to_string(program.path().join("out.html")).unwrap();
    for outside in [
        "http:", "https:", "src=", "href=", "<script", "@import", "url(",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("./&lt;b&gt;&amp;&quot;bank&quot;"));
    assert!(html.contains("bank.c:17 in audit"), "{html}");
    assert_eq!(html.matches("<svg").count(), 1);
    settings().bind(|| insta::assert_snapshot!("html", html));
}

/// A Python program whose two threads count in one dict, draw from one generator, and print.
fn interpreted(dir: &Path) -> Trace {
    const MS: u64 = 1_000_000;
    let source = "import random\n\ndef count(n):\n    counts['n'] += 1\n    draw()\n    print(n)\n";
    std::fs::write(dir.join("app.py"), source).unwrap();
    let app = dir.join("app.py");
    let app = app.to_str().unwrap();
    let mut trace = Trace::new();
    trace
        .process(4711, "python3.13 app.py")
        .module(0x1000, 0x2000, 0, "/nonexistent/python3.13")
        .site(1, (app, 4, "count"), 0)
        .site(2, (app, 5, "draw"), 0)
        .site(3, ("/lib/python3.13/random.py", 250, "Random.randrange"), 2)
        .site(4, (app, 6, "count"), 0)
        .object(
            1,
            ["dict", "key 'n' of counts", "count in a <local> variable"],
        )
        .object(2, ["Random", "state of the generator", ""])
        .object(3, ["lock", "acquired", "use atomic blocks"])
        .object(
            4,
            ["dict", "key 'm' of counts", "count in a <local> variable"],
        );
    let mut met = |time: u64, access: u8, lost_ns: u64, numbers: [u32; 3]| {
        let start = trace.bytes.len();
        let conflict = Conflict {
            time: time * MS,
            threads: (1, 2),
            access,
            outcome: u8::from(time % 2 == 0),
            pcs: (0x1010 + time, 0x1020),
            address: 0x6000_0000,
            lost_ns,
        };
        trace.conflict(conflict).with(start, &numbers);
    };
    for time in 0..20 {
        met(time, (time % 3) as u8, MS, [1, 1, 1]);
        met(time, 0, MS / 10, [3, 3, 2]);
        // Waits at different lines for who has the lock.
        met(time, 3, MS / 5, [1 + time as u32 % 2, 4, 3]);
    }
    met(90, 0, 2_000, [0, 1, 0]);
    met(91, 0, MS / 2, [1, 1, 4]);
    let start = trace.bytes.len();
    trace
        .abort(40 * MS, 2, 0, 0x1030, 7 * MS)
        .with(start, &[1, 1, 1, 1]);
    let start = trace.bytes.len();
    trace
        .irrevocable(50 * MS, 1, 0x1040, 0)
        .with(start, &[4, 3]);
    trace
        .thread_end(100 * MS, 1, [90, 0, 60 * MS, 0, 30 * MS])
        .thread_end(100 * MS, 2, [90, 1, 80 * MS, 7 * MS, 5 * MS]);
    trace
}

#[test]
fn an_interpreted_program_is_reported_in_its_own_terms() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &interpreted(dir.path()).bytes);
    let text = stdout(&mut ame(dir.path()));
    settings().bind(|| insta::assert_snapshot!("interpreted", text));
}

#[test]
fn the_page_gives_the_short_answer_first() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &interpreted(dir.path()).bytes);
    ame(dir.path())
        .args(["--html", "out.html"])
        .assert()
        .success();
    let html = std::fs::read_to_string(dir.path().join("out.html")).unwrap();
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text}: {html}"));
    assert!(at("dict, key 'n' of counts") < at("app.py:4 in count"));
    assert!(at("app.py:4 in count") < at("count in a &lt;local&gt; variable"));
    assert!(at("count in a &lt;local&gt; variable") < at("class=\"tiles\""));
    assert!(at("class=\"tiles\"") < at("app.py:5 in draw (in random.py:250 in Random.randrange)"));
}

#[test]
fn without_debug_information_symbols_and_offsets_are_shown() {
    let with_lines = Program::new(&["-g"]);
    let mut trace = sample(&with_lines);
    // The same code without lines, under the same mapping; later mappings win.
    let program = Program::new(&[]);
    let mut plain = Trace::new();
    plain.process(4711, "./bank");
    program.modules(&mut plain);
    plain.bytes.extend(conflict_records(&mut trace));
    write(program.path(), &plain.bytes);
    let text = stdout(&mut ame(program.path()));
    assert!(text.contains("audit+0x"), "{text}");
    assert!(text.contains("in bank"), "{text}");
    assert!(text.contains("compile with -g"), "{text}");

    let stripped = Program::new(&["-s"]);
    let mut plain = Trace::new();
    stripped.modules(&mut plain);
    plain.bytes.extend(conflict_records(&mut trace));
    write(stripped.path(), &plain.bytes);
    let text = stdout(&mut ame(stripped.path()));
    assert!(text.contains("bank+0x"), "{text}");
    assert!(text.contains("unknown process"), "{text}");
}

/// The conflicts of a trace, without its header and modules.
fn conflict_records(trace: &mut Trace) -> Vec<u8> {
    let mut rest = &trace.bytes[8..];
    let mut conflicts = Vec::new();
    while let [kind, _, low, high, ..] = *rest {
        let length = 4 + usize::from(u16::from_le_bytes([low, high]));
        if kind == ame_abi::trace::kind::CONFLICT {
            conflicts.extend(&rest[..length]);
        }
        rest = &rest[length..];
    }
    conflicts
}

#[test]
fn a_killed_process_leaves_a_trace_that_is_read_as_far_as_it_goes() {
    let program = Program::new(&["-g"]);
    let whole = sample(&program).bytes;
    let cut = whole.len() - 60;
    write(program.path(), &whole[..cut]);
    let text = stdout(&mut ame(program.path()));
    assert!(
        text.contains("The trace was cut off: its last record, at offset "),
        "{text}"
    );
    assert!(text.contains("52 conflicts recorded"), "{text}");
    assert!(text.contains("(no totals: sum of its slices)"), "{text}");
}

#[test]
fn every_cut_of_a_trace_is_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut trace = Trace::new();
    trace
        .process(1, "prog")
        .module(1, 2, 0, "/x")
        .abort(1, 1, 0, 5, 6)
        .slice(0, 10, 1, [1, 2, 3, 4, 5]);
    for length in (8..=trace.bytes.len()).step_by(7) {
        write(dir.path(), &trace.bytes[..length]);
        stdout(&mut ame(dir.path()));
    }
}

#[test]
fn corruption_ends_with_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let mut trace = Trace::new();
    trace.process(1, "prog");
    let offset = trace.bytes.len();
    trace.bytes.extend([0xff; 3]);
    trace.bytes.extend([0; 100]);
    write(dir.path(), &trace.bytes);
    ame(dir.path())
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicates::str::contains(format!(
            "corrupt at offset {offset}"
        )));
    write(dir.path(), b"\x7fELF no trace at all");
    ame(dir.path())
        .assert()
        .code(1)
        .stderr(predicates::str::contains(
            "cannot read bank.trace: not a trace of Ame",
        ));
    std::fs::remove_file(dir.path().join("bank.trace")).unwrap();
    ame(dir.path())
        .assert()
        .code(1)
        .stderr(predicates::str::contains("AME_LOG=bank.trace"));
}

#[test]
fn an_empty_trace_is_a_quiet_program() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &Trace::new().process(7, "./quiet").bytes);
    let text = stdout(&mut ame(dir.path()));
    settings().bind(|| insta::assert_snapshot!("empty", text));
}
