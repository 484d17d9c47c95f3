//! Every rule of the argument vector, without files or processes.

use super::*;
use std::collections::HashMap;

const PLUGIN: &str = "-fpass-plugin=/lib/libame_pass.so";

/// A world for one call: response files and environment variables.
#[derive(Default)]
struct World {
    files: HashMap<&'static str, &'static str>,
    env: HashMap<&'static str, &'static str>,
    ccache: bool,
    /// The folder of our Python.h is there; so is free-threaded CPython's.
    extension: bool,
    free_threaded: bool,
    sets: &'static [&'static str],
}

impl World {
    fn build(&self, line: &str) -> Result<Invocation> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let read = |path: &OsStr| {
            let text = self.files.get(path.to_str()?)?;
            Some(text.split_whitespace().map(OsString::from).collect())
        };
        let request = Request::parse(&args, &read)?;
        let runtime = if request.static_runtime() {
            "libame_rt.a"
        } else {
            "libame_rt.so"
        };
        let tools = Tools {
            clang: "clang-19".into(),
            ccache: self.ccache.then(|| "ccache".into()),
            include: Some("/inc".into()),
            extension: self.extension.then(|| "/ext".into()),
            free_threaded: self.free_threaded,
            parallel: None,
            plugin: Some("/lib/libame_pass.so".into()),
            set_files: self.sets.iter().map(PathBuf::from).collect(),
            runtime: Some(PathBuf::from("/lib").join(runtime)),
        };
        build(&request, &tools, &|name| {
            self.env.get(name).map(OsString::from)
        })
    }

    fn line(&self, line: &str) -> String {
        let words = self.build(line).expect(line).args;
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    fn environment(&self, line: &str) -> Vec<(String, String)> {
        let text = |word: OsString| word.into_string().unwrap();
        let env = self.build(line).unwrap().env;
        env.into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }
}

fn line(words: &str) -> String {
    World::default().line(words)
}

fn rejected(words: &str) -> String {
    World::default().build(words).expect_err(words).to_string()
}

fn instrumented(user: &str) -> String {
    format!("--start-no-unused-arguments {PLUGIN} -isystem /inc --end-no-unused-arguments {user}")
}

fn preprocessed(user: &str) -> String {
    format!("--start-no-unused-arguments -isystem /inc --end-no-unused-arguments {user}")
}

fn linked(user: &str) -> String {
    let runtime = if user.contains("-shared") {
        "-Xlinker --push-state -Xlinker --as-needed -lame_rt -Xlinker --pop-state"
    } else {
        "-lame_rt"
    };
    format!(
        "{} -L/lib {runtime} -Xlinker -rpath -Xlinker /lib",
        instrumented(user)
    )
}

#[test]
fn compiling_adds_the_plugin_and_the_header_before_the_users_words() {
    for user in [
        "-c a.c",
        "-O2 -g -c a.c -o a.o",
        "-S a.c",
        "-c -x c -",
        "-c boot.s",
        "-c start.S",
        "-c a.c b.c",
        "-emit-llvm -c a.c",
        "-MMD -MF a.d -MT a.o -c a.c",
        "-Wl,-O1 -c a.c",
        "--precompile m.cppm",
    ] {
        assert_eq!(line(user), instrumented(user));
    }
}

#[test]
fn linking_adds_the_runtime_after_the_users_words() {
    for user in [
        "a.c",
        "a.o b.o -o prog",
        "a.c b.o -lm -o prog",
        "-shared -fPIC a.c -o liba.so",
        "-shared a.o -Wl,-soname,liba.so -o liba.so",
        "-x c - -o prog",
        "-x c a.txt -x none b.o",
        "-pie a.o",
        "-v a.o",
        "-### a.o",
        "-MD a.c -o prog",
        "-Xlinker --whole-archive -Xlinker liba.a",
        "-shared -Wl,--whole-archive,liba.a -o liba.so",
        "-fcf-protection=full -mno-red-zone a.c",
    ] {
        assert_eq!(line(user), linked(user));
    }
}

#[test]
fn preprocessing_and_checking_get_the_header_only() {
    for user in [
        "-E a.c",
        "-M a.c",
        "-MM a.c b.c",
        "-fsyntax-only a.c",
        "-E -c a.c",
        "-c -E a.c",
        "-E -dM -",
        "-E -m32 a.c",
        "-E -flto a.c",
    ] {
        assert_eq!(line(user), preprocessed(user));
    }
}

