//! From records to what a reader wants to know: who was in whose way, where, and what it cost.
//!
//! One pass over the trace counts by place; names and lines are looked up at the end, and places on
//! one source line become one entry.

use super::symbols::{Mappings, Place, Site, Symbols};
use super::trace::{Conflict, CutOff, Domain, Object, Reader, Record, Work};
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
    /// Of an interpreted program: what holds it back, most time lost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// By time lost, most first.
    pub conflicts: Vec<ConflictSite>,
    pub aborts: Vec<AbortSite>,
    pub irrevocable: Vec<IrrevocableSite>,
    pub threads: Vec<Thread>,
    /// Of extension modules, by entries, most first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
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
    /// What it was about, in terms of an interpreted program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
    /// Transactions that were wounded for it, and the time they had taken. Only known of interpreted
    /// programs.
    pub rollbacks: u64,
    pub thrown_away_ns: u64,
}

impl ConflictSite {
    /// Waiting, and work thrown away.
    pub fn cost_ns(&self) -> u64 {
        self.lost_ns.saturating_add(self.thrown_away_ns)
    }
}

/// A line of an interpreted program that costs time, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    pub site: Site,
    /// The other side that cost most.
    pub other: Site,
    /// The one that cost most, and how many others of this type there are.
    pub object: Option<Object>,
    pub more: u64,
    pub lost_ns: u64,
    pub count: u64,
}

