//! Effects outside memory that wait for the commit of their transaction.
//!
//! They are performed in program order, while the transaction still holds everything that it has
//! touched: whoever sees what it wrote prints later than it. When it becomes inevitable it can no
//! longer be rolled back, so what has been deferred is performed at once, and later effects go
//! straight to the C library; again in program order, with the output of uninstrumented code too.
//! Functions that the program registers with `ame_on_commit` run after all of these.
//!
//! A deferred call has returned what it returns on success: a stream's or descriptor's error at
//! commit cannot be returned any more. The first one of the process is reported on stderr; the
//! stream's error indicator is set as usual, for a later `ferror`.
//!
//! A transaction whose commit blocks (a full pipe) keeps others out, as it would with a lock around
//! it.

use super::held::Held;
use libc::FILE;
use std::ffi::{c_int, c_void};
use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};

pub enum Effect {
    /// Bytes for a stream.
    Stream {
        stream: *mut FILE,
        bytes: Vec<u8>,
    },
    /// fflush; null for all streams.
    Flush {
        stream: *mut FILE,
    },
    /// Bytes for a descriptor.
    Write {
        fd: c_int,
        bytes: Vec<u8>,
    },
    Close {
        fd: c_int,
    },
    /// pthread_cond_destroy, after a deferred wake of the same.
    Destroy {
        condition: *mut libc::pthread_cond_t,
    },
    /// pthread_cond_signal or pthread_cond_broadcast.
    Wake {
        condition: *mut libc::pthread_cond_t,
        all: bool,
    },
}

/// What the current transaction has to do when it ends, outside memory.
#[derive(Default)]
pub struct Effects {
    queue: Vec<Effect>,
    pub held: Held,
}

impl Effects {
    pub fn defer(&mut self, effect: Effect) {
        self.queue.push(effect);
    }

    /// Adds bytes for a stream, to those before if they go to the same one.
    pub fn stream(&mut self, stream: *mut FILE, more: &[u8]) {
        match self.queue.last_mut() {
            Some(Effect::Stream { stream: s, bytes }) if *s == stream => {
                bytes.extend_from_slice(more)
            }
            _ => self.queue.push(Effect::Stream {
                stream,
                bytes: more.to_vec(),
            }),
        }
    }

    /// Adds bytes for a descriptor. Not joined with those before: the borders of writes mean
    /// something to some descriptors.
    pub fn write(&mut self, fd: c_int, bytes: &[u8]) {
        self.queue.push(Effect::Write {
            fd,
            bytes: bytes.to_vec(),
        });
    }

    /// Whether the transaction has closed the descriptor.
    pub fn closes(&self, fd: c_int) -> bool {
        self.queue
            .iter()
            .any(|effect| matches!(effect, Effect::Close { fd: closed } if *closed == fd))
    }

    /// Whether the transaction wakes waiters of the condition variable.
    pub fn wakes(&self, condition: *mut libc::pthread_cond_t) -> bool {
        self.queue
            .iter()
            .any(|effect| matches!(effect, Effect::Wake { condition: c, .. } if *c == condition))
    }

    /// The transaction will commit: performs everything, then gives locks back.
    pub fn perform(&mut self) {
        // SAFETY: errno is the thread's own; a commit does not change it.
        let errno = unsafe { *libc::__errno_location() };
        for effect in self.queue.drain(..) {
            effect.perform();
        }
        self.held.commit();
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
    }

    /// The transaction is rolled back, its memory already is: forgets the effects, gives back the
    /// locks that it took.
    pub fn abort(&mut self) {
        self.queue.clear();
        self.held.abort();
    }
}

impl Effect {
    fn perform(self) {
        // SAFETY: what the program passed; in the order of its calls, so that a stream or
        // descriptor is as open as it was then.
        let result = unsafe {
            match &self {
                Effect::Stream { stream, bytes } => {
                    let n = libc::fwrite(bytes.as_ptr().cast(), 1, bytes.len(), *stream);
                    check(n == bytes.len())
                }
                Effect::Flush { stream } => check(libc::fflush(*stream) == 0),
                Effect::Write { fd, bytes } => write_all(*fd, bytes),
                Effect::Close { fd } => check(libc::close(*fd) == 0),
                Effect::Wake {
                    condition,
                    all: true,
                } => wake(libc::pthread_cond_broadcast(*condition)),
                Effect::Wake { condition, .. } => wake(libc::pthread_cond_signal(*condition)),
                Effect::Destroy { condition } => wake(libc::pthread_cond_destroy(*condition)),
            }
        };
        if let Err(error) = result {
            self.complain(error);
        }
    }

    #[cold]
    fn complain(&self, error: Error) {
        static COMPLAINED: AtomicBool = AtomicBool::new(false);
        if COMPLAINED.swap(true, Ordering::Relaxed) {
            return;
        }
        let what = match self {
            // SAFETY: the stream was used just before.
            Effect::Stream { stream, bytes } => {
                let fd = unsafe { libc::fileno(*stream) };
                format!("{} bytes for the stream of descriptor {fd}", bytes.len())
            }
            Effect::Flush { .. } => "fflush".to_owned(),
            Effect::Write { fd, bytes } => format!("{} bytes for descriptor {fd}", bytes.len()),
            Effect::Close { fd } => format!("close({fd})"),
            Effect::Destroy { .. } => "pthread_cond_destroy".to_owned(),
            Effect::Wake { .. } => "waking a condition variable".to_owned(),
        };
        eprintln!(
            "ame: deferred to the commit of a transaction, and failed there: {what}: {error}. Call \
             ame_inevitable() before it to see errors at once (reported once)"
        );
    }
}

fn check(ok: bool) -> Result<(), Error> {
    if ok {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

fn wake(error: c_int) -> Result<(), Error> {
    match error {
        0 => Ok(()),
        code => Err(Error::from_raw_os_error(code)),
    }
}

/// Writes everything, as the program has been told, to descriptors that do not block as well.
unsafe fn write_all(fd: c_int, mut bytes: &[u8]) -> Result<(), Error> {
    loop {
        // SAFETY: a plain write of our buffer.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
        if n >= 0 {
            bytes = &bytes[n as usize..];
            if bytes.is_empty() {
                return Ok(());
            }
            continue;
        }
        let error = Error::last_os_error();
        match error.kind() {
            ErrorKind::Interrupted => {}
            ErrorKind::WouldBlock => {
                let mut poll = libc::pollfd {
                    fd,
                    events: libc::POLLOUT,
                    revents: 0,
                };
                // SAFETY: one valid record.
                unsafe { libc::poll(&mut poll, 1, -1) };
            }
            _ => return Err(error),
        }
    }
}
