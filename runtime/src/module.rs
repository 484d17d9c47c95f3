//! Instrumented modules, and calls that leave them.

use crate::hook::Hook;
use crate::signal;
use crate::thread::Thread;
use crate::transaction;
use crate::{fatal, trace, window};
use ame_abi::{ABI_VERSION, PREFIX_LEN, PREFIX_MAGIC};
use std::collections::{HashMap, HashSet};
use std::ffi::{c_char, c_void, CStr};
use std::sync::{Mutex, RwLock};

/// `struct ame_known_function`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KnownFunction {
    address: *const c_void,
    kind: u64,
}

const KIND_INEVITABLE: u64 = 1;
const KIND_EXCLUSIVE: u64 = 2;
/// An instrumented function reached through a linkage stub.
const KIND_SAFE: u64 = 0;

/// Kind by address: what annotation sets say of external functions, and answers found before.
static KNOWN: RwLock<Option<HashMap<usize, u64>>> = RwLock::new(None);

/// Load addresses of what has registered: the program and shared libraries.
static REGISTERED: RwLock<Option<HashSet<usize>>> = RwLock::new(None);

/// `ame_set_plain_hook`.
pub static PLAIN_HOOK: Hook<extern "C" fn()> = Hook::new();

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_module_register(
    abi_version: u32,
    module: *const c_char,
    known: *const KnownFunction,
    n_known: usize,
) {
    crate::init();
    let _hold = signal::hold();
    // SAFETY: the pass emits a C string and an array of n_known entries.
    let (module, known) = unsafe {
        let known = if n_known == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(known, n_known)
        };
        (CStr::from_ptr(module), known)
    };
    if abi_version != ABI_VERSION {
        fatal!(
            "module {} was compiled for version {abi_version} of the runtime interface, this \
             runtime has version {ABI_VERSION}: compile it again with the plugin that belongs to \
             this runtime",
            module.to_string_lossy()
        );
    }
    window::check_new_mappings(in_program(module.as_ptr() as usize));
    if trace::enabled() {
        trace::modules();
    }
    if let Some(base) = load_address(module.as_ptr() as usize) {
        let mut registered = REGISTERED.write().unwrap_or_else(|e| e.into_inner());
        registered.get_or_insert_default().insert(base);
    }
    let mut table = KNOWN.write().unwrap_or_else(|e| e.into_inner());
    let table = table.get_or_insert_default();
    for function in known {
        if !function.address.is_null() {
            table.insert(function.address as usize, function.kind);
        }
    }
}

/// Where the program or the shared library that holds an address was loaded.
fn load_address(address: usize) -> Option<usize> {
    // SAFETY: dladdr fills `info` or returns 0.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        (libc::dladdr(address as *const c_void, &mut info) != 0).then_some(info.dli_fbase as usize)
    }
}

/// `ame_is_instrumented`.
pub fn is_registered(address: usize) -> bool {
    let registered = REGISTERED.read().unwrap_or_else(|e| e.into_inner());
    load_address(address)
        .zip(registered.as_ref())
        .is_some_and(|(base, registered)| registered.contains(&base))
}

/// Whether an address belongs to the main program and not to a shared library.
pub fn in_program(address: usize) -> bool {
    // SAFETY: dladdr fills `info` or returns 0; AT_PHDR is the program's own header table.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let mut program: libc::Dl_info = std::mem::zeroed();
        let header = libc::getauxval(libc::AT_PHDR) as *const c_void;
        libc::dladdr(address as *const c_void, &mut info) != 0
            && libc::dladdr(header, &mut program) != 0
            && info.dli_fbase == program.dli_fbase
    }
}

/// What instrumented code does before it calls `target` in a transaction, for calls from here.
pub fn prepare_call(thread: &mut Thread, target: usize) {
    if !instrumented(target) {
        call_unknown(thread, target, 0);
    }
}

/// Targets that a thread remembers to be safe.
pub const RECENT_TARGETS: usize = 64;

