//! `ame cc` as the compiler of build systems, on small projects.

use crate::stub::Project;
use predicates::str::contains;

const MAIN: &str =
    "#include <ame.h>\nint answer(void);\nint main(void) { return answer() - 42; }\n";
const LIB: &str = "int answer(void) { return 42; }\n";

#[test]
fn configure() {
    // What the checks of a configure script do: try to compile, to link, to run, read the version,
    // and fail where they should fail.
    let project = Project::new(&[(
        "configure",
        r#"
        check() { printf 'checking %s... ' "$1"; }
        check "whether the compiler works"
        echo 'int main(void) { return 0; }' > conftest.c
        $CC $CFLAGS conftest.c -o conftest 2> conftest.err && ./conftest && echo yes
        test ! -s conftest.err
        check "for the version"
        $CC --version | grep -c 'clang version 19'
        check "whether it is cross compiling"
        $CC -dumpmachine
        check "for a function that exists"
        echo '#include <math.h>
              int main(int n, char **v) { return (int)cos(n) > 9; }' > conftest.c
        $CC conftest.c -lm -o conftest && echo yes
        check "for a function that does not exist"
        echo 'char no_such(void); int main(void) { return no_such(); }' > conftest.c
        if $CC conftest.c -o conftest 2> /dev/null; then exit 1; else echo no; fi
        check "for a header that does not exist"
        echo '#include <no_such.h>' > conftest.c
        if $CC -E conftest.c > /dev/null 2>&1; then exit 1; else echo no; fi
        check "for a flag that does not exist"
        echo 'int x;' > conftest.c
        if $CC -Werror -fno-such-flag -c conftest.c 2> /dev/null; then exit 1; else echo no; fi
        check "for the size of long"
        echo 'int x[sizeof(long) == 8 ? 1 : -1];' > conftest.c
        $CC -c conftest.c && echo 8
        check "for -Werror with flags that are not used"
        $CC -Werror -c conftest.c -o conftest.o && echo fine
        "#,
    )]);
    project
        .command("sh")
        .args(["-e", "configure"])
        .env("CC", "ame cc")
        .env("CFLAGS", "-Wall -Werror")
        .assert()
        .success()
        .stdout(contains("fine"));
}

#[test]
fn make() {
    let project = Project::new(&[
        ("main.c", MAIN),
        ("answer.c", LIB),
        (
            "Makefile",
            "CFLAGS = -O2 -MMD -MP\n\
             prog: main.o libanswer.so\n\
             \t$(CC) main.o -L. -lanswer -Wl,-rpath,. -o $@\n\
             libanswer.so: answer.c\n\
             \t$(CC) $(CFLAGS) -fPIC -shared $< -o $@\n\
             -include main.d\n",
        ),
    ]);
    project
        .command("make")
        .args(["-s", "-j2", "CC=ame cc"])
        .assert()
        .success()
        .stderr("");
    project.command("./prog").assert().success();
    for file in ["main.o", "libanswer.so"] {
        project.assert_instrumented(file);
    }
    for file in ["prog", "libanswer.so"] {
        project.assert_has_runtime(file);
    }
    project
        .command("make")
        .args(["-q", "CC=ame cc"])
        .assert()
        .success();
}

