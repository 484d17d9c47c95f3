//! The wrappers by name: what an indirect call finds when a program keeps their addresses.
//!
//! The pass puts a wrapper in the place of the C library's function wherever its address is taken
//! (`free` as a callback, say). Wrappers have no prefix data, so the check before an indirect call
//! asks here.

use std::sync::OnceLock;

macro_rules! directory {
    ($($module:path: $($name:ident)*;)*) => {
        /// Names and addresses.
        pub fn names() -> &'static [(&'static str, usize)] {
            static NAMES: OnceLock<Vec<(&'static str, usize)>> = OnceLock::new();
            NAMES.get_or_init(|| vec![$($((
                stringify!($name),
                {
                    use $module as module;
                    module::$name as *const () as usize
                },
            ),)*)*])
        }
    };
}

directory! {
    crate::heap:
        ame_malloc ame_calloc ame_aligned_alloc ame_memalign ame_posix_memalign ame_free
        ame_realloc ame_reallocarray ame_malloc_usable_size;
    crate::wrappers::c11:
        ame_mtx_lock ame_mtx_trylock ame_mtx_timedlock ame_mtx_unlock ame_mtx_destroy
        ame_cnd_wait ame_cnd_timedwait ame_cnd_signal ame_cnd_broadcast ame_cnd_destroy ame_thrd_create;
    crate::wrappers::condition:
        ame_pthread_cond_wait ame_pthread_cond_timedwait ame_pthread_cond_clockwait
        ame_pthread_cond_signal ame_pthread_cond_broadcast ame_pthread_cond_destroy;
    crate::wrappers::format:
        ame_printf ame_fprintf ame_dprintf ame_snprintf ame_sprintf ame_asprintf ame_vprintf
        ame_vfprintf ame_vdprintf ame_vsnprintf ame_vsprintf ame_vasprintf ame_printf_chk
        ame_fprintf_chk ame_snprintf_chk ame_sprintf_chk ame_vprintf_chk ame_vfprintf_chk
        ame_vsnprintf_chk ame_vsprintf_chk;
    crate::wrappers::mutex:
        ame_pthread_mutex_lock ame_pthread_mutex_trylock ame_pthread_mutex_clocklock
        ame_pthread_mutex_timedlock ame_pthread_mutex_unlock ame_pthread_mutex_destroy
        ame_pthread_spin_lock ame_pthread_spin_trylock ame_pthread_spin_unlock;
    crate::wrappers::numbers:
        ame_strtol ame_strtoul ame_strtoll ame_strtoull ame_strtod ame_strtof ame_atoi
        ame_atol ame_atoll ame_atof;
    crate::wrappers::output:
        ame_fwrite ame_fputs ame_puts ame_fputc ame_putc ame_putchar ame_fflush ame_perror
        ame_write ame_close;
    crate::wrappers::rwlock:
        ame_pthread_rwlock_rdlock ame_pthread_rwlock_tryrdlock
        ame_pthread_rwlock_timedrdlock ame_pthread_rwlock_clockrdlock
        ame_pthread_rwlock_wrlock ame_pthread_rwlock_trywrlock
        ame_pthread_rwlock_timedwrlock ame_pthread_rwlock_clockwrlock
        ame_pthread_rwlock_unlock ame_pthread_rwlock_destroy;
    crate::wrappers::search:
        ame_strchrnul ame_strchr ame_strrchr ame_rawmemchr ame_strstr ame_strcasestr
        ame_strcspn ame_strspn ame_strpbrk ame_strtok_r ame_strsep;
    crate::wrappers::semaphore:
        ame_sem_wait ame_sem_trywait ame_sem_clockwait ame_sem_timedwait ame_sem_post
        ame_sem_getvalue;
    crate::wrappers::signals:
        ame_sigaction ame_signal ame_sysv_signal ame_siginterrupt;
    crate::wrappers::sort:
        ame_qsort ame_bsearch;
    crate::wrappers::strings:
        ame_strlen ame_strnlen ame_strcmp ame_strncmp ame_strcasecmp ame_strncasecmp
        ame_stpcpy ame_strcpy ame_stpncpy ame_strncpy ame_strcat ame_strncat ame_strdup
        ame_strndup;
    crate::wrappers::threads:
        ame_pthread_create ame_fork;
}

/// Whether `address` is the entry of a wrapper.
pub fn is_wrapper(address: usize) -> bool {
    static SORTED: OnceLock<Vec<usize>> = OnceLock::new();
    SORTED
        .get_or_init(|| {
            let mut sorted: Vec<usize> = names().iter().map(|(_, address)| *address).collect();
            sorted.extend(super::operators::own());
            sorted.sort_unstable();
            sorted
        })
        .binary_search(&address)
        .is_ok()
}
