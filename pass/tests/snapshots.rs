//! What the pass makes of small inputs: the specification of the pass.

mod common;

use common::opt;

const BOTH: &str = "ame-tag,ame-instrument";

/// One snapshot per input.
macro_rules! snapshot {
    ($($name:ident: $ir:expr;)*) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(opt($ir, BOTH, &[]));
        }
    )* };
}

/// The same input with an optimisation, then without.
macro_rules! on_and_off {
    ($($name:ident $option:literal: $ir:expr;)*) => { $(
        #[test]
        fn $name() {
            let on = opt($ir, BOTH, &[("AME_PASS_OPT", concat!("-all,+", $option))]);
            let off = opt($ir, BOTH, &[("AME_PASS_OPT", "-all")]);
            assert_ne!(on, off);
            insta::assert_snapshot!(format!("; with {}\n{on}\n; without\n{off}", $option));
        }
    )* };
}

snapshot! {
    read: "define i64 @f(ptr %p) { %v = load i64, ptr %p, align 8\n ret i64 %v }";
    write: "define void @f(ptr %p) { store i64 1, ptr %p, align 8\n ret void }";
    unaligned_read_checks_both_ends: "define i64 @f(ptr %p) { %v = load i64, ptr %p, align 1\n ret i64 %v }";
    vector_of_32_bytes: "define <4 x i64> @f(ptr %p) { %v = load <4 x i64>, ptr %p, align 32\n ret <4 x i64> %v }";
    large_store_is_a_range: "define void @f(ptr %p, [8 x i64] %v) { store [8 x i64] %v, ptr %p, align 8\n ret void }";
    atomic: "define i64 @f(ptr %p) { %v = atomicrmw add ptr %p, i64 1 seq_cst\n ret i64 %v }";
    compare_exchange: "define i1 @f(ptr %p) { %v = cmpxchg ptr %p, i64 1, i64 2 seq_cst seq_cst\n %b = extractvalue { i64, i1 } %v, 1\n ret i1 %b }";
    stack_needs_none: "define i32 @f() { %a = alloca i32\n store i32 1, ptr %a\n %v = load i32, ptr %a\n ret i32 %v }";
    escaped_stack_has_its_own_granule: "declare void @ame_in(ptr)\ndefine i32 @f() { %a = alloca i32\n call void @ame_in(ptr %a)\n %v = load i32, ptr %a\n ret i32 %v }";
    constant_needs_none: "@c = constant i32 5\ndefine i32 @f() { %v = load i32, ptr @c\n ret i32 %v }";
    thread_local_write_is_private: "@t = thread_local global i32 5\ndefine i32 @f() { %p = call ptr @llvm.threadlocal.address.p0(ptr @t)\n %v = load i32, ptr %p\n store i32 1, ptr %p\n ret i32 %v }\ndeclare ptr @llvm.threadlocal.address.p0(ptr)";
    memcpy: "define void @f(ptr %p, ptr %q, i64 %n) { call void @llvm.memcpy.p0.p0.i64(ptr %p, ptr %q, i64 %n, i1 false)\n ret void }\ndeclare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)";
    masked_store_by_lane: "define void @f(ptr %p, <2 x i64> %v, <2 x i1> %m) { call void @llvm.masked.store.v2i64.p0(<2 x i64> %v, ptr %p, i32 8, <2 x i1> %m)\n ret void }\ndeclare void @llvm.masked.store.v2i64.p0(<2 x i64>, ptr, i32, <2 x i1>)";
    external_call: "declare void @unknown(i32)\ndefine void @f() { call void @unknown(i32 1)\n ret void }";
    indirect_call: "define void @f(ptr %g) { call void %g()\n ret void }";
    direct_call_of_a_body: "define internal void @g(ptr %p) { store i32 1, ptr %p\n ret void }\ndefine void @f(ptr %p) { call void @g(ptr %p)\n ret void }";
    returns_twice_is_exclusive: "declare i32 @setjmp(ptr) returns_twice\ndefine i32 @f(ptr %p) { %v = call i32 @setjmp(ptr %p) returns_twice\n ret i32 %v }";
    inline_assembly_is_exclusive: "define void @f() { call void asm sideeffect \"syscall\", \"~{memory}\"()\n call void asm sideeffect \"\", \"~{memory}\"()\n ret void }";
    counter_intrinsic_is_harmless: "declare i64 @llvm.readcyclecounter()\ndefine i64 @f() { %v = call i64 @llvm.readcyclecounter()\n ret i64 %v }";
    endless_loop_polls: "define void @f() { br label %l\nl: br label %l }";
    must_tail: "declare void @unknown(ptr)\ndefine void @f(ptr %p) { musttail call void @unknown(ptr %p)\n ret void }";
    computed_goto: "define i32 @f(ptr %t, ptr %p) { %g = load ptr, ptr %t, align 8\n indirectbr ptr %g, [label %a, label %b]\na: %v = load i32, ptr %p, align 4\n ret i32 %v\nb: ret i32 0 }";
    invoke: "declare void @unknown()\ndeclare i32 @personality(...)\ndefine i32 @f(ptr %p) personality ptr @personality { invoke void @unknown() to label %ok unwind label %bad\nok: ret i32 0\nbad: %x = landingpad { ptr, i32 } cleanup\n %v = load i32, ptr %p, align 4\n ret i32 %v }";
    leaves_naked_and_pure_functions_alone: "define void @n() naked { unreachable }\ndefine i32 @p(ptr %p) \"ame\"=\"pure\" { %v = load i32, ptr %p\n ret i32 %v }";
    kinds_of_functions: "declare void @i() \"ame\"=\"inevitable\"\ndeclare void @x() \"ame\"=\"exclusive\"\ndeclare void @b() \"ame\"=\"boundary\"\ndeclare void @p() \"ame\"=\"pure\"\ndeclare void @r(ptr, i64) \"ame\"=\"pure;reads=0,1;writes=0,16 bytes\"\ndeclare void @o() \"ame\"=\"replace=other\"\ndefine void @f(ptr %p, i64 %n) { call void @i()\n call void @x()\n call void @b()\n call void @p()\n call void @r(ptr %p, i64 %n)\n call void @o()\n ret void }";
    strings: "declare i64 @s(ptr) \"ame\"=\"pure;reads=0,string\"\ndefine i64 @f(ptr %p) { %v = call i64 @s(ptr %p)\n ret i64 %v }";
}

