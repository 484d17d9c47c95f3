//! From records to what a reader wants to know: who was in whose way, where, and what it cost.
//!
//! One pass over the trace counts by place; names and lines are looked up at the end, and places on
//! one source line become one entry.

use super::symbols::{Mappings, Place, Site, Symbols};
use super::trace::{Conflict, CutOff, Reader, Record, Work};
use ame_abi::trace::{access, outcome, CAUSES};
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;

/// Everything that `ame report` shows. The JSON output is this, field by field.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub process: Option<Process>,
    pub trace: TraceFile,
    /// Latest time in the trace, nanoseconds since it was opened.
    pub duration_ns: u64,
    pub totals: Totals,
    /// By time lost, most first.
    pub conflicts: Vec<ConflictSite>,
    pub aborts: Vec<AbortSite>,
    pub irrevocable: Vec<IrrevocableSite>,
    pub threads: Vec<Thread>,
    /// Modules without readable symbols, and other reasons for bare addresses.
    pub notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Process {
    pub pid: u32,
    pub unix_time_ns: u64,
    pub command: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct TraceFile {
    pub bytes: u64,
    pub records: u64,
    /// Records of kinds that this version does not know.
    pub unknown_records: u64,
    /// Where the trace stops in the middle of a record, if it does.
    pub cut_off: Option<CutOff>,
}

#[derive(Debug, Default, Serialize)]
pub struct Totals {
    #[serde(flatten)]
    pub work: Work,
    pub conflicts: u64,
    /// Time lost in conflicts, as their records have it.
    pub conflict_lost_ns: u64,
    /// Recorded rollbacks by cause.
    pub rollbacks: BTreeMap<&'static str, u64>,
    pub inevitable: u64,
    pub exclusive: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct ConflictSite {
    pub access: &'static str,
    /// The side that reported.
    pub site: Site,
    /// The side that was in its way.
    pub other: Site,
    pub count: u64,
    pub lost_ns: u64,
    /// Distinct granules: few mean one hot object, many a hot piece of code.
    pub granules: u64,
    pub waited: u64,
    pub wounded_other: u64,
    pub rolled_back: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct AbortSite {
    pub cause: &'static str,
    pub site: Site,
    pub count: u64,
    pub lost_ns: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct IrrevocableSite {
    /// `inevitable` or `exclusive`.
    pub what: &'static str,
    pub site: Site,
    pub count: u64,
}

#[derive(Debug, Default, Clone, Serialize)]
pub struct Thread {
    pub thread: u16,
    #[serde(flatten)]
    pub work: Work,
    /// False when the trace stops before the thread's totals: then they are sums of its slices.
    pub ended: bool,
    pub slices: Vec<Slice>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Slice {
    pub start: u64,
    pub length: u64,
    #[serde(flatten)]
    pub work: Work,
}

pub fn access_name(code: u8) -> &'static str {
    match code {
        access::READ_OF_WRITTEN => "read of written",
        access::WRITE_OF_WRITTEN => "write of written",
        access::WRITE_OF_READ => "write of read",
        access::TOKEN => "wait for inevitable",
        _ => "wait for exclusive",
    }
}

/// Counts while reading.
#[derive(Default)]
struct Counts {
    process: Option<Process>,
    mappings: Mappings,
    duration_ns: u64,
    records: u64,
    totals: Totals,
    conflicts: HashMap<(u8, Place, Place), ConflictCount>,
    aborts: HashMap<(u8, Place), (u64, u64)>,
    irrevocable: HashMap<(bool, Place), u64>,
    threads: BTreeMap<u16, ThreadCount>,
}

#[derive(Default)]
struct ConflictCount {
    outcomes: [u64; 3],
    lost_ns: u64,
    granules: HashSet<u64>,
}

/// A thread number is used again after its thread ended: totals add up.
#[derive(Default)]
struct ThreadCount {
    ended: Work,
    any_ended: bool,
    /// Slices since the last end.
    running: Option<Work>,
    slices: Vec<Slice>,
}

/// Reads a whole trace and looks its places up.
pub fn summarise<R: Read>(mut reader: Reader<R>) -> Result<Summary> {
    let mut counts = Counts::default();
    while let Some(record) = reader.next()? {
        counts.add(record);
    }
    let trace = TraceFile {
        bytes: reader.offset(),
        records: counts.records,
        unknown_records: reader.unknown,
        cut_off: reader.cut_off,
    };
    Ok(counts.finish(trace))
}

impl Counts {
    fn add(&mut self, record: Record) {
        self.records += 1;
        let time = match record {
            Record::Process {
                pid,
                unix_time_ns,
                command,
            } => {
                self.process = Some(Process {
                    pid,
                    unix_time_ns,
                    command,
                });
                0
            }
            Record::Module {
                start,
                end,
                file_offset,
                path,
            } => {
                self.mappings.map(start, end, file_offset, &path);
                0
            }
            Record::Conflict(conflict) => {
                self.conflict(&conflict);
                conflict.time
            }
            Record::Abort {
                time,
                thread,
                cause,
                pc,
                lost_ns,
            } => {
                self.threads.entry(thread).or_default();
                *self
                    .totals
                    .rollbacks
                    .entry(CAUSES[usize::from(cause)])
                    .or_default() += 1;
                let count = self
                    .aborts
                    .entry((cause, self.mappings.place(pc)))
                    .or_default();
                *count = (count.0 + 1, count.1.saturating_add(lost_ns));
                time
            }
            Record::Slice {
                start,
                length,
                thread,
                work,
            } => {
                let count = self.threads.entry(thread).or_default();
                count.running.get_or_insert_default().add(&work);
                count.slices.push(Slice {
                    start,
                    length,
                    work,
                });
                start.saturating_add(length)
            }
            Record::Irrevocable {
                time,
                thread,
                pc,
                exclusive,
            } => {
                self.threads.entry(thread).or_default();
                let key = (exclusive, self.mappings.place(pc));
                *self.irrevocable.entry(key).or_default() += 1;
                let total = if exclusive {
                    &mut self.totals.exclusive
                } else {
                    &mut self.totals.inevitable
                };
                *total += 1;
                time
            }
            Record::ThreadEnd { time, thread, work } => {
                let count = self.threads.entry(thread).or_default();
                count.ended.add(&work);
                count.any_ended = true;
                count.running = None;
                time
            }
        };
        self.duration_ns = self.duration_ns.max(time);
    }

    fn conflict(&mut self, conflict: &Conflict) {
        self.threads.entry(conflict.thread).or_default();
        self.totals.conflicts += 1;
        let lost = &mut self.totals.conflict_lost_ns;
        *lost = lost.saturating_add(conflict.lost_ns);
        let key = (
            conflict.access,
            self.mappings.place(conflict.pc),
            self.mappings.place(conflict.other_pc),
        );
        let count = self.conflicts.entry(key).or_default();
        count.outcomes[usize::from(conflict.outcome)] += 1;
        count.lost_ns = count.lost_ns.saturating_add(conflict.lost_ns);
        // The token and exclusivity have no address.
        if conflict.access < access::TOKEN {
            count.granules.insert(conflict.address);
        }
    }

    fn finish(self, trace: TraceFile) -> Summary {
        let mut symbols = Symbols::new(&self.mappings);
        let threads: Vec<Thread> = self.threads.into_iter().map(ThreadCount::finish).collect();
        let mut totals = self.totals;
        for thread in &threads {
            totals.work.add(&thread.work);
        }
        let conflicts = merge_conflicts(self.conflicts, &mut symbols);
        let aborts = merged(
            self.aborts.into_iter().map(|((cause, place), count)| {
                ((CAUSES[usize::from(cause)], symbols.site(place)), count)
            }),
            |sum: &mut (u64, u64), count| *sum = (sum.0 + count.0, sum.1.saturating_add(count.1)),
        );
        let mut aborts: Vec<_> = aborts
            .into_iter()
            .map(|((cause, site), (count, lost_ns))| AbortSite {
                cause,
                site,
                count,
                lost_ns,
            })
            .collect();
        // Maps are sorted by site, and these sorts are stable: equal entries keep a fixed order.
        aborts.sort_by_key(|site| std::cmp::Reverse((site.lost_ns, site.count)));
        let irrevocable = merged(
            self.irrevocable
                .into_iter()
                .map(|((exclusive, place), count)| {
                    let what = if exclusive { "exclusive" } else { "inevitable" };
                    ((what, symbols.site(place)), count)
                }),
            |sum: &mut u64, count| *sum += count,
        );
        let mut irrevocable: Vec<_> = irrevocable
            .into_iter()
            .map(|((what, site), count)| IrrevocableSite { what, site, count })
            .collect();
        irrevocable.sort_by_key(|site| std::cmp::Reverse(site.count));
        let mut notes = std::mem::take(&mut symbols.problems);
        notes.sort();
        Summary {
            process: self.process,
            trace,
            duration_ns: self.duration_ns,
            totals,
            conflicts,
            aborts,
            irrevocable,
            threads,
            notes,
        }
    }
}

impl ThreadCount {
    fn finish((thread, count): (u16, ThreadCount)) -> Thread {
        let mut work = count.ended;
        let ended = count.any_ended && count.running.is_none();
        if let Some(running) = &count.running {
            work.add(running);
        }
        let mut slices = count.slices;
        slices.sort_by_key(|slice| slice.start);
        Thread {
            thread,
            work,
            ended,
            slices,
        }
    }
}

/// Adds up what has the same key after places became sites.
fn merged<K: Ord, V: Default>(
    items: impl Iterator<Item = (K, V)>,
    add: impl Fn(&mut V, V),
) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    for (key, value) in items {
        add(map.entry(key).or_default(), value);
    }
    map
}

fn merge_conflicts(
    counts: HashMap<(u8, Place, Place), ConflictCount>,
    symbols: &mut Symbols,
) -> Vec<ConflictSite> {
    let counts = merged(
        counts.into_iter().map(|((access, place, other), count)| {
            ((access, symbols.site(place), symbols.site(other)), count)
        }),
        |sum: &mut ConflictCount, count| {
            sum.lost_ns = sum.lost_ns.saturating_add(count.lost_ns);
            sum.granules.extend(count.granules);
            for (sum, count) in sum.outcomes.iter_mut().zip(count.outcomes) {
                *sum += count;
            }
        },
    );
    let mut sites: Vec<_> = counts
        .into_iter()
        .map(|((access, site, other), count)| ConflictSite {
            access: access_name(access),
            site,
            other,
            count: count.outcomes.iter().sum(),
            lost_ns: count.lost_ns,
            granules: count.granules.len() as u64,
            waited: count.outcomes[usize::from(outcome::WAITED)],
            wounded_other: count.outcomes[usize::from(outcome::WOUNDED)],
            rolled_back: count.outcomes[usize::from(outcome::ABORTED)],
        })
        .collect();
    sites.sort_by_key(|site| std::cmp::Reverse((site.lost_ns, site.count)));
    sites
}

#[cfg(test)]
mod tests {
    use super::*;
    use ame_abi::trace::{kind, MAGIC};

    /// One record of each kind, with small numbers.
    fn sample() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let kinds = [
            (kind::PROCESS, 20),
            (kind::MODULE, 30),
            (kind::CONFLICT, 46),
            (kind::ABORT, 27),
            (kind::SLICE, 50),
            (kind::IRREVOCABLE, 19),
            (kind::THREAD_END, 50),
        ];
        for (kind, length) in kinds {
            bytes.extend([kind, 0, length, 0]);
            bytes.extend((0..length).map(|index| u8::from(index % 8 == 0)));
        }
        // The module has to end after its start.
        bytes[8 + 24 + 4 + 8] = 9;
        bytes
    }

    #[test]
    fn no_content_of_a_trace_makes_the_report_panic() {
        let whole = sample();
        let mut random = 1u64;
        let mut below = |end: usize| {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (random >> 33) as usize % end
        };
        let mut understood = 0;
        for _ in 0..3_000 {
            let mut bytes = [&whole[..], &whole[8..]].concat();
            for _ in 0..=below(6) {
                let at = 8 + below(bytes.len() - 8);
                bytes[at] = [0, 1, 0x7f, 0xff][below(4)];
            }
            let reader = Reader::new(&bytes[..]).unwrap();
            if let Ok(summary) = summarise(reader) {
                understood += 1;
                super::super::text::render(&summary, 3);
                super::super::html::render(&summary, 3);
                serde_json::to_string(&summary).unwrap();
            }
        }
        assert!(
            understood > 300,
            "{understood} of the mutated traces were readable"
        );
    }
}