#[test]
fn cmake() {
    let project = Project::new(&[
        ("main.c", MAIN),
        ("answer.c", LIB),
        (
            "extra.cpp",
            "#include <vector>\nint extra() { return (int)std::vector<int>(3).size(); }\n",
        ),
        (
            "CMakeLists.txt",
            "cmake_minimum_required(VERSION 3.20)\n\
             project(sample C CXX)\n\
             include(CheckCCompilerFlag)\n\
             check_c_compiler_flag(-Wall HAS_WALL)\n\
             check_c_compiler_flag(-fno-such-flag HAS_NONSENSE)\n\
             if(NOT HAS_WALL OR HAS_NONSENSE)\n\
             \tmessage(FATAL_ERROR \"flags are not checked right\")\n\
             endif()\n\
             find_package(Threads REQUIRED)\n\
             add_library(answer SHARED answer.c)\n\
             add_executable(prog main.c extra.cpp)\n\
             target_link_libraries(prog answer Threads::Threads)\n",
        ),
    ]);
    // Both as one word and as two.
    for (cc, cxx, build) in [("ame-cc", "ame-cxx", "one"), ("ame cc", "ame c++", "two")] {
        project
            .command("cmake")
            .args([
                "-S",
                ".",
                "-B",
                build,
                "-G",
                "Ninja",
                "-DCMAKE_BUILD_TYPE=Release",
            ])
            .env("CC", cc)
            .env("CXX", cxx)
            .assert()
            .success()
            .stdout(contains("Clang 19"));
        project
            .command("cmake")
            .args(["--build", build])
            .assert()
            .success();
        project.command(&format!("{build}/prog")).assert().success();
        project.assert_instrumented(&format!("{build}/libanswer.so"));
        project.assert_instrumented(&format!("{build}/prog"));
        project.assert_has_runtime(&format!("{build}/prog"));
    }
}

#[test]
fn meson() {
    let project = Project::new(&[
        ("main.c", MAIN),
        ("answer.c", LIB),
        (
            "meson.build",
            "project('sample', 'c', default_options: ['warning_level=3', 'werror=true'])\n\
             cc = meson.get_compiler('c')\n\
             assert(cc.get_id() == 'clang')\n\
             assert(cc.has_function('puts'))\n\
             assert(not cc.has_function('no_such_function_anywhere'))\n\
             assert(cc.sizeof('long') == 8)\n\
             answer = shared_library('answer', 'answer.c')\n\
             executable('prog', 'main.c', link_with: answer)\n",
        ),
    ]);
    project
        .command("meson")
        .args(["setup", "build", "-Db_lto=false"])
        .env("CC", "ame cc")
        .assert()
        .success()
        .stdout(contains(
            "C compiler for the host machine: ame cc (clang 19",
        ));
    project
        .command("ninja")
        .args(["-C", "build"])
        .assert()
        .success();
    project.command("build/prog").assert().success();
    project.assert_instrumented("build/libanswer.so");
    project.assert_has_runtime("build/prog");
}

#[test]
fn setuptools_builds_an_extension() {
    let project = Project::new(&[
        (
            "tiny.c",
            "#include <Python.h>\n\
             static PyObject *answer(PyObject *self, PyObject *none) {\n\
             \treturn PyLong_FromLong(42);\n\
             }\n\
             static PyMethodDef methods[] = {{\"answer\", answer, METH_NOARGS, \"\"}, {0}};\n\
             static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, \"tiny\", 0, -1, methods};\n\
             PyMODINIT_FUNC PyInit_tiny(void) { return PyModule_Create(&module); }\n",
        ),
        (
            "setup.py",
            "from setuptools import Extension, setup\n\
             setup(name='tiny', version='1', ext_modules=[Extension('tiny', ['tiny.c'])])\n",
        ),
    ]);
    // With a GIL the interpreter's allocator is not ours: plain code, unless asked for.
    for (compiler, instrumented) in [("ame cc", false), ("ame cc -fame", true)] {
        project
            .command("/usr/bin/python3")
            .args(["setup.py", "-q", "build_ext", "--inplace", "--force"])
            .env("CC", compiler)
            .env("LDSHARED", format!("{compiler} -shared"))
            .assert()
            .success();
        let library = std::fs::read_dir(project.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .find(|name| name.ends_with(".so"))
            .expect("an extension was built");
        assert_eq!(
            project.mark(&library).is_some(),
            instrumented,
            "{compiler}: {library}"
        );
        assert_eq!(
            project.dynamic(&library).contains("libame_rt.so"),
            instrumented
        );
        project
            .command("/usr/bin/python3")
            .args(["-c", "import tiny; print(tiny.answer())"])
            .assert()
            .success()
            .stdout("42\n");
    }
}
