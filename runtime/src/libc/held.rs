//! Locks that the current transaction has taken or given back: the part of its effects that
//! rollback takes back.
//!
//! A lock is taken for real at once and given back for real at commit, so that code outside
//! transactions is kept out until then. In between the program may unlock and lock again: that
//! only counts here. Equations for each entry:
//!
//! - real acquisitions by this transaction: `taken`, given back at rollback;
//! - pending releases, `due` at commit; more of them than `taken` when it releases what the thread
//!   held before the transaction.
//!
//! Releases are done in the order in which the program called for them. Other processes may look: one that gets
//! a lock must find the semaphores posted that were posted before the lock was given back.
//!
//! The words of these locks are what other threads make of them (who waits, for example). So a
//! rollback does not put their bytes back: it leaves them out and releases the lock instead.

use std::ffi::c_int;
use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Mutex,
    ReadWrite,
    Spin,
    Semaphore,
}

impl Class {
    /// Size of the object in bytes.
    pub fn size(self) -> usize {
        match self {
            Class::Mutex => size_of::<libc::pthread_mutex_t>(),
            Class::ReadWrite => size_of::<libc::pthread_rwlock_t>(),
            Class::Spin => size_of::<libc::pthread_spinlock_t>(),
            Class::Semaphore => size_of::<libc::sem_t>(),
        }
    }

    /// Releases for real; an error code or 0.
    ///
    /// # Safety
    /// `lock` is such an object.
    pub unsafe fn release(self, lock: usize) -> c_int {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Class::Mutex => libc::pthread_mutex_unlock(lock as *mut _),
                Class::ReadWrite => libc::pthread_rwlock_unlock(lock as *mut _),
                Class::Spin => libc::pthread_spin_unlock(lock as *mut _),
                Class::Semaphore => match libc::sem_post(lock as *mut _) {
                    0 => 0,
                    _ => *libc::__errno_location(),
                },
            }
        }
    }
}

struct Entry {
    lock: usize,
    class: Class,
    /// Taken for writing.
    exclusive: bool,
    taken: u32,
}

#[derive(Default)]
pub struct Held {
    entries: Vec<Entry>,
    /// The locks of all pending releases, in order.
    due: Vec<usize>,
}

impl Held {
    fn find(&mut self, lock: usize) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.lock == lock)
    }

    fn entry(&mut self, lock: usize, class: Class) -> &mut Entry {
        let at = match self.entries.iter().position(|entry| entry.lock == lock) {
            Some(at) => at,
            None => {
                self.entries.push(Entry {
                    lock,
                    class,
                    exclusive: false,
                    taken: 0,
                });
                self.entries.len() - 1
            }
        };
        &mut self.entries[at]
    }

    /// How often the lock will be released at commit.
    pub fn pending(&self, lock: usize) -> u32 {
        self.due.iter().filter(|&&due| due == lock).count() as u32
    }

    pub fn contains(&self, lock: usize) -> bool {
        self.entries.iter().any(|entry| entry.lock == lock)
    }

    /// Whether the transaction holds the lock for real while the program thinks that it has
    /// released it.
    pub fn is_pending(&self, lock: usize) -> bool {
        self.due.contains(&lock)
    }

    /// Takes a pending release back. `exclusive`: only if the lock is held for writing.
    pub fn reacquire(&mut self, lock: usize, exclusive: bool) -> bool {
        let Some(last) = self.due.iter().rposition(|&due| due == lock) else {
            return false;
        };
        let suits = !exclusive || self.find(lock).is_some_and(|entry| entry.exclusive);
        if suits {
            self.due.remove(last);
        }
        suits
    }

    /// Notes a real acquisition.
    pub fn take(&mut self, lock: usize, class: Class, exclusive: bool) {
        let entry = self.entry(lock, class);
        entry.taken += 1;
        entry.exclusive = exclusive;
    }

    /// Notes a release to do at commit.
    pub fn release(&mut self, lock: usize, class: Class) {
        self.entry(lock, class);
        self.due.push(lock);
    }

    /// The bytes of the locks, in ascending order.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<_> = self
            .entries
            .iter()
            .map(|entry| entry.lock..entry.lock + entry.class.size())
            .collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// Gives back what the program has given back.
    pub fn commit(&mut self) {
        for lock in std::mem::take(&mut self.due) {
            let entry = self.find(lock).expect("a release has an entry");
            // SAFETY: a lock of the program, in memory that is freed after this.
            let code = unsafe { entry.class.release(lock) };
            if code != 0 {
                complain(entry, code);
            }
        }
        self.entries.clear();
    }

    /// Gives back what the transaction took.
    pub fn abort(&mut self) {
        self.due.clear();
        for entry in self.entries.drain(..) {
            for _ in 0..entry.taken {
                // SAFETY: it was taken by this thread, and existed before the transaction.
                unsafe { entry.class.release(entry.lock) };
            }
        }
    }
}

#[cold]
fn complain(entry: &Entry, code: c_int) {
    eprintln!(
        "ame: releasing the {:?} at {:#x} at the commit of a transaction failed: {}",
        entry.class,
        entry.lock,
        std::io::Error::from_raw_os_error(code)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock and a semaphore that is posted under it: never the lock first.
    #[test]
    fn releases_are_due_in_the_order_of_the_program() {
        let (lock, semaphore) = (16, 32);
        let mut held = Held::default();
        held.take(lock, Class::Mutex, true);
        held.release(semaphore, Class::Semaphore);
        held.release(lock, Class::Mutex);
        assert_eq!(held.due, [semaphore, lock]);
        // Taken again, and given back after another post.
        assert!(held.reacquire(lock, true));
        held.release(semaphore, Class::Semaphore);
        held.release(lock, Class::Mutex);
        assert_eq!(held.due, [semaphore, semaphore, lock]);
        assert_eq!(held.pending(semaphore), 2);
    }
}
