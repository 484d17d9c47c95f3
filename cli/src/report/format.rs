//! Numbers and bars as people read them.

/// `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits and a unit: `12.3 ms`.
pub fn time(ns: u64) -> String {
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1e3, "us"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = ns as f64 / unit;
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {name}")
}

/// `12.3 %`; of nothing it is `-`.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

/// `1 time`, `2 times`.
pub fn counted(value: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        count(value),
        if value == 1 { "" } else { "s" }
    )
}

/// One character per value between 0 and 1; a value above 0 is always visible.
pub fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |&value: &f64| {
        if value <= 0.0 {
            return ' ';
        }
        BARS[((value * 8.0).ceil() as usize).clamp(1, 8) - 1]
    };
    values.iter().map(bar).collect()
}

/// Spreads spans of time over equal buckets of `[0, duration)`: the sum of `amount` per bucket, in
/// the unit of `amount`.
pub fn spread(
    spans: impl Iterator<Item = (u64, u64, u64)>,
    duration: u64,
    buckets: usize,
) -> Vec<f64> {
    let mut sums = vec![0.0; buckets];
    let width = duration.max(1) as f64 / buckets as f64;
    for (start, length, amount) in spans {
        let (start, end) = (start as f64, start as f64 + length.max(1) as f64);
        let first = ((start / width) as usize).min(buckets - 1);
        let last = ((end / width) as usize).min(buckets - 1);
        for (bucket, sum) in sums.iter_mut().enumerate().take(last + 1).skip(first) {
            let from = start.max(bucket as f64 * width);
            let to = end.min((bucket + 1) as f64 * width);
            *sum += amount as f64 * (to - from).max(0.0) / (end - start);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(1_500), "1.50 us");
        assert_eq!(time(12_345_678), "12.3 ms");
        assert_eq!(time(123_456_789), "123 ms");
        assert_eq!(time(61_000_000_000), "61.0 s");
        assert_eq!(share(1, 8), "12.5 %");
        assert_eq!(share(0, 0), "-");
        assert_eq!(counted(1, "time"), "1 time");
        assert_eq!(counted(1000, "granule"), "1,000 granules");
    }

    #[test]
    fn bars() {
        assert_eq!(sparkline(&[0.0, 0.01, 0.5, 1.0, 7.0]), " ▁▄██");
    }

    #[test]
    fn a_span_over_several_buckets_is_divided() {
        assert_eq!(spread([(0, 100, 50)].into_iter(), 100, 2), [25.0, 25.0]);
        assert_eq!(
            spread([(25, 50, 8)].into_iter(), 100, 4),
            [0.0, 4.0, 4.0, 0.0]
        );
        let all: f64 = spread([(90, 10, 7), (99, 0, 3)].into_iter(), 100, 3)
            .iter()
            .sum();
        assert!((all - 10.0).abs() < 1e-9);
    }
}