on_and_off! {
    redundancy "redundancy": "define i64 @f(ptr %p, i1 %c) { %a = load i64, ptr %p, align 8\n br i1 %c, label %t, label %e\nt: %b = load i64, ptr %p, align 8\n ret i64 %b\ne: ret i64 %a }";
    upgrade "upgrade": "define void @f(ptr %p) { %a = load i64, ptr %p, align 8\n %b = add i64 %a, 1\n store i64 %b, ptr %p, align 8\n ret void }";
    hoist "hoist": "define i64 @f(ptr %p, i64 %n) { br label %l\nl: %i = phi i64 [0, %0], [%j, %l]\n %a = load volatile i64, ptr %p, align 8\n %j = add i64 %i, %a\n %c = icmp ult i64 %j, %n\n br i1 %c, label %l, label %e\ne: ret i64 %j }";
}

#[test]
fn granule() {
    let ir = "define i64 @f(ptr align 16 %p) { %q = getelementptr i8, ptr %p, i64 8\n %a = load i64, ptr %p, align 8\n %b = load i64, ptr %q, align 8\n %c = add i64 %a, %b\n ret i64 %c }";
    let on = opt(ir, BOTH, &[("AME_PASS_OPT", "-all,+redundancy,+granule")]);
    let off = opt(ir, BOTH, &[("AME_PASS_OPT", "-all,+redundancy")]);
    assert_eq!(on.matches("icmp ult").count(), 1);
    assert_eq!(off.matches("icmp ult").count(), 2);
}

/// Where a set says what addresses a function returns, also with a distance added, what lies in one granule is known.
#[test]
fn alignment_of_what_a_function_returns() {
    let ir = |distance| {
        format!("declare ptr @head(ptr)\ndefine i64 @f(ptr %o) {{ %p = call ptr @head(ptr %o)\n %q = getelementptr i8, ptr %p, i64 {distance}\n %r = getelementptr i8, ptr %q, i64 8\n %a = load i64, ptr %q, align 8\n %b = load i64, ptr %r, align 8\n %c = add i64 %a, %b\n ret i64 %c }}")
    };
    let checks = |rule: &str, distance| {
        let (_folder, path) = set(&format!("[function.head]\n{rule}\n"));
        opt(&ir(distance), BOTH, &[("AME_ANNOTATIONS", &path)])
            .matches("icmp ult")
            .count()
    };
    assert_eq!(checks("align = 16", 32), 1);
    assert_eq!(checks("align = 16", 8), 2);
    assert_eq!(checks("align = 8", 32), 2);
    assert_eq!(checks("quiet = true", 32), 2);
}