#[test]
fn questions_to_the_compiler_reach_it_untouched() {
    for user in [
        "--version",
        "-dumpversion",
        "-dumpmachine",
        "--help",
        "-v",
        "-V",
        "-print-search-dirs",
        "--print-file-name=libc.so",
        "-print-multiarch",
        "-Wl,--version",
        "-cc1 -triple x86_64 a.c",
        "-print-prog-name=ld -flto",
        "",
        "-o prog",
        "-xc",
        "-o a.c",
        "-include a.h",
    ] {
        assert_eq!(line(user), user);
    }
}

#[test]
fn headers_are_precompiled_and_not_linked() {
    for user in [
        "a.h",
        "-x c-header a.c -o a.pch",
        "-xc-header a.h",
        "a.h b.hpp",
    ] {
        assert_eq!(line(user), instrumented(user));
    }
    for user in ["-x c a.h", "a.h b.c"] {
        assert_eq!(line(user), linked(user));
    }
}

#[test]
fn values_of_options_are_not_inputs() {
    for user in [
        "-o prog -I src -D X -L lib -include a.h -T script -u sym -z now -MF d -Xclang a -mllvm b",
        "-target x86_64-linux-gnu --param ssp-buffer-size=4 -isystem d -iquote d -resource-dir d",
    ] {
        assert_eq!(line(user), user, "no input, so no link");
        let more = format!("{user} a.o");
        assert_eq!(line(&more), linked(&more));
    }
}

#[test]
fn the_user_chooses_the_libraries_of_a_bare_link() {
    for user in [
        "-r a.o b.o -o c.o",
        "-nostdlib a.o",
        "-nodefaultlibs a.o",
        "-Wl,-O1,-r a.o",
        "-Xlinker -r a.o",
    ] {
        assert_eq!(line(user), instrumented(user));
    }
}

#[test]
fn static_runtime() {
    let expect =
        |user: &str, needs: &str| format!("{} -L/lib -l:libame_rt.a {needs}", instrumented(user));
    assert_eq!(
        line("-fame-static a.o"),
        expect("a.o", "-lpthread -ldl -lm -lgcc_s")
    );
    assert_eq!(
        line("-static a.o"),
        expect(
            "-static a.o",
            "-lpthread -ldl -lm -lgcc_eh -Wl,--allow-multiple-definition"
        )
    );
    assert_eq!(
        line("-static-pie a.o"),
        expect(
            "-static-pie a.o",
            "-lpthread -ldl -lm -lgcc_eh -Wl,--allow-multiple-definition"
        )
    );
    assert!(rejected("-fame-static -shared a.o").contains("one copy of the runtime"));
    assert_eq!(line("-fame-static -c a.c"), instrumented("-c a.c"));
}

#[test]
fn plain_compilation_has_neither_plugin_nor_runtime() {
    assert_eq!(line("-fno-ame a.c -o prog"), preprocessed("a.c -o prog"));
    assert_eq!(line("-c a.c -fno-ame"), preprocessed("-c a.c"));
    assert_eq!(
        line("-fno-ame -fame a.c"),
        linked("a.c"),
        "the last one wins"
    );
    assert_eq!(
        line("-fno-ame -m32 -flto a.c"),
        preprocessed("-m32 -flto a.c")
    );
}

#[test]
fn our_flags_become_environment() {
    let env = World::default().environment(
        "-fame-annotations=a.toml -c a.c -fame-annotations=b.toml -fame-opt=-hoist,-fresh \
         -fame-remarks=r.jsonl -fame-stats=s.json",
    );
    let pairs: Vec<_> = env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("AME_ANNOTATIONS", "a.toml:b.toml"),
            ("AME_PASS_OPT", "-hoist,-fresh"),
            ("AME_PASS_REMARKS", "r.jsonl"),
            ("AME_PASS_STATS", "s.json"),
        ]
    );
    assert_eq!(
        line("-fame-annotations=a.toml -c a.c -fame-opt=x -fame-remarks=r -fame-stats=s"),
        instrumented("-c a.c"),
        "and clang never sees them"
    );
}

#[test]
fn inherited_environment_comes_first_and_is_left_alone_without_flags() {
    let world = World {
        env: [("AME_ANNOTATIONS", "env.toml"), ("AME_PASS_OPT", "a")].into(),
        ..World::default()
    };
    assert_eq!(world.environment("-c a.c"), []);
    let env = world.environment("-c a.c -fame-annotations=flag.toml -fame-opt=b");
    assert_eq!(
        env[0],
        ("AME_ANNOTATIONS".into(), "env.toml:flag.toml".into())
    );
    assert_eq!(env[1], ("AME_PASS_OPT".into(), "a,b".into()));
}

