//! The address window: granule indices are 32 bits, so two addresses that are equal modulo 64 GiB
//! share marks and locks. Fresh and private granules are stamped without a lock, which is only
//! right when no two mapped addresses alias. The heap arena is placed so that they do not, and
//! every module that registers is checked.

use crate::fatal;
use ame_abi::WINDOW;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::OnceLock;

pub struct Arena {
    pub start: usize,
    pub bytes: usize,
}

/// The allocator takes memory in pieces of this size.
pub const ARENA_PIECE: usize = 8 << 30;
/// Most pieces of an arena: half of the window.
const MOST_PIECES: usize = 4;
/// What has to do where mappings at random places, of another allocator perhaps, leave no room for a piece. One of
/// these always fits between four of them.
const SMALL_ARENAS: [usize; 2] = [4 << 30, 2 << 30];
/// Where the arena may lie: multiples of the window above this address.
const ARENA_BASE: u64 = 0x3000_0000_0000;
/// Room for the break to grow above the executable, and for the mmap area to grow downwards.
const BREAK_ROOM: u64 = 4 << 30;
const MMAP_ROOM: u64 = 10 << 30;
/// Tables and arena: ours, never accessed through barriers, or placed on purpose.
const OURS: Range<u64> = 0x1200_0000_0000..0x4000_0000_0000;

#[derive(Clone)]
struct Mapping {
    range: Range<u64>,
    name: String,
    writable: bool,
}

/// Mappings of the process other than ours and the kernel's pages.
fn mappings() -> Vec<Mapping> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_else(|e| {
        fatal!("cannot read /proc/self/maps to place the heap: {e}. Is /proc mounted?")
    });
    text.lines()
        .filter_map(parse)
        .filter(|m| !OURS.contains(&m.range.start) && m.name != "[vsyscall]")
        .collect()
}

fn parse(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let writable = words.next()?.contains('w');
    let name = words.nth(3).unwrap_or("").to_owned();
    Some(Mapping {
        range: start..end,
        name,
        writable,
    })
}

/// Address ranges that are, or are likely to become, mapped: neighbours within the growth room
/// are joined.
fn occupied() -> Vec<Range<u64>> {
    let mut areas: Vec<Range<u64>> = Vec::new();
    for Mapping { range, .. } in mappings() {
        match areas.last_mut() {
            Some(last) if range.start - last.end < MMAP_ROOM => last.end = range.end,
            _ => areas.push(range),
        }
    }
    for area in &mut areas {
        if area.start >= 0x7000_0000_0000 {
            area.start -= MMAP_ROOM;
        } else {
            area.end += BREAK_ROOM;
        }
    }
    areas
}

/// Whether [a, a + a_len) and [b, b + b_len) share an address modulo the window.
fn alias(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    if a_len + b_len > WINDOW {
        return true;
    }
    let distance = b.wrapping_sub(a) % WINDOW;
    distance < a_len || WINDOW - distance < b_len || (distance == 0 && b_len > 0)
}

/// Finds a place for the arena that aliases nothing, and maps it.
pub fn place_arena() -> Arena {
    let occupied = occupied();
    match place(&occupied, wanted_pieces()) {
        Some((start, bytes)) => map(start as usize, bytes as usize),
        None => fatal!(
            "no room for a heap in the {} GiB address window: the process already maps {}. \
             Start with less mapped memory",
            WINDOW >> 30,
            describe(&occupied)
        ),
    }
}

/// Start and length of the largest arena of up to so many pieces that aliases nothing.
fn place(occupied: &[Range<u64>], most: usize) -> Option<(u64, u64)> {
    let whole = (1..=most).rev().map(|n| n * ARENA_PIECE);
    whole.chain(SMALL_ARENAS).find_map(|bytes| {
        let bytes = bytes as u64;
        // Never across the window's end, so that granule indices of the arena do not wrap.
        (0..=WINDOW - bytes)
            .step_by(1 << 30)
            .map(|offset| ARENA_BASE + offset)
            .find(|&start| {
                let mut areas = occupied.iter();
                areas.all(|r| !alias(start, bytes, r.start, r.end - r.start))
            })
            .map(|start| (start, bytes))
    })
}

/// As much as the machine has memory: a larger arena would only be in the way of other mappings.
fn wanted_pieces() -> usize {
    // SAFETY: plain queries.
    let memory = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) * libc::sysconf(libc::_SC_PAGESIZE) };
    (memory.max(0) as usize)
        .div_ceil(ARENA_PIECE)
        .clamp(1, MOST_PIECES)
}