/// The entry of a function that may be part of a recursion looks whether the transaction is to end, unless a set promises that
/// it does not need to. Loops always do.
#[test]
fn polls_at_entries() {
    let polls = |ir: &str, bounded: bool| {
        let (_folder, path) = set(&format!("bounded_recursion = {bounded}\n"));
        opt(ir, BOTH, &[("AME_ANNOTATIONS", &path)]).contains("ame_poll_slow")
    };
    let recursion = "define i64 @f(i64 %n) { %c = icmp ult i64 %n, 2\n br i1 %c, label %e, label %r\nr: %m = sub i64 %n, 1\n %a = call i64 @f(i64 %m)\n %k = sub i64 %n, 2\n %b = call i64 @f(i64 %k)\n %s = add i64 %a, %b\n ret i64 %s\ne: ret i64 %n }";
    let endless = "define void @f() { br label %l\nl: br label %l }";
    assert!(polls(recursion, false));
    assert!(!polls(recursion, true));
    assert!(polls(endless, false));
    assert!(polls(endless, true));
}

/// A loop that writes every hundredth word, as it is and unrolled; a factor that is not constant.
#[test]
fn writes_in_steps_are_acquired_before_the_loop() {
    let ir = |body: &str| {
        format!("define void @f(ptr %p, i64 %n) {{ br label %l\nl: %i = phi i64 [0, %0], [%j, %l]\n {body} br i1 %c, label %e, label %l\ne: ret void }}")
    };
    let once = ir("%x = mul i64 %i, 100\n %q = getelementptr inbounds i64, ptr %p, i64 %x\n %v = load i64, ptr %q, align 8\n %w = add i64 %v, 1\n store i64 %w, ptr %q, align 8\n %j = add nuw nsw i64 %i, 1\n %c = icmp eq i64 %j, %n\n");
    let out = opt(&once, BOTH, &[]);
    assert!(out.contains("ame_write_steps_stub"), "{out}");
    assert!(out.contains("i64 800, i64 8)"), "{out}");
    assert!(
        !out.contains("ame_write_slow") && !out.contains("ame_read_slow"),
        "{out}"
    );
    let unrolled = ir("%x = mul i64 %i, 800\n %q = getelementptr inbounds i8, ptr %p, i64 %x\n store i64 1, ptr %q, align 8\n %h = or disjoint i64 %i, 1\n %y = mul i64 %h, 800\n %r = getelementptr inbounds i8, ptr %p, i64 %y\n store i64 1, ptr %r, align 8\n %j = add nuw nsw i64 %i, 2\n %d = icmp ult i64 %h, 9999\n");
    let unrolled = unrolled.replace(
        "br i1 %c, label %e, label %l",
        "br i1 %d, label %l, label %e",
    );
    let out = opt(&unrolled, BOTH, &[]);
    // 5,000 rounds of 2: up to where the next would be.
    assert!(out.contains("i64 8000000, i64 800, i64 8)"), "{out}");
    assert!(!out.contains("ame_write_slow"), "{out}");
    let any = once.replace("mul i64 %i, 100", "mul i64 %i, %n");
    let out = opt(&any, BOTH, &[]);
    assert!(
        !out.contains("ame_write_steps") && out.contains("ame_write_slow"),
        "{out}"
    );
    let odd = unrolled.replace("[0, %0]", "[1, %0]");
    let out = opt(&odd, BOTH, &[]);
    assert!(
        !out.contains("ame_write_steps"),
        "an `or` that is no addition: {out}"
    );
}

#[test]
fn fresh_memory_needs_no_barrier() {
    let ir = "declare ptr @malloc(i64)\ndefine ptr @f() { %p = call ptr @malloc(i64 16)\n store i64 1, ptr %p, align 8\n ret ptr %p }";
    assert!(!opt(ir, BOTH, &[]).contains("ame_write_slow"));
    assert!(opt(ir, BOTH, &[("AME_PASS_OPT", "-fresh")]).contains("ame_write_slow"));
}

