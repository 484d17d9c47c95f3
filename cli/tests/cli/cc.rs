//! `ame cc` as a person or a simple script calls it.

use crate::stub::{self, Project};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

const HELLO: &str = r#"
#include <ame.h>
#include <stdio.h>
int main(void) {
    ame_begin();
    puts("hello");
    ame_commit();
    return 7;
}
"#;

fn hello() -> Project {
    Project::new(&[("hello.c", HELLO)])
}

#[test]
fn compiles_and_links_in_one_step() {
    let project = hello();
    project
        .cc("hello.c -o hello")
        .assert()
        .success()
        .stdout("")
        .stderr("");
    project
        .command("./hello")
        .assert()
        .code(7)
        .stdout("hello\n");
    project.assert_instrumented("hello");
    project.assert_has_runtime("hello");
}

#[test]
fn compiles_then_links() {
    let project = hello();
    project
        .cc("-Wall -Wextra -Werror -pedantic -c hello.c")
        .assert()
        .success()
        .stderr("");
    project.assert_instrumented("hello.o");
    project
        .cc("-Werror hello.o -o hello")
        .assert()
        .success()
        .stderr("");
    project.command("./hello").assert().code(7);
}

#[test]
fn other_names_of_the_command() {
    let project = hello();
    project
        .command("ame-cc")
        .args(["-c", "hello.c", "-o", "c.o"])
        .assert()
        .success();
    project.assert_instrumented("c.o");
    let cxx = "#include <ame.h>\n#include <string>\nint main() { return (int)std::string(\"ab\").size(); }";
    project.write("two.cpp", cxx);
    project
        .command("ame-cxx")
        .args(["two.cpp", "-o", "two"])
        .assert()
        .success();
    project.command("./two").assert().code(2);
    project
        .command("ame")
        .args(["c++", "two.cpp", "-o", "three"])
        .assert()
        .success();
    project.assert_instrumented("three");
    project.command("./three").assert().code(2);
}

#[test]
fn shared_libraries_have_the_runtime() {
    let project = Project::new(&[("lib.c", "int answer(void) { return 42; }")]);
    project
        .cc("-shared -fPIC lib.c -o libanswer.so")
        .assert()
        .success();
    project.assert_instrumented("libanswer.so");
    project.assert_has_runtime("libanswer.so");
}

#[test]
fn static_runtime_leaves_no_library_behind() {
    let project = hello();
    project
        .cc("-fame-static hello.c -o hello")
        .assert()
        .success()
        .stderr("");
    assert!(!project.dynamic("hello").contains("libame_rt"));
    project.command("./hello").assert().code(7);
    project.cc("-static hello.c -o hello2").assert().success();
    project.command("./hello2").assert().code(7);
}

#[test]
fn standard_input_preprocessor_and_assembly() {
    let project = hello();
    project
        .cc("-x c - -c -o in.o")
        .write_stdin("int x;")
        .assert()
        .success();
    project.assert_instrumented("in.o");
    project
        .cc("-x c - -o in")
        .write_stdin("int main(void) { return 3; }")
        .assert()
        .success();
    project.command("./in").assert().code(3);
    project
        .cc("-E hello.c")
        .assert()
        .success()
        .stdout(contains("ame_begin"));
    project
        .cc("-E -dM -x c /dev/null")
        .assert()
        .success()
        .stdout(contains("__clang__"));
    project
        .cc("-S hello.c -o -")
        .assert()
        .success()
        .stdout(contains("ame_stub_mark"));
    project.write(
        "empty.s",
        ".globl nothing\nnothing: ret\n.section .note.GNU-stack,\"\",@progbits\n",
    );
    project.write(
        "empty.S",
        "#define NAME something\n.globl NAME\nNAME: ret\n.section .note.GNU-stack,\"\",@progbits\n",
    );
    project
        .cc("-Werror -c empty.s -o 1.o")
        .assert()
        .success()
        .stderr("");
    project
        .cc("-Werror -c empty.S -o 2.o")
        .assert()
        .success()
        .stderr("");
    project
        .cc("-Werror hello.c empty.s empty.S -o all")
        .assert()
        .success()
        .stderr("");
    project.command("./all").assert().code(7);
    project
        .cc("-MM hello.c")
        .assert()
        .success()
        .stdout("hello.o: hello.c\n");
    project.cc("-fsyntax-only hello.c").assert().success();
}

#[test]
fn questions_are_answered_by_clang() {
    let project = hello();
    project
        .cc("--version")
        .assert()
        .success()
        .stdout(contains("clang version 19"));
    project
        .cc("-dumpmachine")
        .assert()
        .success()
        .stdout(contains("x86_64"));
    project
        .cc("-print-search-dirs")
        .assert()
        .success()
        .stdout(contains("libraries:"));
    project
        .cc("-v")
        .assert()
        .success()
        .stderr(contains("Target:"));
    project
        .cc("-Wl,--version")
        .assert()
        .success()
        .stdout(contains("ld"));
    project
        .cc("")
        .assert()
        .code(1)
        .stderr(contains("no input files"));
    project
        .cc("-### hello.c")
        .assert()
        .success()
        .stderr(contains("-fpass-plugin="));
}