fn describe(areas: &[Range<u64>]) -> String {
    areas
        .iter()
        .map(|r| format!("{:#x}-{:#x}", r.start, r.end))
        .collect::<Vec<_>>()
        .join(", ")
}

fn map(start: usize, bytes: usize) -> Arena {
    // SAFETY: NOREPLACE never touches existing mappings.
    let got = unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if got as usize != start {
        fatal!(
            "cannot reserve {} GiB of address space for the heap at {start:#x}: {}. \
             Check `ulimit -v`; `ame doctor` tells more",
            bytes >> 30,
            std::io::Error::last_os_error()
        );
    }
    Arena { start, bytes }
}

/// Whether a transaction has ever begun: before that, conflicts do no harm.
static USED: AtomicBool = AtomicBool::new(false);

/// Checks when a module registers. `of_program`: the module is the program itself, so that `main`
/// has not started.
pub fn check_new_mappings(of_program: bool) {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let used = USED.load(Ordering::Acquire);
    if !of_program && !used {
        return;
    }
    let all = everything();
    if SEEN.swap(all.len(), Ordering::Relaxed) == all.len() {
        return;
    }
    if of_program {
        let tries = tries_before();
        if conflict(&with_room(&all)).is_some() {
            start_again(tries);
        }
    }
    if let Some(found) = conflict(&all) {
        if used {
            stop(found);
        }
    }
}

/// Before the first transaction of the process.
pub fn first_use() {
    if !USED.swap(true, Ordering::AcqRel) {
        let all = everything();
        if let Some(found) = conflict(&all) {
            stop(found);
        }
    }
}

fn everything() -> Vec<Mapping> {
    let mut all = mappings();
    let arena = crate::heap::arena();
    all.push(Mapping {
        range: arena.start as u64..(arena.start + arena.bytes) as u64,
        name: "[ame heap]".into(),
        writable: true,
    });
    all
}

/// With what is likely to be mapped later, when it is too late to start again: the break above the
/// executable, thread stacks and libraries below the lowest mmap, and the main stack's growth.
fn with_room(all: &[Mapping]) -> Vec<Mapping> {
    const BREAK: u64 = 1 << 30;
    const MMAPS: u64 = 2 << 30;
    const STACK: u64 = 64 << 20;
    let room = |range| Mapping {
        range,
        name: "[room to grow]".into(),
        writable: true,
    };
    let of_process = || all.iter().filter(|m| !OURS.contains(&m.range.start));
    let is_high = |m: &&Mapping| m.range.start >= 0x7000_0000_0000;
    let mut result = all.to_vec();
    if let Some(start) = of_process().filter(is_high).map(|m| m.range.start).min() {
        result.push(room(start - MMAPS..start));
    }
    if let Some(end) = of_process()
        .filter(|m| !is_high(m))
        .map(|m| m.range.end)
        .max()
    {
        result.push(room(end..end + BREAK));
    }
    if let Some(stack) = all.iter().find(|m| m.name == "[stack]") {
        result.push(room(stack.range.start - STACK..stack.range.start));
    }
    result
}

fn stop((a, b): (&Mapping, &Mapping)) -> ! {
    fatal!(
        "address window conflict: {} at {:#x}-{:#x} and {} at {:#x}-{:#x} are equal modulo {} GiB, \
         so their locks would be shared. Run the program again (addresses are random), or without \
         address-space randomisation (`setarch -R`)",
        a.name,
        a.range.start,
        a.range.end,
        b.name,
        b.range.start,
        b.range.end,
        WINDOW >> 30
    )
}

/// Two writable mappings that alias. Constants may share marks with anything: a mark then says
/// more than it must, but no write goes without its undo.
fn conflict(all: &[Mapping]) -> Option<(&Mapping, &Mapping)> {
    let writable: Vec<&Mapping> = all.iter().filter(|m| m.writable).collect();
    for (i, a) in writable.iter().enumerate() {
        for b in &writable[..i] {
            let (ra, rb) = (&a.range, &b.range);
            if alias(ra.start, ra.end - ra.start, rb.start, rb.end - rb.start) {
                return Some((a, b));
            }
        }
    }
    None
}

const TRIES: &str = "AME_RESTARTS";

/// How often the process has started again. The variable that says so is not for the program to see.
fn tries_before() -> u32 {
    static BEFORE: OnceLock<u32> = OnceLock::new();
    *BEFORE.get_or_init(|| {
        let Ok(text) = std::env::var(TRIES) else {
            return 0;
        };
        std::env::remove_var(TRIES);
        // Only its own: a program may be started where nothing has removed it.
        text.split_once(':')
            .filter(|(pid, _)| pid.parse() == Ok(std::process::id()))
            .and_then(|(_, tries)| tries.parse().ok())
            .unwrap_or(0)
    })
}