#[test]
fn calls_that_may_end_the_transaction_kill_barriers() {
    let ir = |callee: &str| {
        format!("{callee}\ndefine i64 @f(ptr %p) {{ %a = load i64, ptr %p, align 8\n call void @g()\n %b = load i64, ptr %p, align 8\n ret i64 %b }}")
    };
    let checks = |callee, options| {
        opt(&ir(callee), BOTH, options)
            .matches("ame_read_slow")
            .count()
    };
    assert_eq!(checks("declare void @g()", &[]), 2);
    assert_eq!(checks("declare void @g() \"ame\"=\"pure\"", &[]), 1);
    let quiet = "define internal void @g() noinline { ret void }";
    assert_eq!(checks(quiet, &[]), 1);
    assert_eq!(checks(quiet, &[("AME_PASS_OPT", "-summary")]), 2);
    let loud =
        "declare void @h()\ndefine internal void @g() noinline { call void @h()\n ret void }";
    assert_eq!(checks(loud, &[]), 2);
}

#[test]
fn running_twice_changes_nothing() {
    let ir = "define void @f(ptr %p) { store i64 1, ptr %p, align 8\n ret void }";
    let once = opt(ir, BOTH, &[]);
    assert_eq!(once, opt(ir, &format!("{BOTH},{BOTH}"), &[]));
}

const KINDS: &str = r#"
%struct.s.7 = type { i64, ptr, i32, i32, i64, [4 x i64] }
define i64 @f(ptr %p) {
  %local = alloca ptr
  %refs = getelementptr inbounds %struct.s.7, ptr %p, i32 0, i32 0
  %a = load i64, ptr %refs, align 8
  %b = add i64 %a, 1
  store i64 %b, ptr %refs, align 8
  %type = getelementptr inbounds %struct.s.7, ptr %p, i32 0, i32 1
  %t = load ptr, ptr %type, align 8
  store ptr null, ptr %type, align 8
  %priv = getelementptr inbounds %struct.s.7, ptr %p, i32 0, i32 2
  store i32 1, ptr %priv, align 4
  %racy = getelementptr inbounds %struct.s.7, ptr %p, i32 0, i32 3
  store ptr %racy, ptr %local, align 8
  %again = load ptr, ptr %local, align 8
  store i32 2, ptr %again, align 4
  %id = getelementptr inbounds %struct.s.7, ptr %p, i32 0, i32 4
  %old = load i64, ptr %id, align 8
  %new = add i64 %old, 1
  store i64 %new, ptr %id, align 8
  %mine = getelementptr inbounds %struct.s.7, ptr %p, i32 0, i32 5, i64 1
  store i64 3, ptr %mine, align 8
  ret i64 %old
}
"#;

#[test]
fn kinds_of_fields_from_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("s.toml");
    let rules = [
        ("refs", "refcount", 0, 8),
        ("type", "immutable", 8, 8),
        ("priv", "private", 16, 4),
        ("racy", "racy", 20, 4),
        ("id", "unique", 24, 8),
        ("mine", "per_thread", 32, 32),
    ];
    let mut text = "name = \"s\"\n[struct.s]\n".to_owned();
    for (field, kind, offset, size) in rules {
        text += &format!("{field} = {{ kind = \"{kind}\", offset = {offset}, size = {size} }}\n");
    }
    std::fs::write(&set, text).unwrap();
    let path = set.to_str().unwrap();
    insta::assert_snapshot!(
        "kinds_tagged",
        opt(KINDS, "ame-tag", &[("AME_ANNOTATIONS", path)])
    );
    insta::assert_snapshot!("kinds", opt(KINDS, BOTH, &[("AME_ANNOTATIONS", path)]));
}

/// The front end assigns small structs by memcpy, of which the optimiser makes an unmarked store.
#[test]
fn small_copies_have_kinds() {
    let ir = |size: u32| {
        format!(
            "%struct.s = type {{ i64, i64 }}\ndefine void @f(ptr %p, ptr %q) {{ \
             %r = getelementptr inbounds %struct.s, ptr %p, i32 0, i32 1\n \
             call void @llvm.memcpy.p0.p0.i64(ptr align 2 %r, ptr align 2 %q, i64 {size}, i1 false)\n \
             ret void }}\ndeclare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"
        )
    };
    let (_folder, path) = set("[struct.s]\nracy = { kind = \"racy\", offset = 8, size = 8 }\n");
    let passes = "ame-tag,function(instcombine),ame-instrument";
    let out = opt(&ir(2), passes, &[("AME_ANNOTATIONS", &path)]);
    assert!(
        out.contains("store i16") && out.contains("ame_read_slow"),
        "{out}"
    );
    assert!(!out.contains("ame_write_slow"), "{out}");
    // Without the kind of a field it stays what it is.
    let out = opt(&ir(2), passes, &[]);
    assert!(out.contains("ame_write_slow"), "{out}");
    let out = opt(&ir(16), "ame-tag", &[("AME_ANNOTATIONS", &path)]);
    assert!(out.contains("llvm.memcpy"), "{out}");
}