/// A call in a transaction to something without the prefix.
#[cold]
pub fn call_unknown(thread: &mut Thread, target: usize, pc: u64) {
    // The table is shared by all threads: what is called again and again is not looked up there.
    // Entries at the start of a page always come here, and have the same lower bits.
    let recent = (target >> 4 ^ target >> 12) % RECENT_TARGETS;
    if thread.safe_targets[recent] == target {
        return;
    }
    let _hold = signal::hold();
    let mut kind = lookup(target);
    if kind.is_none() {
        let real = through_stub(target);
        let safe = || instrumented(real) || crate::wrappers::is_wrapper(real);
        kind = lookup(real).or_else(|| safe().then_some(KIND_SAFE));
        if let Some(kind) = kind {
            remember(target, kind);
        }
    }
    match kind {
        Some(KIND_SAFE) => thread.safe_targets[recent] = target,
        Some(KIND_INEVITABLE) => transaction::make_inevitable(thread, pc),
        Some(_) => run_plain(thread, pc),
        None => {
            remember(target, KIND_EXCLUSIVE);
            if crate::config::config().warn {
                warn(target);
            }
            run_plain(thread, pc);
        }
    }
}

/// Code without barriers comes next.
fn run_plain(thread: &mut Thread, pc: u64) {
    transaction::make_exclusive(thread, pc);
    if let Some(hook) = PLAIN_HOOK.get() {
        hook();
    }
}

fn lookup(target: usize) -> Option<u64> {
    KNOWN
        .read()
        .unwrap_or_else(|e| e.into_inner())
        .as_ref()?
        .get(&target)
        .copied()
}

fn remember(target: usize, kind: u64) {
    let mut table = KNOWN.write().unwrap_or_else(|e| e.into_inner());
    table.get_or_insert_default().insert(target, kind);
}

/// Whether the 16 bytes before the entry say that the function is instrumented.
pub fn instrumented(target: usize) -> bool {
    let prefix = target - PREFIX_LEN as usize;
    let magic = match target & 0xff0 {
        // Code that was made at run time may begin at the start of a page, with none before it.
        0 => read_if_mapped(prefix),
        // SAFETY: in the page of the entry, or, of one that is not aligned, in its function.
        _ => Some(unsafe { std::ptr::read_unaligned(prefix as *const u64) }),
    };
    magic == Some(PREFIX_MAGIC)
}

fn read_if_mapped(address: usize) -> Option<u64> {
    let mut word = 0u64;
    let part = |start: *mut c_void| libc::iovec {
        iov_base: start,
        iov_len: size_of::<u64>(),
    };
    let (here, there) = (part((&raw mut word).cast()), part(address as *mut c_void));
    // SAFETY: the kernel copies to our word, if it can.
    let n = unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) };
    (n == size_of::<u64>() as isize).then_some(word)
}

/// Follows a procedure linkage table entry (`[endbr64;] jmp *offset(%rip)`) to its function.
fn through_stub(target: usize) -> usize {
    // SAFETY: the target is about to be called, so that its code is mapped; an entry has 16 bytes.
    let code = unsafe { std::slice::from_raw_parts(target as *const u8, 11) };
    let (jump, at) = match code {
        [0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, ..] => (&code[6..10], target + 10),
        [0xff, 0x25, ..] => (&code[2..6], target + 6),
        [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, ..] => (&code[7..11], target + 11),
        _ => return target,
    };
    let offset = i32::from_le_bytes([jump[0], jump[1], jump[2], jump[3]]);
    let slot = at.wrapping_add_signed(offset as isize);
    // SAFETY: the entry jumps through this slot of the global offset table.
    unsafe { *(slot as *const usize) }
}

fn warn(target: usize) {
    static NAMED: Mutex<()> = Mutex::new(());
    let _one_line = NAMED.lock();
    // SAFETY: dladdr fills `info` or returns 0.
    let name = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(target as *const c_void, &mut info) != 0 && !info.dli_sname.is_null() {
            CStr::from_ptr(info.dli_sname)
                .to_string_lossy()
                .into_owned()
        } else {
            format!("{target:#x}")
        }
    };
    eprintln!(
        "ame: transactions that call {name} run exclusively: it is not instrumented and no \
         annotation set names it"
    );
}