/// Unlucky addresses, before `main`: runs the program anew, without randomisation where that is
/// permitted (containers often refuse it), else with new random addresses. Returns when that is not
/// possible or has not helped.
fn start_again(tries: u32) {
    /// One layout in about twenty is unlucky; twelve in a row do not happen by chance.
    const MOST: u32 = 12;
    if tries >= MOST {
        return;
    }
    let Ok(command) = std::fs::read("/proc/self/cmdline") else {
        return;
    };
    let words: Vec<std::ffi::CString> = command
        .split_inclusive(|&b| b == 0)
        .filter_map(|word| std::ffi::CString::from_vec_with_nul(word.to_vec()).ok())
        .collect();
    let mut argv: Vec<*const libc::c_char> = words.iter().map(|w| w.as_ptr()).collect();
    argv.push(std::ptr::null());
    std::env::set_var(TRIES, format!("{}:{}", std::process::id(), tries + 1));
    // SAFETY: plain system calls on C strings that live until exec; this early there is one thread.
    unsafe {
        let old = libc::personality(0xffff_ffff);
        if old >= 0 {
            // Refused or not: new random addresses are a second chance.
            libc::personality((old | libc::ADDR_NO_RANDOMIZE) as _);
        }
        libc::execv(c"/proc/self/exe".as_ptr(), argv.as_ptr());
        if old >= 0 {
            libc::personality(old as _);
        }
    }
    std::env::remove_var(TRIES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_found_in_both_directions() {
        let w = WINDOW;
        assert!(alias(0, 16, w, 16));
        assert!(alias(0, 16, w + 15, 1));
        assert!(!alias(0, 16, w + 16, 1));
        assert!(alias(5 * w + 8, 16, 0, 9));
        assert!(!alias(5 * w + 8, 16, 0, 8));
        assert!(alias(0, w, 5, 1));
        assert!(alias(w - 8, 16, 4, 1));
    }

    #[test]
    fn only_writable_mappings_conflict() {
        let mapping = |start: u64, writable| Mapping {
            range: start..start + 0x1000,
            name: String::new(),
            writable,
        };
        let data = mapping(0x5555_0000_0000, true);
        let aliased = 0x5555_0000_0000 + 3 * WINDOW;
        assert!(conflict(&[data.clone(), mapping(aliased, false)]).is_none());
        assert!(conflict(&[data.clone(), mapping(aliased, true)]).is_some());
        assert!(conflict(&[data, mapping(aliased + 0x1000, true)]).is_none());
    }

    #[test]
    fn room_for_thread_stacks_is_asked_for_at_start() {
        let mapping = |start: u64| Mapping {
            range: start..start + 0x1000,
            name: String::new(),
            writable: true,
        };
        let libraries = 0x7f00_0000_0000;
        let stacks_would_hit = mapping(0x5500_0000_0000 + libraries % WINDOW + WINDOW - (64 << 20));
        let far = mapping(0x5500_0000_0000 + libraries % WINDOW + WINDOW / 2);
        assert!(conflict(&[stacks_would_hit.clone(), mapping(libraries)]).is_none());
        assert!(conflict(&with_room(&[stacks_would_hit, mapping(libraries)])).is_some());
        assert!(conflict(&with_room(&[far, mapping(libraries)])).is_none());
    }

    #[test]
    fn map_lines_are_parsed() {
        let m = parse("7f00-7f10 r-xp 00000000 fe:00 123   /lib/libc.so.6").unwrap();
        assert_eq!((m.range.start, m.range.end), (0x7f00, 0x7f10));
        assert_eq!(m.name, "/lib/libc.so.6");
        assert!(!m.writable);
        assert_eq!(parse("a-b rw-p 0 0:0 0").unwrap().name, "");
        assert!(parse("nonsense").is_none());
    }

    #[test]
    fn a_small_arena_fits_where_a_piece_does_not() {
        // Seen with free-threaded CPython, whose allocator has an arena at a random place.
        let occupied = [
            0x271_dc00_0000..0x273_1c00_0000,
            0x5594_b03f_e000..0x5595_e4ab_b000,
            0x7f97_9280_0000..0x7f9a_13ef_3000,
            0x7ffb_92b1_6000..0x7ffe_12b3_7000,
        ];
        let (start, bytes) = place(&occupied, 4).unwrap();
        assert!(bytes < ARENA_PIECE as u64);
        for area in &occupied {
            assert!(!alias(start, bytes, area.start, area.end - area.start));
        }
        assert_eq!(place(&[], 3), Some((ARENA_BASE, 3 * ARENA_PIECE as u64)));
    }
}