/// Beside `private`, which is logged at each write: where an object is used again and again, one lock
/// and one log entry do for the transaction.
#[test]
fn recycled() {
    let (_folder, path) =
        set("[struct.r]\nvalue = { kind = \"recycled\", offset = 16, size = 8 }\n");
    let ir = opt(
        "%struct.r = type { i64, ptr, double }
         define double @again(ptr %p, double %x) {
           %value = getelementptr inbounds %struct.r, ptr %p, i32 0, i32 2
           %old = load double, ptr %value, align 8
           store double %x, ptr %value, align 8
           ret double %old
         }",
        BOTH,
        &[("AME_ANNOTATIONS", &path)],
    );
    insta::assert_snapshot!(ir);
}

/// A set file with this text.
fn set(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    std::fs::write(&path, format!("name = \"s\"\n{text}")).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// Where a set says what is hot, the others' barriers are single pieces of assembly.
#[test]
fn compact() {
    let stores: String = (0..12)
        .map(|i| {
            format!(
                "%q{i} = getelementptr i8, ptr %p, i64 {}\n store i64 1, ptr %q{i}, align 8\n",
                i * 32
            )
        })
        .collect();
    let ir = format!("define void @f(ptr %p) {{ {stores} ret void }}");
    let (_folder, path) = set("hot = [\"g*\"]");
    let with_set = ("AME_ANNOTATIONS", path.as_str());
    let compact = opt(&ir, BOTH, &[with_set]);
    let ordinary = opt(&ir, BOTH, &[]);
    assert_ne!(compact, ordinary);
    assert_eq!(
        opt(&ir, BOTH, &[with_set, ("AME_PASS_OPT", "-compact")]),
        ordinary
    );
    insta::assert_snapshot!(compact);
}

const HOT: &str = r#"
%struct.s = type { i64, i64 }
@labels = internal constant [2 x ptr] [ptr blockaddress(@hot, %one), ptr blockaddress(@hot, %two)]
@pointer = global ptr @hot
declare void @unknown()
define internal void @helper(ptr %p) noinline {
  %v = load i64, ptr %p, align 8
  %w = add i64 %v, 1
  store i64 %w, ptr %p, align 8
  ret void
}
define i64 @hot(ptr %p, i64 %i) {
  %slot = getelementptr [2 x ptr], ptr @labels, i64 0, i64 %i
  %label = load ptr, ptr %slot, align 8
  indirectbr ptr %label, [label %one, label %two]
one:
  call void @helper(ptr %p)
  ret i64 1
two:
  %q = getelementptr %struct.s, ptr %p, i32 0, i32 1
  %v = load i64, ptr %q, align 8
  call void @unknown()
  ret i64 %v
}
define void @cold(ptr %p) {
  call i64 @hot(ptr %p, i64 0)
  ret void
}
"#;

/// The dispatcher keeps the name and the uses; clones call clones, bodies bodies; each has its own
/// labels; markers of counts become additions.
#[test]
fn hot_functions_have_plain_clones() {
    let rules = "hot = [\"hot\", \"help*\"]\nbalanced = true\n[struct.s]\ncount = { kind = \"refcount\", offset = 0, size = 8 }";
    let (_folder, path) = set(rules);
    let with_set = ("AME_ANNOTATIONS", path.as_str());
    let on = opt(HOT, BOTH, &[with_set]);
    insta::assert_snapshot!(on);
    let off = opt(HOT, BOTH, &[with_set, ("AME_PASS_OPT", "-clone")]);
    assert!(!off.contains(".plain"));
}

/// Number of checks in what the pass makes of it.
fn checks(ir: &str) -> usize {
    opt(ir, BOTH, &[]).matches("icmp ult").count()
}

/// What is held before a quiet call is held after it, and new memory needs no check until a transaction may end.
#[test]
fn quiet_functions_and_those_that_allocate() {
    let around = |word: &str| {
        format!(
            "declare void @g() {word}\n\
             define void @f(ptr %p) {{ store i64 1, ptr %p, align 8\n call void @g()\n store i64 2, ptr %p, align 8\n ret void }}"
        )
    };
    assert_eq!(checks(&around("\"ame\"=\"quiet\"")), 1);
    assert_eq!(checks(&around("")), 2);
    let new = |word: &str, between: &str| {
        format!(
            "declare ptr @g() {word}\ndeclare void @h()\n\
             define void @f() {{ %p = call ptr @g()\n {between} store i64 1, ptr %p, align 8\n ret void }}"
        )
    };
    assert_eq!(checks(&new("\"ame\"=\"allocates\"", "")), 0);
    assert_eq!(checks(&new("\"ame\"=\"allocates\"", "call void @h()\n")), 1);
    assert_eq!(checks(&new("", "")), 1);
}

/// A rule may be for calls alone: others compare the function's address.
#[test]
fn pointers_are_replaced_or_not() {
    let ir = "declare void @g()\n\
        define ptr @f() { call void @g()\n call void @g()\n ret ptr @g }";
    for (key, pointers) in [("true", "other"), ("false", "g")] {
        let (_folder, path) = set(&format!(
            "[function.g]\nreplace = \"other\"\nreplace_pointers = {key}"
        ));
        let out = opt(ir, BOTH, &[("AME_ANNOTATIONS", path.as_str())]);
        assert_eq!(out.matches("call void @other()").count(), 2, "{out}");
        assert!(out.contains(&format!("ret ptr @{pointers}")), "{out}");
    }
}

/// Bodies of hot functions look for themselves whether they run in a transaction, clones and others ask.
#[test]
fn hot_bodies_know_whether_they_are_in_a_transaction() {
    let (_folder, path) = set("hot = [\"f\"]\nbalanced = true");
    let ir = "declare i32 @ame_in_transaction()\n\
        define i32 @f() { %v = call i32 @ame_in_transaction()\n ret i32 %v }\n\
        define i32 @g() { %v = call i32 @ame_in_transaction()\n ret i32 %v }";
    let out = opt(ir, BOTH, &[("AME_ANNOTATIONS", path.as_str())]);
    let asks = |name| body(&out, name).contains("call i32 @ame_in_transaction()");
    assert!(!asks("f.transaction"));
    assert!(asks("f.plain") && asks("g"));
}

/// Also where only the name of a function says that it is no part of transactions.
#[test]
fn counts_in_functions_of_the_runtime_are_additions() {
    let (_folder, path) = set("[struct.s]\ncount = { kind = \"refcount\", offset = 0, size = 8 }");
    let ir = "%struct.s = type { i64 }\n\
        define void @ame_helper(ptr %p) { %c = getelementptr inbounds %struct.s, ptr %p, i32 0, i32 0\n \
        %v = load i64, ptr %c, align 8, !tbaa !0\n %w = add i64 %v, 1\n store i64 %w, ptr %c, align 8, !tbaa !0\n ret void }\n\
        !0 = !{!1, !3, i64 0}\n!1 = !{!\"s\", !3, i64 0}\n!2 = !{!\"c\"}\n!3 = !{!\"long\", !2}";
    let out = opt(ir, BOTH, &[("AME_ANNOTATIONS", path.as_str())]);
    assert!(!out.contains("ame.count."), "{out}");
}

/// The definition of a function.
fn body<'a>(ir: &'a str, name: &str) -> &'a str {
    let place = format!("@{name}(");
    let rest = ir
        .split("\ndefine ")
        .find(|text| text.lines().next().unwrap().contains(&place));
    rest.unwrap().split_once("\n}").unwrap().0
}

