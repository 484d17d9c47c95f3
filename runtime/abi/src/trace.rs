//! The binary trace that `AME_LOG=file` makes the runtime write and `ame report` reads.
//!
//! Little endian. A file is [`MAGIC`], then records. A record is a `u8` kind, a `u8` zero, a `u16`
//! length of the payload in bytes, then the payload, whose fields are packed in the order given
//! here. Unknown kinds are skipped by their length, so old readers read newer traces. Times are
//! nanoseconds since the trace was opened; addresses are as in the traced process. A trace may end
//! in the middle of a record when the process was killed: readers keep what is whole and say so.
//!
//! Fields after a `+` were added later: a payload that ends before them is of an older runtime, and
//! they are 0. They are numbers of SITE and OBJECT records, which come before their first use: the
//! program and the data of an interpreter that runs on the runtime, in its own terms. 0 is unknown.

/// First eight bytes of a trace; the last is the format version.
pub const MAGIC: [u8; 8] = *b"AMETRC\0\x01";

/// Record kinds. Payload of each, packed:
pub mod kind {
    /// `u32 pid, u64 unix_time_ns`, then the command line, bytes to the end (NUL between words).
    pub const PROCESS: u8 = 1;
    /// `u64 start, u64 end, u64 file_offset`, then the path, bytes to the end. An executable
    /// mapping. Later MODULE records replace earlier overlapping ones.
    pub const MODULE: u8 = 2;
    /// `u64 time, u16 thread, u16 other, u8 access, u8 outcome, u64 pc, u64 other_pc,
    /// u64 address, u64 lost_ns + u32 site, u32 other_site, u32 object`. One resolved conflict.
    /// `access` and `outcome` are below; `other_pc` is 0 when unknown; `address` is the first byte of
    /// the granule. Of a wait for an irrevocable transaction, the other side is where that became so,
    /// and `object` is the reason.
    pub const CONFLICT: u8 = 3;
    /// `u64 time, u16 thread, u8 cause, u64 pc, u64 lost_ns + u32 site, u32 by_site, u32 of_site,
    /// u32 object`. One rollback; `lost_ns` is the time since its begin. The last three are those of
    /// the conflict that it was wounded in, as its CONFLICT record has them.
    pub const ABORT: u8 = 4;
    /// `u64 start, u64 length, u16 thread, u32 commits, u32 aborts, u64 committed_ns,
    /// u64 aborted_ns, u64 waiting_ns`. What a thread did in one slice of the time line.
    pub const SLICE: u8 = 5;
    /// `u64 time, u16 thread, u64 pc, u8 what + u32 site, u32 object`. The transaction became
    /// inevitable (0) or exclusive (1); `pc` is the call that made it so, `object` the reason.
    pub const IRREVOCABLE: u8 = 6;
    /// `u64 time, u16 thread, u64 commits, u64 aborts, u64 committed_ns, u64 aborted_ns,
    /// u64 waiting_ns`. Totals of a thread when it ended or the trace was closed.
    pub const THREAD_END: u8 = 7;
    /// `u32 number, u32 line, u32 caller`, then file and function, each ended by a NUL. A place in
    /// the interpreted program. `caller` is 0, or the nearest place among its callers that is the
    /// program's own, where the place itself is in a library.
    pub const SITE: u8 = 8;
    /// `u32 number`, then three texts, each ended by a NUL: type of an object, what of it, and what
    /// may help when it is in the way often (may be empty).
    pub const OBJECT: u8 = 9;
    /// `u64 entries, u64 contended, u64 waiting_ns, u64 given_up, u64 elided, u64 serialised,
    /// u64 rolled_back, u64 trials, u64 won`, then its name, ended by a NUL. A domain of extension modules,
    /// when the trace was closed: `ame_domain_counts` and `ame_elision_counts` of `ame.h`.
    pub const DOMAIN: u8 = 10;
    /// `u64 count`, then three texts, each ended by a NUL: the domain, a function that entered it as a
    /// transaction, and why it came to hold the domain.
    pub const SERIALISED: u8 = 11;
}

/// What the reporting thread wanted (`access`).
pub mod access {
    /// Wanted to read what `other` had written.
    pub const READ_OF_WRITTEN: u8 = 0;
    /// Wanted to write what `other` had written.
    pub const WRITE_OF_WRITTEN: u8 = 1;
    /// Wanted to write what `other` had read.
    pub const WRITE_OF_READ: u8 = 2;
    /// Waited for the one inevitable transaction to end.
    pub const TOKEN: u8 = 3;
    /// Waited for, or asked for, exclusivity.
    pub const EXCLUSIVE: u8 = 4;
}

/// How the conflict ended for the reporting thread (`outcome`).
pub mod outcome {
    /// It waited until the other let go.
    pub const WAITED: u8 = 0;
    /// It wounded the other, and waited until that had rolled back or committed.
    pub const WOUNDED: u8 = 1;
    /// It was wounded itself meanwhile and rolled back.
    pub const ABORTED: u8 = 2;
}

/// Why a transaction was rolled back (`cause`).
pub mod cause {
    /// Wounded by an older transaction.
    pub const WOUNDED: u8 = 0;
    /// `AME_CHAOS`.
    pub const CHAOS: u8 = 1;
    /// `ame_retry()`.
    pub const RETRY: u8 = 2;
    /// Made way for an exclusive transaction.
    pub const EXCLUSIVE: u8 = 3;
    /// Waits for a lock that code outside transactions holds.
    pub const LOCK: u8 = 4;
    /// Ran alone in its thread's turn, and wanted what may wait for others.
    pub const TURN: u8 = 5;
}

pub const CAUSES: [&str; 6] = ["conflict", "chaos", "retry", "exclusive", "lock", "turn"];