impl Answer {
    /// Whether the other side is known, and another line.
    pub fn against(&self) -> bool {
        self.other.file.is_some() && self.other != self.site
    }
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
    /// The reason, in terms of an interpreted program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
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
    objects: HashMap<u32, Object>,
    conflicts: HashMap<(u8, Place, Place, u32), ConflictCount>,
    aborts: HashMap<(u8, Place), (u64, u64)>,
    /// Rollbacks of which the conflict is known.
    thrown_away: HashMap<(Place, Place, u32), (u64, u64)>,
    irrevocable: HashMap<(bool, Place, u32), (u64, Place)>,
    threads: BTreeMap<u16, ThreadCount>,
    domains: Vec<Domain>,
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
                site,
                by_site,
                of_site,
                object,
            } => {
                self.threads.entry(thread).or_default();
                *self
                    .totals
                    .rollbacks
                    .entry(CAUSES[usize::from(cause)])
                    .or_default() += 1;
                let add = |count: &mut (u64, u64)| {
                    *count = (count.0 + 1, count.1.saturating_add(lost_ns));
                };
                let place = self.mappings.place_of(pc, site);
                add(self.aborts.entry((cause, place)).or_default());
                if by_site != 0 {
                    let by = self.mappings.place_of(0, by_site);
                    let of = self.mappings.place_of(0, of_site);
                    add(self.thrown_away.entry((by, of, object)).or_default());
                }
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
                site,
                object,
            } => {
                self.threads.entry(thread).or_default();
                let key = (exclusive, self.mappings.place_of(pc, site), object);
                let code = self.mappings.place(pc);
                self.irrevocable.entry(key).or_insert((0, code)).0 += 1;
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
            Record::Site { number, site } => {
                self.mappings.host.insert(number, site);
                0
            }
            Record::Object { number, object } => {
                self.objects.insert(number, object);
                0
            }
            Record::Domain(domain) => {
                self.domains.push(domain);
                0
            }
            Record::Serialised { domain, reason } => {
                let found = self.domains.iter_mut().find(|each| each.name == domain);
                if let Some(domain) = found {
                    domain.reasons.push(reason);
                }
                0
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
            self.mappings.place_of(conflict.pc, conflict.site),
            self.mappings
                .place_of(conflict.other_pc, conflict.other_site),
            conflict.object,
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
        let objects = &self.objects;
        let mut conflicts = merge_conflicts(self.conflicts, objects, &mut symbols);
        for ((by, of, object), count) in self.thrown_away {
            let sides = (symbols.site(by), symbols.site(of), objects.get(&object));
            let about = |c: &&mut ConflictSite| {
                (&c.site, &c.other, c.object.as_ref()) == (&sides.0, &sides.1, sides.2)
            };
            if let Some(conflict) = conflicts.iter_mut().find(about) {
                conflict.rollbacks += count.0;
                conflict.thrown_away_ns = conflict.thrown_away_ns.saturating_add(count.1);
            }
        }
        // Maps are sorted by site, and these sorts are stable: equal entries keep a fixed order.
        conflicts.sort_by_key(|site| std::cmp::Reverse((site.cost_ns(), site.count)));
        let answers = match self.mappings.host.is_empty() {
            true => Vec::new(),
            false => answers(&conflicts),
        };
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
        aborts.sort_by_key(|site| std::cmp::Reverse((site.lost_ns, site.count)));
        let irrevocable = merged(
            self.irrevocable
                .into_iter()
                .map(|((exclusive, place, object), (count, code))| {
                    let what = if exclusive { "exclusive" } else { "inevitable" };
                    let code = match (place, code) {
                        (Place::Host(_), Place::InFile { .. }) => Some(symbols.site(code)),
                        _ => None,
                    };
                    let object = objects.get(&object).cloned();
                    ((what, symbols.site(place), object), (count, code))
                }),
            |sum: &mut (u64, Option<Site>), (count, code)| {
                sum.0 += count;
                sum.1 = sum.1.take().or(code);
            },
        );
        let mut irrevocable: Vec<_> = irrevocable
            .into_iter()
            .map(|((what, mut site, object), (count, code))| {
                if let Some(code) = code {
                    site.within(code);
                }
                IrrevocableSite {
                    what,
                    site,
                    object,
                    count,
                }
            })
            .collect();
        irrevocable.sort_by_key(|site| std::cmp::Reverse(site.count));
        let mut domains = self.domains;
        domains.sort_by_key(|d| std::cmp::Reverse(d.entries.saturating_add(d.elided)));
        let mut notes = std::mem::take(&mut symbols.problems);
        notes.sort();
        Summary {
            process: self.process,
            trace,
            duration_ns: self.duration_ns,
            totals,
            answers,
            conflicts,
            aborts,
            irrevocable,
            threads,
            domains,
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
    counts: HashMap<(u8, Place, Place, u32), ConflictCount>,
    objects: &HashMap<u32, Object>,
    symbols: &mut Symbols,
) -> Vec<ConflictSite> {
    let counts = merged(
        counts
            .into_iter()
            .map(|((access, place, other, object), count)| {
                let object = objects.get(&object).cloned();
                let sides = (symbols.site(place), symbols.site(other));
                ((access, sides.0, sides.1, object), count)
            }),
        |sum: &mut ConflictCount, count| {
            sum.lost_ns = sum.lost_ns.saturating_add(count.lost_ns);
            sum.granules.extend(count.granules);
            for (sum, count) in sum.outcomes.iter_mut().zip(count.outcomes) {
                *sum += count;
            }
        },
    );
    counts
        .into_iter()
        .map(|((access, site, other, object), count)| ConflictSite {
            access: access_name(access),
            site,
            other,
            count: count.outcomes.iter().sum(),
            lost_ns: count.lost_ns,
            granules: count.granules.len() as u64,
            waited: count.outcomes[usize::from(outcome::WAITED)],
            wounded_other: count.outcomes[usize::from(outcome::WOUNDED)],
            rolled_back: count.outcomes[usize::from(outcome::ABORTED)],
            object,
            rollbacks: 0,
            thrown_away_ns: 0,
        })
        .collect()
}

/// What AME CPython calls waits for another thread's turn (cpython-shim/src/host.c).
const TURNS: &str = "threads that take turns";
/// What else it names that is no object of the program, but how its threads run.
const MANNERS: [&str; 2] = [
    "thread that ran alone",
    "code that ran before there were threads",
];

/// Adds up by line and type of object, whatever the kind of access; `conflicts` are sorted by cost.
fn answers(conflicts: &[ConflictSite]) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    let mut objects: HashSet<(usize, &Option<Object>)> = HashSet::new();
    fn kind(object: &Option<Object>) -> Option<(&str, &str)> {
        object.as_ref().map(|o| (&*o.kind, &*o.advice))
    }
    let is_turn = |object: &Option<Object>| object.as_ref().is_some_and(|o| o.kind == TURNS);
    for conflict in conflicts.iter().filter(|conflict| conflict.cost_ns() > 0) {
        // What many wait for is where a transaction became irrevocable, not where they wait.
        let irrevocable = [access::TOKEN, access::EXCLUSIVE]
            .iter()
            .any(|&code| conflict.access == access_name(code));
        let (site, other) = match irrevocable && conflict.other.file.is_some() {
            true => (&conflict.other, &conflict.site),
            false => (&conflict.site, &conflict.other),
        };
        let line = |site: &Site| Site {
            within: None,
            ..site.clone()
        };
        let (site, other) = (line(site), line(other));
        // Where a thread is that waits for its turn says nothing.
        let same = |a: &Answer| {
            kind(&a.object) == kind(&conflict.object)
                && (a.site == site || is_turn(&conflict.object))
        };
        let known = answers.iter().position(same);
        let new = objects.insert((known.unwrap_or(answers.len()), &conflict.object));
        if let Some(answer) = known.map(|index| &mut answers[index]) {
            answer.more += u64::from(new);
            answer.lost_ns = answer.lost_ns.saturating_add(conflict.cost_ns());
            answer.count += conflict.count;
        } else {
            answers.push(Answer {
                site,
                other,
                object: conflict.object.clone(),
                more: 0,
                lost_ns: conflict.cost_ns(),
                count: conflict.count,
            });
        }
    }
    // Where threads take turns, what they take turns for costs little; so how they run otherwise comes after it.
    let turns = answers.iter().any(|answer| is_turn(&answer.object));
    let is_manner = |answer: &Answer| {
        let kind = answer.object.as_ref().map(|o| &*o.kind);
        turns && kind.is_some_and(|kind| MANNERS.contains(&kind))
    };
    answers.sort_by_key(|answer| {
        let cost = std::cmp::Reverse((answer.lost_ns, answer.count));
        (is_manner(answer), cost)
    });
    // What costs less than a hundredth of all is no answer.
    let others = answers
        .iter()
        .filter(|answer| !is_turn(&answer.object) && !is_manner(answer));
    let all = others.map(|answer| answer.lost_ns / 100).sum();
    answers.retain(|answer| answer.lost_ns > all);
    answers
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
            (kind::SITE, 24),
            (kind::OBJECT, 24),
            (kind::CONFLICT, 58),
            (kind::ABORT, 43),
            (kind::SLICE, 50),
            (kind::IRREVOCABLE, 27),
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