#[test]
fn flags_of_ours_that_are_wrong_are_named() {
    assert!(rejected("-fame-optimise a.c").contains("unknown flag -fame-optimise"));
    assert!(rejected("-fno-ame-static a.c").contains("unknown flag"));
    assert!(rejected("-fame-annotations a.c").contains("-fame-annotations needs a value"));
    assert!(rejected("-fame-opt= a.c").contains("-fame-opt needs a value"));
    assert_eq!(
        line("-c a.c -o -fno-ame"),
        instrumented("-c a.c -o -fno-ame")
    );
}

#[test]
fn response_files_are_looked_into_and_passed_on() {
    let world = World {
        files: [
            ("compile.rsp", "-O2 -c a.c"),
            ("objects.rsp", "a.o b.o -o prog"),
            ("outer.rsp", "@objects.rsp -lm"),
            ("ours.rsp", "-fame-annotations=x.toml -c a.c"),
            ("again.rsp", "-fno-ame -g"),
            ("empty.rsp", ""),
            ("loop.rsp", "@loop.rsp"),
        ]
        .into(),
        ..World::default()
    };
    assert_eq!(world.line("@compile.rsp"), instrumented("@compile.rsp"));
    assert_eq!(world.line("@objects.rsp"), linked("@objects.rsp"));
    assert_eq!(world.line("@outer.rsp"), linked("@outer.rsp"));
    assert_eq!(
        world.line("-c @objects.rsp"),
        instrumented("-c @objects.rsp")
    );
    assert_eq!(
        world.line("@ours.rsp -g"),
        instrumented("-c a.c -g"),
        "ours are taken out"
    );
    assert_eq!(world.environment("@ours.rsp")[0].1, "x.toml");
    assert_eq!(
        world.line("-fno-ame @again.rsp a.c"),
        preprocessed("-g a.c"),
        "also those that change nothing"
    );
    assert_eq!(world.line("@empty.rsp"), "@empty.rsp");
    assert_eq!(
        world.line("@missing.rsp"),
        linked("@missing.rsp"),
        "as clang: a file of that name"
    );
    let error = world.build("@loop.rsp").unwrap_err().to_string();
    assert!(error.contains("nested"), "{error}");
}

#[test]
fn a_value_may_be_in_the_next_response_file() {
    let world = World {
        files: [("v.rsp", "prog.c a.c")].into(),
        ..World::default()
    };
    assert_eq!(world.line("-c -o @v.rsp"), instrumented("-c -o @v.rsp"));
}

#[test]
fn what_transactions_cannot_live_with_is_refused() {
    for (user, says) in [
        ("-m32 -c a.c", "-m32"),
        ("-mx32 a.c", "-mx32"),
        ("-target aarch64-linux-gnu -c a.c", "aarch64-linux-gnu"),
        ("--target=x86_64-apple-darwin -c a.c", "x86_64-apple-darwin"),
        ("--target=i386-linux-gnu -c a.c", "i386"),
        ("--target=x86_64-linux-gnux32 -c a.c", "x32"),
        ("-fsanitize=kcfi -c a.c", "kcfi"),
        ("-fsanitize=undefined,cfi-icall -c a.c", "cfi-icall"),
        ("-fsanitize=address -c a.c", "shadow memory"),
        ("-fsanitize=leak a.o", "allocator"),
        ("-fsanitize=function -c a.c", "function"),
        ("-fsanitize=safe-stack a.o", "second stack"),
        ("-flto -c a.c", "link-time"),
        ("-flto=thin a.o", "-flto=thin"),
        ("-fsplit-stack -c a.c", "-fsplit-stack"),
        ("-fpatchable-function-entry=4,2 -c a.c", "before the entry"),
        ("-mcmodel=kernel -c a.c", "kernel"),
    ] {
        let message = rejected(user);
        assert!(message.contains(says), "{user}: {message}");
    }
}

#[test]
fn what_they_can_live_with_is_not() {
    for user in [
        "-m64 -c a.c",
        "-m32 -m64 -c a.c",
        "-target x86_64-pc-linux-gnu -c a.c",
        "--target=x86_64-unknown-linux-musl -c a.c",
        "-fsanitize=address -fno-sanitize=address -c a.c",
        "-fsanitize=kcfi -fno-sanitize=kcfi -c a.c",
        "-fsanitize=cfi -fno-sanitize=all -c a.c",
        "-flto -fno-lto -c a.c",
        "-fcf-protection -c a.c",
        "-fpatchable-function-entry=4 -c a.c",
        "-fpatchable-function-entry=4,0 -c a.c",
        "-mcmodel=medium -c a.c",
        "-c a.c -D -m32",
    ] {
        assert_eq!(line(user), instrumented(user));
    }
}

