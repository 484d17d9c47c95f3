//! ccache around `ame-cc`, and inside it: what the result depends on must be in the hash.

use crate::stub::{self, Project};
use std::path::Path;

/// A project with a cache of its own.
struct Cached {
    project: Project,
    cache: tempfile::TempDir,
}

impl Cached {
    fn new() -> Self {
        let project = Project::new(&[("a.c", "int f(void) { return 1; }\n")]);
        Cached {
            project,
            cache: tempfile::tempdir().unwrap(),
        }
    }

    /// Compiles a.c by a shell script and tells whether the object came from the cache.
    fn hit(&self, home: &Path, script: &str) -> bool {
        let before = self.hits();
        self.project
            .sh(script)
            .env("CCACHE_DIR", self.cache.path())
            .env("AME_HOME", home)
            .assert()
            .success();
        self.project.assert_instrumented("a.o");
        self.hits() > before
    }

    fn hits(&self) -> u64 {
        let output = self
            .project
            .command("ccache")
            .arg("--print-stats")
            .env("CCACHE_DIR", self.cache.path())
            .output()
            .expect("ccache runs");
        let text = String::from_utf8(output.stdout).unwrap();
        let count = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.split('\t').next() == Some(name));
            line.map_or(0, |line| {
                line.split('\t').nth(1).unwrap().parse::<u64>().unwrap()
            })
        };
        count("direct_cache_hit") + count("preprocessed_cache_hit")
    }
}

#[test]
fn around_the_wrapper() {
    let cached = Cached::new();
    let script = "eval \"$(ame cc -fame-print-ccache-env)\"; ccache ame-cc -O2 -c a.c";
    assert!(!cached.hit(stub::home(), script));
    assert!(cached.hit(stub::home(), script));
    // A new plugin of the same size must not be answered with old objects.
    assert!(!cached.hit(&stub::build("2"), script));
    assert!(cached.project.mark("a.o").unwrap().starts_with("2;"));
    let options = format!("export AME_PASS_OPT=-hoist; {script}");
    assert!(!cached.hit(stub::home(), &options));
    assert!(cached
        .project
        .mark("a.o")
        .unwrap()
        .contains("AME_PASS_OPT=-hoist"));
    let flag = format!("{script} -fame-opt=-fresh");
    assert!(!cached.hit(stub::home(), &flag));
    assert!(cached.hit(stub::home(), script));
    let two_words = script.replace("ame-cc", "ame cc");
    assert!(!cached.hit(stub::home(), &two_words));
    assert!(cached.hit(stub::home(), &two_words));
}

#[test]
fn inside_the_wrapper() {
    let cached = Cached::new();
    let compile = "ame cc -fame-ccache -O2 -c a.c";
    assert!(!cached.hit(stub::home(), compile));
    assert!(cached.hit(stub::home(), compile));
    assert!(!cached.hit(&stub::build("2"), compile));
    assert!(!cached.hit(stub::home(), &format!("{compile} -fame-opt=-hoist")));
    cached.project.write("set.toml", "name = \"one\"\n");
    let with_set = format!("{compile} -fame-annotations=set.toml");
    assert!(!cached.hit(stub::home(), &with_set));
    assert!(cached.hit(stub::home(), &with_set));
    cached.project.write("set.toml", "name = \"two\"\n");
    assert!(
        !cached.hit(stub::home(), &with_set),
        "the content of a set is in the hash"
    );
}
