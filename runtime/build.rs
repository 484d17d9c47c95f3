//! Compiles `stdio.c`: stable Rust cannot define variadic functions. And chooses the linker, also of the tests.

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

    // rustc names exported symbols to the linker in an object of its own, where `ame_tls` is not
    // thread-local. LLVM's linker accepts that, GNU ld does not ("TLS definition mismatches non-TLS
    // reference"). Some toolchains use LLVM's by default, Debian's does not.
    let prefix = std::env::var("LLVM_SYS_191_PREFIX").unwrap_or("/usr/lib/llvm-19".into());
    println!("cargo:rerun-if-env-changed=LLVM_SYS_191_PREFIX");
    println!("cargo:rustc-link-arg=-fuse-ld=lld");
    println!("cargo:rustc-link-arg=-B{prefix}/bin");
}