/// The question is answered before the optimiser looks, and clones of what hot functions call know it, too.
#[test]
fn code_knows_whether_it_is_a_clone() {
    let (_folder, path) = set("hot = [\"hot\"]\nbalanced = true");
    let ir = "declare i32 @ame_is_clone()\n\
        define internal i32 @helper() noinline { %v = call i32 @ame_is_clone()\n ret i32 %v }\n\
        define i32 @hot() { %v = call i32 @helper()\n %w = call i32 @ame_is_clone()\n %s = shl i32 %w, %v\n ret i32 %s }\n\
        define i32 @cold() { %v = call i32 @hot()\n ret i32 %v }";
    let out = opt(ir, BOTH, &[("AME_ANNOTATIONS", path.as_str())]);
    assert!(!out.contains("ame_is_clone"));
    let body = |name| body(&out, name);
    assert!(body("helper").contains("ret i32 0") && body("helper.plain").contains("ret i32 1"));
    assert!(
        body("hot.transaction").contains("shl i32 0") && body("hot.plain").contains("shl i32 1")
    );
    assert!(body("hot.plain").contains("call i32 @helper.plain()"));
}

/// A clone calls what the source says where a replacement is for transactions only.
#[test]
fn clones_may_keep_what_is_replaced() {
    let rules = "hot = [\"hot\", \"gone\"]\nbalanced = true\n\
        [function.gone]\nreplace = \"other\"\n\
        [function.kept]\nreplace = \"other\"\nreplace_in_clones = false\n\
        [function.far]\nreplace = \"other\"\nreplace_in_clones = false";
    let (_folder, path) = set(rules);
    let ir = "declare void @far()\n\
        define void @gone() noinline { ret void }\n\
        define internal void @kept() noinline { ret void }\n\
        define void @hot() { call void @gone()\n call void @kept()\n call void @far()\n ret void }";
    let out = opt(ir, BOTH, &[("AME_ANNOTATIONS", path.as_str())]);
    assert!(!out.contains("@gone.plain"));
    let clone = body(&out, "hot.plain");
    for call in ["@other()", "@kept.plain()", "@far()"] {
        assert_eq!(
            clone.matches(&format!("call void {call}")).count(),
            1,
            "{call} in {clone}"
        );
    }
    let body = body(&out, "hot.transaction");
    assert_eq!(body.matches("call void @other()").count(), 3, "{body}");
}