#[test]
fn exit_codes_and_messages_are_clangs() {
    let project = Project::new(&[("bad.c", "int main(void) { return undeclared; }")]);
    project
        .cc("-c bad.c")
        .assert()
        .code(1)
        .stderr(contains("bad.c:1:25"));
    project
        .cc("-c missing.c")
        .assert()
        .code(1)
        .stderr(contains("no such file"));
    project.write("alone.c", "int f(void); int main(void) { return f(); }");
    project
        .cc("alone.c")
        .assert()
        .code(1)
        .stderr(contains("undefined reference"));
    project
        .cc("-no-such-flag -c bad.c")
        .assert()
        .code(1)
        .stderr(contains("unknown argument"));
}

#[test]
fn a_signal_ends_the_wrapper_as_it_ends_clang() {
    use std::os::unix::process::ExitStatusExt;
    let project = hello();
    // clang waits for its input; the process that we started must be clang itself.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ame"));
    command
        .args(["cc", "-c", "-x", "c", "-", "-o", "x.o"])
        .current_dir(project.path());
    command
        .env("AME_HOME", stub::home())
        .stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let name = format!("/proc/{}/comm", child.id());
    let started = (0..1_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        std::fs::read_to_string(&name).is_ok_and(|name| name.starts_with("clang"))
    });
    assert!(started, "the wrapper did not become clang");
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn our_flags_reach_the_pass() {
    let project = hello();
    project
        .cc("-fame-annotations=a.toml -fame-annotations=b.toml -fame-opt=-hoist -fame-stats=s.json -c hello.c")
        .assert()
        .success();
    let mark = project.mark("hello.o").unwrap();
    assert_eq!(mark, "1;AME_ANNOTATIONS=a.toml:b.toml;AME_PASS_OPT=-hoist;");
    assert!(project.path().join("s.json").is_file());
    project
        .cc("-fno-ame -c hello.c -o plain.o")
        .assert()
        .success();
    assert_eq!(project.mark("plain.o"), None);
    project
        .cc("-fame-annotation=x -c hello.c")
        .assert()
        .code(1)
        .stderr(contains("unknown flag"));
}

#[test]
fn response_files() {
    let project = hello();
    project.write("compile.rsp", "-c \"hello.c\"\n-o 'hello.o'\n");
    project.cc("@compile.rsp").assert().success();
    project.assert_instrumented("hello.o");
    project.write("link.rsp", "hello.o -o hello");
    project.cc("@link.rsp").assert().success();
    project.assert_has_runtime("hello");
    project.write("ours.rsp", "-fame-opt=-fresh @compile.rsp");
    project.cc("@ours.rsp").assert().success();
    assert!(project
        .mark("hello.o")
        .unwrap()
        .contains("AME_PASS_OPT=-fresh"));
}

#[test]
fn refusals_say_why_and_what_to_do() {
    let project = hello();
    for (flags, says) in [
        ("-m32", "64-bit"),
        ("-flto", "-fno-lto"),
        ("-fsanitize=kcfi", "-fno-ame"),
        ("-fsanitize=address", "-fno-ame"),
    ] {
        project
            .cc(&format!("{flags} -c hello.c"))
            .assert()
            .code(1)
            .stderr(contains("ame cc: error: ").and(contains(says)));
    }
}

#[test]
fn a_wrong_compiler_is_refused_with_the_command_that_installs_the_right_one() {
    let project = Project::new(&[
        ("hello.c", HELLO),
        ("old-clang", "#!/bin/sh\necho 14.0.6\n"),
    ]);
    project.sh("chmod +x old-clang").assert().success();
    let old = project.path().join("old-clang");
    let install = "sudo apt-get install clang-19";
    project
        .cc("-c hello.c")
        .env("AME_CLANG", &old)
        .assert()
        .code(1)
        .stderr(contains("14.0.6").and(contains(install)));
    project
        .cc("-c hello.c")
        .env("AME_CLANG", "/nonexistent/clang")
        .assert()
        .code(1)
        .stderr(contains("AME_CLANG=/nonexistent/clang"));
    project
        .cc("-c hello.c")
        .env("AME_CLANG", "clang-19")
        .assert()
        .success();
}

#[test]
fn missing_files_of_ours_are_named_only_when_needed() {
    let project = hello();
    let empty = tempfile::tempdir().unwrap();
    std::fs::copy(
        stub::home().join("include/ame.h"),
        empty.path().join("ame.h"),
    )
    .unwrap();
    let home = empty.path();
    project
        .cc("-c hello.c")
        .env("AME_HOME", home)
        .assert()
        .code(1)
        .stderr(contains("libame_pass.so not found").and(contains("cargo build --release")));
    project
        .cc("-E hello.c")
        .env("AME_HOME", home)
        .assert()
        .success();
    project
        .cc("--version")
        .env("AME_HOME", home)
        .assert()
        .success();
    project
        .cc("-fno-ame -c hello.c")
        .env("AME_HOME", home)
        .assert()
        .success();
}

#[test]
fn partial_links_take_no_library() {
    let project = hello();
    project.write("one.c", "int one(void) { return 1; }");
    project.cc("-r one.c hello.c -o both.o").assert().success();
    project
        .cc("-no-pie -nodefaultlibs -nostartfiles -Wl,-r both.o -o again.o")
        .assert()
        .success();
    project.cc("again.o -o both").assert().success();
    project.command("./both").assert().code(7);
    project.assert_has_runtime("both");
}
