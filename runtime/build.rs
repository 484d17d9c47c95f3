//! Compiles `stdio.c`: stable Rust cannot define variadic functions.

fn main() {
    println!("cargo:rerun-if-changed=src/libc/stdio.c");
    println!("cargo:rerun-if-changed=include/ame_rt.h");
    cc::Build::new()
        .file("src/libc/stdio.c")
        .std("gnu11")
        .warnings(true)
        .extra_warnings(true)
        .opt_level(2)
        .compile("ame_stdio");
}