#[test]
fn the_function_check_is_left_out_of_ubsan() {
    let user = "-fsanitize=undefined -c a.c";
    assert_eq!(
        line(user),
        instrumented(&format!("{user} -fno-sanitize=function"))
    );
}

#[test]
fn ccache_hashes_the_plugin_the_sets_and_the_options() {
    let world = World {
        env: [
            ("CCACHE_EXTRAFILES", "/mine"),
            ("AME_ANNOTATIONS", "env.toml"),
        ]
        .into(),
        ccache: true,
        sets: &["env.toml", "flag.toml"],
        ..World::default()
    };
    let user = "-c a.c -fame-ccache -fame-annotations=flag.toml -fame-opt=-hoist";
    assert_eq!(world.build(user).unwrap().program, "ccache");
    assert_eq!(
        world.line(user),
        format!("clang-19 {}", instrumented("-c a.c"))
    );
    let env = world.environment(user);
    let value = |name: &str| {
        env.iter()
            .find(|(other, _)| other == name)
            .unwrap()
            .1
            .as_str()
    };
    assert_eq!(
        value("CCACHE_EXTRAFILES"),
        "/mine:/lib/libame_pass.so:env.toml:flag.toml"
    );
    assert_eq!(value("CCACHE_NAMESPACE"), "env.toml:flag.toml:-hoist");
    let with_report = world
        .build("-c a.c -fame-ccache -fame-stats=s.json")
        .unwrap();
    assert_eq!(
        with_report.program, "clang-19",
        "a cached object would lack its report"
    );
}

#[test]
fn ccache_environment_for_the_shell() {
    let world = World {
        sets: &["it's.toml"],
        ..World::default()
    };
    let printed = world
        .build("-fame-print-ccache-env")
        .unwrap()
        .print
        .unwrap();
    assert_eq!(
        printed,
        "export CCACHE_COMPILERTYPE=clang\n\
         export CCACHE_EXTRAFILES='/lib/libame_pass.so:it'\\''s.toml'\n"
    );
    let world = World {
        env: [("AME_PASS_OPT", "-all"), ("CCACHE_NAMESPACE", "me")].into(),
        ..world
    };
    let printed = world
        .build("-fame-print-ccache-env")
        .unwrap()
        .print
        .unwrap();
    assert!(
        printed.ends_with("export CCACHE_NAMESPACE='me:-all'\n"),
        "{printed}"
    );
}

#[test]
fn paths_that_are_not_utf8_survive() {
    use std::os::unix::ffi::OsStringExt;
    let name = OsString::from_vec(b"caf\xe9.c".to_vec());
    let args = [OsString::from("-c"), name.clone()];
    let request = Request::parse(&args, &|_| None).unwrap();
    assert_eq!(request.forwarded, args);
    assert_eq!(request.stage, Stage::Compile);
}

#[test]
fn extensions() {
    let world = World {
        extension: true,
        free_threaded: true,
        ..World::default()
    };
    let before = format!("--start-no-unused-arguments -I/ext {PLUGIN} -isystem /inc");
    let after = "--end-no-unused-arguments";
    assert_eq!(
        world.line("-c a.c -Iown"),
        format!("{before} {after} -c a.c -Iown")
    );
    assert_eq!(
        world.environment("-c a.c"),
        [("AME_EXTENSION".to_owned(), "free-threaded".to_owned())]
    );
    let named = format!(
        "--start-no-unused-arguments -I/ext -DAME_EXTENSION_DOMAIN=\"one\" {PLUGIN} -isystem /inc"
    );
    assert_eq!(
        world.line("-fame-domain=one -c a.c"),
        format!("{named} {after} -c a.c")
    );
    let by_environment = World {
        extension: true,
        env: HashMap::from([("AME_DOMAIN", "one")]),
        ..World::default()
    };
    assert_eq!(
        by_environment.line("-c a.c"),
        format!("{named} {after} -c a.c")
    );
    assert!(by_environment.environment("-c a.c").is_empty());
    // Plain clang sees CPython's header first, and preprocessing ours.
    assert!(!world.line("-fno-ame -c a.c").contains("/ext"));
    assert!(world.line("-E a.c").contains("-I/ext"));
    let error = world.build("-fame-domain=a\"b -c a.c").unwrap_err();
    assert!(error.to_string().contains("no quotes"), "{error}");
}

#[test]
fn folders_of_headers() {
    let line = "-I one -Itwo -isystem three -o -Ifour a.c";
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    let request = Request::parse(&words, &|_| None).unwrap();
    let folders: Vec<_> = request.include_folders().collect();
    let expected = ["one", "two", "three"].map(std::path::Path::new);
    assert_eq!(folders[..3], expected);
}
