//! Reads the binary trace that `AME_LOG=file` makes the runtime write.
//!
//! The format is [`ame_abi::trace`]. A record is checked against its layout before anything is
//! believed: a trace that ends in the middle of a record was cut off (the process was killed) and
//! keeps what is whole; anything else that is wrong is corruption, named with its offset.

use ame_abi::trace::{access, kind, outcome, CAUSES, MAGIC};
use anyhow::{bail, ensure, Context, Result};
use std::io::Read;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Process {
        pid: u32,
        unix_time_ns: u64,
        command: Vec<String>,
    },
    Module {
        start: u64,
        end: u64,
        file_offset: u64,
        path: String,
    },
    Conflict(Conflict),
    Abort {
        time: u64,
        thread: u16,
        cause: u8,
        pc: u64,
        lost_ns: u64,
        site: u32,
        /// Of the conflict that it was wounded in: its two sides, and what they wanted.
        by_site: u32,
        of_site: u32,
        object: u32,
    },
    Slice {
        start: u64,
        length: u64,
        thread: u16,
        work: Work,
    },
    Irrevocable {
        time: u64,
        thread: u16,
        pc: u64,
        exclusive: bool,
        site: u32,
        object: u32,
    },
    ThreadEnd {
        time: u64,
        thread: u16,
        work: Work,
    },
    Site {
        number: u32,
        site: HostSite,
    },
    Object {
        number: u32,
        object: Object,
    },
    Domain(Domain),
    Serialised {
        domain: String,
        reason: Reason,
    },
}

/// A domain of extension modules: what its entries came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Domain {
    pub name: String,
    /// Times that it was held, and of these, after waiting.
    pub entries: u64,
    pub contended: u64,
    pub waiting_ns: u64,
    pub given_up: u64,
    /// Entries as transactions: to their end, until they came to hold it, and rollbacks.
    pub elided: u64,
    pub serialised: u64,
    pub rolled_back: u64,
    /// How often both ways were tried, and transactions were faster.
    pub trials: u64,
    pub won: u64,
    /// What serialised them.
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    pub entry: String,
    pub why: String,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub time: u64,
    pub thread: u16,
    pub other: u16,
    pub access: u8,
    pub outcome: u8,
    pub pc: u64,
    pub other_pc: u64,
    pub address: u64,
    pub lost_ns: u64,
    pub site: u32,
    pub other_site: u32,
    pub object: u32,
}

/// A place in the program that an interpreter runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSite {
    pub file: String,
    pub function: String,
    pub line: u32,
    /// Number of the program's own place that called this one, which is in a library; or 0.
    pub caller: u32,
}

/// What a conflict was about, in the interpreter's terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Object {
    #[serde(rename = "type")]
    pub kind: String,
    pub part: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

/// What a thread did in a slice of time, or in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Work {
    pub commits: u64,
    pub aborts: u64,
    pub committed_ns: u64,
    pub aborted_ns: u64,
    pub waiting_ns: u64,
}

impl Work {
    /// Sums of numbers from a file: they stop at the largest number instead of wrapping.
    pub fn add(&mut self, more: &Work) {
        for (sum, more) in [
            (&mut self.commits, more.commits),
            (&mut self.aborts, more.aborts),
            (&mut self.committed_ns, more.committed_ns),
            (&mut self.aborted_ns, more.aborted_ns),
            (&mut self.waiting_ns, more.waiting_ns),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    pub fn lost_ns(&self) -> u64 {
        self.aborted_ns.saturating_add(self.waiting_ns)
    }

    /// Time in transactions, lost or not.
    pub fn all_ns(&self) -> u64 {
        self.committed_ns.saturating_add(self.lost_ns())
    }
}

/// Where a trace stops in the middle of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct CutOff {
    /// Offset of the record that is not whole.
    pub offset: u64,
    /// How many of its bytes are there.
    pub bytes: u64,
}

/// Reads records one by one, so that a trace need not fit into memory.
pub struct Reader<R> {
    input: R,
    offset: u64,
    pub cut_off: Option<CutOff>,
    /// Records of kinds that this version does not know.
    pub unknown: u64,
}

impl<R: Read> Reader<R> {
    /// Checks the magic and the version.
    pub fn new(mut input: R) -> Result<Self> {
        let mut magic = [0; MAGIC.len()];
        let got = read_up_to(&mut input, &mut magic)?;
        let (name, version) = (&MAGIC[..7], MAGIC[7]);
        ensure!(
            got > 0,
            "the trace is empty: the program still runs, or was killed before it wrote the first \
             part"
        );
        ensure!(
            got == magic.len() && &magic[..7] == name,
            "not a trace of Ame (offset 0: the first bytes are not {:?}); AME_LOG=FILE writes one",
            String::from_utf8_lossy(&name[..6])
        );
        ensure!(
            magic[7] == version,
            "the trace has format version {}, this program reads version {version} (offset 7); \
             use the `ame` that came with the runtime",
            magic[7]
        );
        Ok(Reader {
            input,
            offset: magic.len() as u64,
            cut_off: None,
            unknown: 0,
        })
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record of a known kind; `None` at the end or where the trace was cut off.
    pub fn next(&mut self) -> Result<Option<Record>> {
        let mut payload = Vec::new();
        loop {
            let start = self.offset;
            let mut header = [0; 4];
            let got = read_up_to(&mut self.input, &mut header)?;
            self.offset += got as u64;
            if got == 0 {
                return Ok(None);
            }
            if got < header.len() {
                self.cut_off = Some(CutOff {
                    offset: start,
                    bytes: got as u64,
                });
                return Ok(None);
            }
            let [kind, zero, low, high] = header;
            if kind == 0 || zero != 0 {
                bail!(
                    "corrupt at offset {start}: a record starts with kind {kind} and {zero} \
                     where a kind above 0 and 0 belong"
                );
            }
            payload.resize(usize::from(u16::from_le_bytes([low, high])), 0);
            let got = read_up_to(&mut self.input, &mut payload)?;
            self.offset += got as u64;
            if got < payload.len() {
                self.cut_off = Some(CutOff {
                    offset: start,
                    bytes: (4 + got) as u64,
                });
                return Ok(None);
            }
            match decode(kind, &payload)
                .with_context(|| format!("corrupt at offset {start}: record of kind {kind}"))?
            {
                Some(record) => return Ok(Some(record)),
                None => self.unknown += 1,
            }
        }
    }
}

fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot read the trace"),
        }
    }
    Ok(filled)
}

