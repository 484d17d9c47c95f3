//! Compiles the C++ shim against LLVM 19. Every other decision of the pass is made in Rust.

use std::path::{Path, PathBuf};
use std::process::Command;

const PREFIX_VARIABLE: &str = "LLVM_SYS_191_PREFIX";
const MAJOR: &str = "19";

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cpp");
    println!("cargo:rerun-if-changed=src/debug.cpp");
    println!("cargo:rerun-if-env-changed={PREFIX_VARIABLE}");
    let config = llvm_config();
    let version = ask(&config, "--version");
    if !version.starts_with(&format!("{MAJOR}.")) {
        fail(&format!(
            "{} is of LLVM {version}, but the pass is written for LLVM {MAJOR}",
            config.display()
        ));
    }
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .file("src/shim.cpp")
        .file("src/debug.cpp")
        .flag("-fno-rtti")
        .flag("-fno-exceptions")
        // LLVM's own headers are not free of warnings.
        .flag(format!("-isystem{}", ask(&config, "--includedir")));
    for flag in ask(&config, "--cxxflags").split_whitespace() {
        if flag.starts_with("-D") {
            build.flag(flag);
        }
    }
    build.compile("ame_pass_shim");
}

fn llvm_config() -> PathBuf {
    match std::env::var_os(PREFIX_VARIABLE) {
        Some(prefix) => Path::new(&prefix).join("bin/llvm-config"),
        None => PathBuf::from(format!("llvm-config-{MAJOR}")),
    }
}

fn ask(config: &Path, question: &str) -> String {
    match Command::new(config).arg(question).output() {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        Ok(out) => fail(&format!(
            "`{} {question}` ended with {}",
            config.display(),
            out.status
        )),
        Err(error) => fail(&format!("cannot run `{}`: {error}", config.display())),
    }
}

fn fail(what: &str) -> ! {
    eprintln!(
        "ame-pass: {what}.\nInstall llvm-{MAJOR}-dev and set {PREFIX_VARIABLE} to its folder \
         (on Debian /usr/lib/llvm-{MAJOR})."
    );
    std::process::exit(1);
}
