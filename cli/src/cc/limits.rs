//! Flags of clang that instrumented code cannot live with, and what to say about each.

use anyhow::{bail, Result};
use std::collections::BTreeSet;

/// Collects the flags in their order, because the last of a pair (`-flto -fno-lto`) wins.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    sanitizers: BTreeSet<String>,
    lto: Option<String>,
    width: Option<String>,
    target: Option<String>,
    split_stack: bool,
    patchable: Option<String>,
    code_model: Option<String>,
}

impl Limits {
    pub fn flag(&mut self, word: &str) {
        let value = |name: &str| word.strip_prefix(name).map(str::to_string);
        if let Some(list) = value("-fsanitize=") {
            self.sanitizers.extend(list.split(',').map(str::to_string));
        } else if let Some(list) = value("-fno-sanitize=") {
            for name in list.split(',') {
                self.sanitizers.remove(name);
                if name == "all" {
                    self.sanitizers.clear();
                }
            }
        } else if let Some(triple) = value("--target=") {
            self.target = Some(triple);
        } else if let Some(model) = value("-mcmodel=") {
            self.code_model = Some(model);
        } else if word.starts_with("-fpatchable-function-entry=") {
            self.patchable = Some(word.to_string());
        } else {
            match word {
                "-m16" | "-m32" | "-mx32" => self.width = Some(word.to_string()),
                "-m64" => self.width = None,
                "-fno-lto" => self.lto = None,
                "-fsplit-stack" => self.split_stack = true,
                "-fno-split-stack" => self.split_stack = false,
                _ if word == "-flto" || word.starts_with("-flto=") => {
                    self.lto = Some(word.to_string());
                }
                _ => {}
            }
        }
    }

    pub fn target(&mut self, triple: &str) {
        self.target = Some(triple.to_string());
    }

    /// UBSan's group holds the function check, whose data would stand where ours does.
    pub fn needs_no_function_check(&self) -> bool {
        self.sanitizers.contains("undefined")
    }

    pub fn check(&self) -> Result<()> {
        if let Some(word) = &self.width {
            bail!(
                "{word} is not supported: transactions need 64-bit x86-64 code; drop {word}, or \
                 compile this file without transactions (-fno-ame)"
            );
        }
        if let Some(triple) = &self.target {
            let mut parts = triple.split('-');
            let x86_64 = matches!(parts.next(), Some("x86_64" | "amd64"));
            let linux =
                parts.any(|part| part == "linux" || part == "linux32") && !triple.ends_with("x32");
            if !x86_64 || !linux {
                bail!(
                    "target {triple} is not supported: only x86_64 Linux is; for other targets \
                     compile without transactions (-fno-ame)"
                );
            }
        }
        for name in &self.sanitizers {
            let clash = match name.as_str() {
                "kcfi" | "function" => "it puts its own data in front of each function",
                "safe-stack" | "shadow-call-stack" => {
                    "it keeps a second stack, which a rollback would not restore"
                }
                "address" | "kernel-address" | "hwaddress" | "kernel-hwaddress" | "thread"
                | "memory" | "leak" | "dataflow" | "memtag" | "memtag-heap" => {
                    "its shadow memory or its allocator would take the place of the runtime's"
                }
                _ if name == "cfi" || name.starts_with("cfi-") => {
                    "it needs link-time optimisation and redirects the calls that the pass checks"
                }
                _ => continue,
            };
            bail!(
                "-fsanitize={name} cannot be combined with transactions: {clash}; drop it, or \
                 compile without transactions (-fno-ame)"
            );
        }
        if let Some(word) = &self.lto {
            bail!(
                "{word} is not supported: the barriers are placed at the end of each file's \
                 optimisation, and link-time optimisation would move code across them; drop \
                 {word} (or add -fno-lto)"
            );
        }
        if self.split_stack {
            bail!(
                "-fsplit-stack is not supported: a rollback restores one contiguous stack; drop it"
            );
        }
        if let Some(word) = &self.patchable {
            let before = word.split_once(',').map(|(_, before)| before);
            if before.is_some_and(|before| before != "0") {
                bail!(
                    "{word} is not supported: space before the entry of a function is where the \
                     pass keeps its mark; use -fpatchable-function-entry=N"
                );
            }
        }
        if let Some(model @ ("kernel" | "large")) = self.code_model.as_deref() {
            bail!(
                "-mcmodel={model} is not supported: barriers reach thread-local data with the \
                 small and medium code models' addressing"
            );
        }
        Ok(())
    }
}