/// `None` for an unknown kind. A payload may be longer than its layout (a later version added
/// fields at its end), never shorter.
fn decode(record_kind: u8, payload: &[u8]) -> Result<Option<Record>> {
    let mut fields = Fields { rest: payload };
    Ok(Some(match record_kind {
        kind::PROCESS => Record::Process {
            pid: fields.u32()?,
            unix_time_ns: fields.u64()?,
            command: fields
                .rest
                .split(|&byte| byte == 0)
                .filter(|word| !word.is_empty())
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect(),
        },
        kind::MODULE => {
            let (start, end, file_offset) = (fields.u64()?, fields.u64()?, fields.u64()?);
            ensure!(
                start < end,
                "the module ends ({end:#x}) before it starts ({start:#x})"
            );
            Record::Module {
                start,
                end,
                file_offset,
                path: String::from_utf8_lossy(fields.rest)
                    .trim_end_matches('\0')
                    .to_string(),
            }
        }
        kind::CONFLICT => Record::Conflict(Conflict {
            time: fields.u64()?,
            thread: fields.u16()?,
            other: fields.u16()?,
            access: fields.code("access", access::EXCLUSIVE)?,
            outcome: fields.code("outcome", outcome::ABORTED)?,
            pc: fields.u64()?,
            other_pc: fields.u64()?,
            address: fields.u64()?,
            lost_ns: fields.u64()?,
            site: fields.number()?,
            other_site: fields.number()?,
            object: fields.number()?,
        }),
        kind::ABORT => Record::Abort {
            time: fields.u64()?,
            thread: fields.u16()?,
            cause: fields.code("cause", CAUSES.len() as u8 - 1)?,
            pc: fields.u64()?,
            lost_ns: fields.u64()?,
            site: fields.number()?,
            by_site: fields.number()?,
            of_site: fields.number()?,
            object: fields.number()?,
        },
        kind::SLICE => Record::Slice {
            start: fields.u64()?,
            length: fields.u64()?,
            thread: fields.u16()?,
            work: Work {
                commits: fields.u32()?.into(),
                aborts: fields.u32()?.into(),
                committed_ns: fields.u64()?,
                aborted_ns: fields.u64()?,
                waiting_ns: fields.u64()?,
            },
        },
        kind::IRREVOCABLE => Record::Irrevocable {
            time: fields.u64()?,
            thread: fields.u16()?,
            pc: fields.u64()?,
            exclusive: fields.code("what", 1)? == 1,
            site: fields.number()?,
            object: fields.number()?,
        },
        kind::THREAD_END => Record::ThreadEnd {
            time: fields.u64()?,
            thread: fields.u16()?,
            work: Work {
                commits: fields.u64()?,
                aborts: fields.u64()?,
                committed_ns: fields.u64()?,
                aborted_ns: fields.u64()?,
                waiting_ns: fields.u64()?,
            },
        },
        kind::SITE => Record::Site {
            number: fields.u32()?,
            site: HostSite {
                line: fields.u32()?,
                caller: fields.u32()?,
                file: fields.text()?,
                function: fields.text()?,
            },
        },
        kind::OBJECT => Record::Object {
            number: fields.u32()?,
            object: Object {
                kind: fields.text()?,
                part: fields.text()?,
                advice: fields.text()?,
            },
        },
        kind::DOMAIN => Record::Domain(Domain {
            entries: fields.u64()?,
            contended: fields.u64()?,
            waiting_ns: fields.u64()?,
            given_up: fields.u64()?,
            elided: fields.u64()?,
            serialised: fields.u64()?,
            rolled_back: fields.u64()?,
            trials: fields.u64()?,
            won: fields.u64()?,
            name: fields.text()?,
            reasons: Vec::new(),
        }),
        kind::SERIALISED => {
            let count = fields.u64()?;
            Record::Serialised {
                domain: fields.text()?,
                reason: Reason {
                    entry: fields.text()?,
                    why: fields.text()?,
                    count,
                },
            }
        }
        _ => return Ok(None),
    }))
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<N>()
            .context("its payload is shorter than its fields")?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A code from one of the tables; `last` is the largest that exists.
    fn code(&mut self, name: &str, last: u8) -> Result<u8> {
        let [code] = self.take()?;
        ensure!(code <= last, "{name} is {code}, the largest is {last}");
        Ok(code)
    }

    /// A field that older runtimes do not write: then it is 0.
    fn number(&mut self) -> Result<u32> {
        match self.rest {
            [] => Ok(0),
            _ => self.u32(),
        }
    }

    /// Ended by a NUL.
    fn text(&mut self) -> Result<String> {
        let mut parts = self.rest.splitn(2, |&byte| byte == 0);
        let (text, rest) = (parts.next().unwrap_or_default(), parts.next());
        self.rest = rest.context("its payload ends in a text")?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0];
        bytes.extend((payload.len() as u16).to_le_bytes());
        bytes.extend(payload);
        bytes
    }

    fn process() -> Vec<u8> {
        let mut payload = 7u32.to_le_bytes().to_vec();
        payload.extend(9u64.to_le_bytes());
        payload.extend(b"prog\0-x\0");
        record(kind::PROCESS, &payload)
    }

    fn read(parts: &[Vec<u8>]) -> Result<(Vec<Record>, Option<CutOff>, u64)> {
        let mut reader = Reader::new(std::io::Cursor::new(parts.concat()))?;
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok((records, reader.cut_off, reader.unknown))
    }

    fn fails(parts: &[Vec<u8>]) -> String {
        format!("{:#}", read(parts).unwrap_err())
    }

    #[test]
    fn whole_records_of_a_cut_trace_are_kept() {
        let whole = [MAGIC.to_vec(), process(), process()].concat();
        let first_end = 8 + process().len();
        for length in first_end..whole.len() {
            let (records, cut_off, _) = read(&[whole[..length].to_vec()]).unwrap();
            assert_eq!(records.len(), 1);
            let bytes = (length - first_end) as u64;
            let expected = (bytes > 0).then_some(CutOff {
                offset: first_end as u64,
                bytes,
            });
            assert_eq!(cut_off, expected);
        }
    }

    #[test]
    fn unknown_kinds_and_longer_payloads_are_of_a_later_version() {
        let mut longer = vec![0; 8 + 2 + 8];
        longer.push(1);
        longer.extend([0; 8]);
        longer.extend([99, 99]);
        let parts = [
            MAGIC.to_vec(),
            record(200, b"???"),
            record(kind::IRREVOCABLE, &longer),
        ];
        let (records, _, unknown) = read(&parts).unwrap();
        assert_eq!(unknown, 1);
        assert_eq!(
            records,
            [Record::Irrevocable {
                time: 0,
                thread: 0,
                pc: 0,
                exclusive: true,
                site: 0,
                object: 0,
            }]
        );
    }

    #[test]
    fn corruption_is_named_with_its_offset() {
        let magic = || MAGIC.to_vec();
        assert!(fails(&[b"ELF".to_vec()]).contains("not a trace of Ame (offset 0"));
        assert!(fails(&[]).contains("the trace is empty"));
        assert!(fails(&[b"AME".to_vec()]).contains("not a trace"));
        assert!(fails(&[b"AMETRC\0\x02".to_vec()]).contains("format version 2"));
        assert!(fails(&[magic(), vec![0; 4]]).contains("corrupt at offset 8"));
        assert!(fails(&[magic(), vec![1, 1, 0, 0]]).contains("corrupt at offset 8"));
        let at = 8 + process().len();
        let short = fails(&[magic(), process(), record(kind::ABORT, &[0; 5])]);
        assert!(
            short.contains(&format!("corrupt at offset {at}")),
            "{short}"
        );
        assert!(short.contains("shorter than its fields"), "{short}");
        let mut abort = vec![0; 27];
        abort[10] = CAUSES.len() as u8;
        assert!(fails(&[magic(), record(kind::ABORT, &abort)]).contains("cause is "));
        assert!(fails(&[magic(), record(kind::MODULE, &[0; 24])]).contains("before it starts"));
    }
}
