//! Run-time settings, read once from the environment.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `AME_CHAOS=seed,rate` | abort at random in slow paths and polls; rate is a probability |
//! | `AME_LOG=file` | write a binary trace for `ame report` |
//! | `AME_STATS=1` | print totals to stderr at exit |
//! | `AME_WARN=1` | say which uninstrumented function made a transaction exclusive (once each); with 0 AME CPython does not name extension modules, either |
//! | `AME_STAMP=n` | longest run of granules stamped ahead of a sequential reader (0: off) |
//! | `AME_TURN=n` | longest turn where threads take turns, in microseconds (0: they never do) |
//! | `AME_TURN=n,always` | the same, and they do whether it is faster or not (tests) |
//! | `AME_ELIDE=0` | entries of extensions hold their domain, also where they could be transactions |
//! | `AME_ELIDE=always` | they are transactions where they can be, whether that is faster or not (tests) |
//! | `AME_LEASES=1` | all transactions keep what they have acquired for the next, not only those of extensions (tests) |
//! | `AME_MAX_VERSION=n` | wrap versions at n (tests) |

use crate::fatal;
use std::sync::OnceLock;

/// Whether entries that can be transactions are.
#[derive(Clone, Copy, PartialEq)]
pub enum Elide {
    Never,
    WhereFaster,
    Always,
}

pub struct Config {
    /// Chance of an abort per slow path, in 1/2^32; 0 is off.
    pub chaos_rate: u32,
    pub chaos_seed: u64,
    pub log: Option<std::path::PathBuf>,
    pub stats: bool,
    pub warn: bool,
    pub stamp_ahead: u32,
    /// In cycles of the time stamp counter.
    pub turn: u64,
    pub always_turns: bool,
    pub elide: Elide,
    pub leases: bool,
    pub max_version: u16,
}

/// Largest usable version: `ver + 1` must stay below `VER_POKED`.
const MAX_VERSION: u16 = 0xfff8;

fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    match value.into_string() {
        Ok(text) if text.is_empty() => None,
        Ok(text) => Some(text),
        Err(_) => fatal!("environment variable {name} is not valid UTF-8"),
    }
}

fn number<T: std::str::FromStr>(name: &str, default: T, range: &str, ok: fn(&T) -> bool) -> T {
    let Some(text) = variable(name) else {
        return default;
    };
    match text.parse() {
        Ok(value) if ok(&value) => value,
        _ => fatal!("{name}={text}: expected a number {range}"),
    }
}

fn flag(name: &str) -> bool {
    variable(name).is_some_and(|v| v != "0")
}

pub fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let (chaos_seed, chaos_rate) = match variable("AME_CHAOS") {
            None => (0, 0),
            Some(text) => parse_chaos(&text).unwrap_or_else(|| {
                fatal!("AME_CHAOS={text}: expected seed,rate such as 1,0.01 (rate from 0 to 0.9)")
            }),
        };
        let (turn, always_turns) = match variable("AME_TURN") {
            None => (4000, false),
            Some(text) => parse_turn(&text).unwrap_or_else(|| {
                fatal!("AME_TURN={text}: expected a number from 0 to 100000, or that and `,always`")
            }),
        };
        Config {
            chaos_rate,
            chaos_seed,
            log: variable("AME_LOG").map(Into::into),
            stats: flag("AME_STATS"),
            warn: flag("AME_WARN"),
            stamp_ahead: number("AME_STAMP", 64, "from 0 to 256", |n| *n <= 256),
            turn: 2600 * turn,
            always_turns,
            elide: match variable("AME_ELIDE").as_deref() {
                Some("0") => Elide::Never,
                None | Some("1") => Elide::WhereFaster,
                Some("always") => Elide::Always,
                Some(text) => fatal!("AME_ELIDE={text}: expected 0, 1 or always"),
            },
            leases: flag("AME_LEASES"),
            max_version: number("AME_MAX_VERSION", MAX_VERSION, "from 8 to 65528", |n| {
                (8..=MAX_VERSION).contains(n)
            }),
        }
    })
}

fn parse_turn(text: &str) -> Option<(u64, bool)> {
    let (number, always) = match text.strip_suffix(",always") {
        Some(number) => (number, true),
        None => (text, false),
    };
    let n = number.trim().parse().ok()?;
    (n <= 100_000).then_some((n, always))
}

fn parse_chaos(text: &str) -> Option<(u64, u32)> {
    let (seed, rate) = text.split_once(',')?;
    let rate: f64 = rate.trim().parse().ok()?;
    if !(0.0..=0.9).contains(&rate) {
        return None;
    }
    Some((seed.trim().parse().ok()?, (rate * u32::MAX as f64) as u32))
}
