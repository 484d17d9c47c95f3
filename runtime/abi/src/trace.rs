//! The binary trace that `AME_LOG=file` makes the runtime write and `ame report` reads.
//!
//! Little endian. A file is [`MAGIC`], then records. A record is a `u8` kind, a `u8` zero, a `u16`
//! length of the payload in bytes, then the payload, whose fields are packed in the order given
//! here. Unknown kinds are skipped by their length, so old readers read newer traces. Times are
//! nanoseconds since the trace was opened; addresses are as in the traced process. A trace may end
//! in the middle of a record when the process was killed: readers keep what is whole and say so.

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
    /// u64 address, u64 lost_ns`. One resolved conflict. `access` and `outcome` are below;
    /// `other_pc` is 0 when unknown; `address` is the first byte of the granule.
    pub const CONFLICT: u8 = 3;
    /// `u64 time, u16 thread, u8 cause, u64 pc, u64 lost_ns`. One rollback; `lost_ns` is the time
    /// since its begin.
    pub const ABORT: u8 = 4;
    /// `u64 start, u64 length, u16 thread, u32 commits, u32 aborts, u64 committed_ns,
    /// u64 aborted_ns, u64 waiting_ns`. What a thread did in one slice of the time line.
    pub const SLICE: u8 = 5;
    /// `u64 time, u16 thread, u64 pc, u8 what`. The transaction became inevitable (0) or
    /// exclusive (1); `pc` is the call that made it so.
    pub const IRREVOCABLE: u8 = 6;
    /// `u64 time, u16 thread, u64 commits, u64 aborts, u64 committed_ns, u64 aborted_ns,
    /// u64 waiting_ns`. Totals of a thread when it ended or the trace was closed.
    pub const THREAD_END: u8 = 7;
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
