//! What the kernel must allow: the runtime reserves a lot of address space and touches little.

use super::{Check, Status};
use std::io::Error;

/// Mark table of one thread: a `u16` per granule of the window.
const MARKS: u64 = (ame_abi::GRANULE_MASK + 1) * 2;
/// Threads that should find room when address space is limited.
const THREADS: u64 = 16;

pub fn checks() -> Vec<Check> {
    vec![
        processor(),
        setting("overcommit_memory", "vm/overcommit_memory", |value| {
            (value == 2).then_some((
                Status::Failed,
                "tables of 8 GiB per thread are reserved and hardly touched, which strict \
                 accounting refuses: sudo sysctl vm.overcommit_memory=0",
            ))
        }),
        setting("max_map_count", "vm/max_map_count", |value| {
            (value < 16_384).then_some((
                Status::Warning,
                "many threads with dropped tables need mappings: sudo sysctl vm.max_map_count=65530",
            ))
        }),
        address_space_limit(),
        reservation(),
        setting("address layout", "kernel/randomize_va_space", |_| None),
        membarrier(),
        setting("perf events", "kernel/perf_event_paranoid", |value| {
            (value > 2).then_some((
                Status::Warning,
                "only profiling with perf needs it: sudo sysctl kernel.perf_event_paranoid=2",
            ))
        }),
    ]
}

fn processor() -> Check {
    if cfg!(target_arch = "x86_64") {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
        if threads == 1 {
            return Check::bad(
                "processor",
                Status::Warning,
                "x86-64, 1 core: transactions are correct but cannot run in parallel",
                "use a machine with more cores",
            );
        }
        return Check::ok("processor", format!("x86-64, {threads} cores"));
    }
    Check::bad(
        "processor",
        Status::Failed,
        format!("{} is not supported", std::env::consts::ARCH),
        "use an x86-64 machine",
    )
}

/// A number in /proc/sys, with a judgement about bad values.
fn setting(
    name: &'static str,
    path: &str,
    judge: impl Fn(i64) -> Option<(Status, &'static str)>,
) -> Check {
    let full = format!("/proc/sys/{path}");
    let value = std::fs::read_to_string(&full)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let Some(value) = value else {
        return Check::bad(name, Status::Skipped, format!("{full} cannot be read"), "");
    };
    let found = format!("{} = {value}", path.replace('/', "."));
    match judge(value) {
        None => Check::ok(name, found),
        Some((status, advice)) => Check::bad(name, status, found, advice),
    }
}

fn gib(bytes: u64) -> u64 {
    bytes >> 30
}

fn address_space_limit() -> Check {
    let name = "address space limit";
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live rlimit, which the call fills.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } != 0;
    if failed || limit.rlim_cur == libc::RLIM_INFINITY {
        return Check::ok(name, "unlimited");
    }
    let found = format!("{} GiB", gib(limit.rlim_cur));
    // Lock table and arena take as much as a few threads' marks.
    if limit.rlim_cur < MARKS * (THREADS + 8) {
        return Check::bad(
            name,
            Status::Failed,
            found,
            format!(
                "each thread reserves {} GiB of address space: ulimit -v unlimited",
                gib(MARKS)
            ),
        );
    }
    Check::ok(name, found)
}

/// Reserves what 16 threads' tables take, as the runtime does, and gives it back.
fn reservation() -> Check {
    let name = "reservation";
    let bytes = MARKS * THREADS;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Check::bad(
            name,
            Status::Failed,
            format!(
                "{} GiB cannot be reserved: {}",
                gib(bytes),
                Error::last_os_error()
            ),
            "lift the limit on address space (ulimit -v, container limits) or strict overcommit",
        );
    }
    // SAFETY: exactly the mapping made above, which nobody else knows of.
    unsafe { libc::munmap(address, bytes as usize) };
    Check::ok(
        name,
        format!(
            "{} GiB can be reserved (tables of {THREADS} threads)",
            gib(bytes)
        ),
    )
}

fn membarrier() -> Check {
    const CMD_QUERY: libc::c_int = 0;
    const CMD_PRIVATE_EXPEDITED: libc::c_long = 1 << 3;
    let name = "membarrier";
    // SAFETY: the query takes no pointers and changes nothing.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, CMD_QUERY, 0, 0) };
    if commands >= 0 && commands & CMD_PRIVATE_EXPEDITED != 0 {
        return Check::ok(name, "available");
    }
    Check::bad(
        name,
        Status::Warning,
        "not available (old kernel, or forbidden by a sandbox)",
        "some fences cost more without it; a Linux kernel from 4.14 on has it",
    )
}
