//! Statistics, remarks and warnings of one module.

use crate::ffi::{Module, Value};
use crate::instrument::plan::{Mode, Skip};
use crate::options::Options;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Collects what the pass did; written when the module is done.
pub struct Report {
    module: String,
    want_remarks: bool,
    warn: bool,
    counts: BTreeMap<&'static str, u64>,
    skips: [u64; Skip::ALL.len()],
    barriers: [u64; 4],
    ranges: [u64; 4],
    remarks: Vec<String>,
    failed: bool,
}

impl Report {
    pub fn new(module: Module, options: &Options) -> Report {
        Report {
            module: String::from_utf8_lossy(module.name()).into_owned(),
            want_remarks: options.remarks.is_some(),
            warn: options.warn,
            counts: BTreeMap::new(),
            skips: [0; Skip::ALL.len()],
            barriers: [0; 4],
            ranges: [0; 4],
            remarks: Vec::new(),
            failed: false,
        }
    }

    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub fn add(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }

    /// An access gets a barrier (which an optimisation may still drop).
    pub fn barrier(&mut self, function: Value, at: Value, mode: Mode) {
        self.barriers[mode as usize] += 1;
        if self.want_remarks {
            self.remark(
                function,
                at,
                access_word(mode),
                "barrier",
                mode_sentence(mode),
            );
        }
    }

    pub fn range(&mut self, function: Value, at: Value, mode: Mode) {
        self.ranges[mode as usize] += 1;
        if self.want_remarks {
            self.remark(
                function,
                at,
                access_word(mode),
                "range_barrier",
                mode_sentence(mode),
            );
        }
    }

    /// An access gets no barrier of its own.
    pub fn skip(&mut self, function: Value, at: Value, access: &str, reason: Skip) {
        self.skips[reason as usize] += 1;
        if self.want_remarks && reason != Skip::Stack {
            self.remark(function, at, access, reason.word(), reason.sentence());
        }
    }

    /// Something is done in a slow but right way.
    pub fn unsupported(&mut self, function: Value, at: Value, what: &str) {
        self.count("unsupported");
        if self.want_remarks {
            self.remark(function, at, "call", "unsupported", what);
        }
        if self.warn {
            function.diagnose(Some(at), &format!("ame: {what}"), false);
        }
    }

    /// The module cannot be compiled.
    pub fn error(&mut self, function: Value, at: Value, what: &str) {
        self.failed = true;
        function.diagnose(Some(at), &format!("ame: {what}"), true);
    }

    /// The tag phase found the rule of an access.
    pub fn rule(&mut self, function: Value, at: Value, access: &str, rule: &str, detail: &str) {
        if self.want_remarks {
            self.remark(function, at, access, rule, detail);
        }
    }

    pub fn wants_remarks(&self) -> bool {
        self.want_remarks
    }

    /// About a global variable, which has no line.
    pub fn about_variable(&mut self, variable: Value, rule: &str, detail: &str) {
        if self.want_remarks {
            let remark = json!({
                "module": self.module, "function": "", "variable": variable.name(), "file": self.module,
                "line": 0, "access": "variable", "rule": rule, "detail": detail,
            });
            self.remarks.push(remark.to_string());
        }
    }

    fn remark(&mut self, function: Value, at: Value, access: &str, rule: &str, detail: &str) {
        let (file, line) = at.location().unwrap_or_default();
        let remark = json!({
            "module": self.module, "function": function.name(), "file": file, "line": line,
            "access": access, "rule": rule, "detail": detail,
        });
        self.remarks.push(remark.to_string());
    }

    /// Appends to the files that the options name. Compilers run in parallel: each module is one
    /// write to a file opened for appending.
    pub fn write(self, phase: &str, options: &Options) -> Result<(), String> {
        if let Some(path) = &options.remarks {
            append(path, "AME_PASS_REMARKS", &self.remarks)?;
        }
        if let Some(path) = &options.stats {
            append(path, "AME_PASS_STATS", &[self.statistics(phase)])?;
        }
        Ok(())
    }

    fn statistics(&self, phase: &str) -> String {
        let modes = ["read", "write", "immutable", "private"];
        let by_mode = |n: &[u64; 4]| -> serde_json::Map<_, _> {
            modes
                .iter()
                .zip(n)
                .map(|(m, n)| (m.to_string(), json!(n)))
                .collect()
        };
        let skipped: serde_json::Map<_, _> = Skip::ALL
            .iter()
            .map(|s| (s.word().to_owned(), json!(self.skips[*s as usize])))
            .collect();
        json!({
            "module": self.module, "phase": phase, "chosen": by_mode(&self.barriers),
            "ranges": by_mode(&self.ranges), "skipped": skipped, "counts": self.counts,
        })
        .to_string()
    }
}

fn access_word(mode: Mode) -> &'static str {
    if mode == Mode::Read {
        "read"
    } else {
        "write"
    }
}

fn mode_sentence(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => "read barrier",
        Mode::Write => "write barrier",
        Mode::Immutable => "write to an immutable field: exclusive unless fresh",
        Mode::Private => "write to private memory: undo without lock",
    }
}

fn append(path: &Path, option: &str, lines: &[String]) -> Result<(), String> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut f| f.write_all(text.as_bytes()))
        .map_err(|e| format!("{option}: cannot write {}: {e}", path.display()))
}
