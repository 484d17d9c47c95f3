//! Domains: what one big lock protects. All transactions of a plain C program are in "main".

use crate::entry::ame_total_stats;
use crate::stats::Stats;
use std::ffi::{c_char, CStr, CString};
use std::sync::Mutex;

pub struct Domain {
    name: CString,
}

/// Most programs have one; an interpreter has one per extension.
const MAX_DOMAINS: usize = 256;

static DOMAINS: Mutex<Vec<&'static Domain>> = Mutex::new(Vec::new());

/// # Safety
/// `name` is a C string.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_open(name: *const c_char) -> *const Domain {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    let _hold = crate::signal::hold();
    let mut domains = DOMAINS.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(domain) = domains.iter().find(|d| d.name.as_c_str() == name) {
        return *domain;
    }
    if domains.len() == MAX_DOMAINS {
        return std::ptr::null();
    }
    let domain: &'static Domain = Box::leak(Box::new(Domain {
        name: name.to_owned(),
    }));
    domains.push(domain);
    domain
}

/// # Safety
/// `domain` came from `ame_domain_open`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_name(domain: *const Domain) -> *const c_char {
    // SAFETY: the caller's promise; domains live forever.
    unsafe { (*domain).name.as_ptr() }
}

/// # Safety
/// As above; `out` is valid.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_stats(domain: *const Domain, out: *mut Stats) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*domain).name.as_c_str() == c"main" {
            ame_total_stats(out);
        } else {
            out.write(Stats::default());
        }
    }
}