/// regression: CPython's handle_signals was a part of its caller before it could become inevitable.
#[test]
fn bodies_with_a_kind_stay_functions() {
    for (kind, step) in [
        ("inevitable", "ame_make_inevitable"),
        ("exclusive", "ame_make_exclusive"),
    ] {
        let ir = opt(
            &format!(
                "define internal void @own(ptr %p) alwaysinline \"ame\"=\"{kind}\" {{ store i32 1, ptr %p\n ret void }}\n\
                 define void @f(ptr %p) {{ call void @own(ptr %p)\n ret void }}"
            ),
            "ame-tag,always-inline,cgscc(inline),ame-instrument",
            &[],
        );
        assert!(body(&ir, "own").contains(step), "{ir}");
        assert!(body(&ir, "f").contains("call void @own"), "{ir}");
    }
}

#[test]
fn calls_of_functions_said_to_be_instrumented_do_not_look() {
    let (_folder, path) = set("instrumented = [\"there_*\"]");
    let ir = "declare void @there_f()\ndeclare void @elsewhere()\n\
              define void @f() { call void @there_f()\n call void @elsewhere()\n ret void }";
    let code = opt(ir, BOTH, &[("AME_ANNOTATIONS", path.as_str())]);
    let lookups = |name: &str| code.matches(&format!("(ptr @{name})")).count();
    assert_eq!((lookups("there_f"), lookups("elsewhere")), (0, 1), "{code}");
}

/// Unless the set promises balance, a plain clone looks after calls that might begin a transaction;
/// what cannot be cloned rightly is left alone.
#[test]
fn plain_clones_look_after_calls() {
    let (_folder, path) = set("hot = [\"*\"]");
    let clones = |ir: &str| opt(ir, BOTH, &[("AME_ANNOTATIONS", path.as_str())]);
    let checked = clones(HOT);
    assert_eq!(checked.matches("call void @ame_unbalanced").count(), 1);
    for (ir, why) in [
        ("declare void @ame_begin()\ndefine void @f() { call void @ame_begin()\n ret void }", "begins"),
        ("declare i32 @setjmp(ptr) returns_twice\ndefine i32 @f(ptr %p) { %v = call i32 @setjmp(ptr %p) returns_twice\n ret i32 %v }", "returns twice"),
        ("define void @f(ptr %p, ...) { store i32 1, ptr %p\n ret void }", "variadic"),
        ("@t = global ptr blockaddress(@f, %b)\ndefine i32 @f(ptr %p) { indirectbr ptr %p, [label %a, label %b]\na: ret i32 1\nb: ret i32 2 }", "labels known elsewhere"),
        ("define void @f(ptr %p) noinline optnone { store i32 1, ptr %p\n ret void }", "not optimised"),
    ] {
        assert!(!clones(ir).contains(".plain"), "{why}");
    }
}
