//! Writes traces as the runtime does, to have samples of every kind.

use ame_abi::trace::{kind, MAGIC};

/// A trace under construction. Fields are appended in the order of the layout.
pub struct Trace {
    pub bytes: Vec<u8>,
}

/// One record's payload.
#[derive(Default)]
pub struct Payload(Vec<u8>);

impl Payload {
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend(value);
        self
    }
}

pub fn fields() -> Payload {
    Payload::default()
}

/// Where and how two threads met.
#[derive(Clone, Copy)]
pub struct Conflict {
    pub time: u64,
    pub threads: (u16, u16),
    pub access: u8,
    pub outcome: u8,
    pub pcs: (u64, u64),
    pub address: u64,
    pub lost_ns: u64,
}

impl Trace {
    pub fn new() -> Self {
        Trace {
            bytes: MAGIC.to_vec(),
        }
    }

    pub fn record(&mut self, kind: u8, payload: Payload) -> &mut Self {
        self.bytes.extend([kind, 0]);
        self.bytes.extend((payload.0.len() as u16).to_le_bytes());
        self.bytes.extend(payload.0);
        self
    }

    pub fn process(&mut self, pid: u32, command: &str) -> &mut Self {
        let words = command.replace(' ', "\0");
        let payload = fields()
            .u32(pid)
            .u64(1_700_000_000_000_000_000)
            .bytes(words.as_bytes());
        self.record(kind::PROCESS, payload)
    }

    pub fn module(&mut self, start: u64, end: u64, offset: u64, path: &str) -> &mut Self {
        let payload = fields()
            .u64(start)
            .u64(end)
            .u64(offset)
            .bytes(path.as_bytes());
        self.record(kind::MODULE, payload)
    }

    /// A place in an interpreted program; `caller` is 0 or the number of another.
    pub fn site(&mut self, number: u32, at: (&str, u32, &str), caller: u32) -> &mut Self {
        let (file, line, function) = at;
        let payload = fields()
            .u32(number)
            .u32(line)
            .u32(caller)
            .bytes(format!("{file}\0{function}\0").as_bytes());
        self.record(kind::SITE, payload)
    }

    /// Type, part, advice.
    pub fn object(&mut self, number: u32, texts: [&str; 3]) -> &mut Self {
        let texts = texts.map(|text| format!("{text}\0")).concat();
        self.record(kind::OBJECT, fields().u32(number).bytes(texts.as_bytes()))
    }

    /// The record made last, with numbers of sites and objects at its end.
    pub fn with(&mut self, start: usize, numbers: &[u32]) -> &mut Self {
        for number in numbers {
            self.bytes.extend(number.to_le_bytes());
        }
        let length = (self.bytes.len() - start - 4) as u16;
        self.bytes[start + 2..start + 4].copy_from_slice(&length.to_le_bytes());
        self
    }

    pub fn conflict(&mut self, conflict: Conflict) -> &mut Self {
        let payload = fields()
            .u64(conflict.time)
            .u16(conflict.threads.0)
            .u16(conflict.threads.1)
            .u8(conflict.access)
            .u8(conflict.outcome)
            .u64(conflict.pcs.0)
            .u64(conflict.pcs.1)
            .u64(conflict.address)
            .u64(conflict.lost_ns);
        self.record(kind::CONFLICT, payload)
    }

    pub fn abort(&mut self, time: u64, thread: u16, cause: u8, pc: u64, lost: u64) -> &mut Self {
        let payload = fields().u64(time).u16(thread).u8(cause).u64(pc).u64(lost);
        self.record(kind::ABORT, payload)
    }

    /// `work` is commits, aborts, then nanoseconds committed, aborted, waiting.
    pub fn slice(&mut self, start: u64, length: u64, thread: u16, work: [u64; 5]) -> &mut Self {
        let payload = fields()
            .u64(start)
            .u64(length)
            .u16(thread)
            .u32(work[0] as u32)
            .u32(work[1] as u32)
            .u64(work[2])
            .u64(work[3])
            .u64(work[4]);
        self.record(kind::SLICE, payload)
    }

    pub fn irrevocable(&mut self, time: u64, thread: u16, pc: u64, what: u8) -> &mut Self {
        self.record(
            kind::IRREVOCABLE,
            fields().u64(time).u16(thread).u64(pc).u8(what),
        )
    }

    /// Its name, and numbers as the record has them.
    pub fn domain(&mut self, name: &str, numbers: [u64; 9]) -> &mut Self {
        let numbers = numbers.iter().fold(fields(), |payload, &n| payload.u64(n));
        let name = format!("{name}\0");
        self.record(kind::DOMAIN, numbers.bytes(name.as_bytes()))
    }

    /// Domain, entry, why.
    pub fn serialised(&mut self, count: u64, texts: [&str; 3]) -> &mut Self {
        let texts = texts.map(|text| format!("{text}\0")).concat();
        self.record(
            kind::SERIALISED,
            fields().u64(count).bytes(texts.as_bytes()),
        )
    }

    pub fn thread_end(&mut self, time: u64, thread: u16, work: [u64; 5]) -> &mut Self {
        let payload = work
            .iter()
            .fold(fields().u64(time).u16(thread), |payload, &number| {
                payload.u64(number)
            });
        self.record(kind::THREAD_END, payload)
    }
}
