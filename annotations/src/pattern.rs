//! Names with `*`: `PyExc_*`, `*_as_number`.

/// Whether `name` matches `pattern`, in which each `*` stands for any text, also none.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    // split() yields at least one part.
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Whether the text is a pattern rather than a plain name.
pub fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_stands_for_any_text() {
        assert!(matches("PyExc_*", "PyExc_TypeError"));
        assert!(matches("*_as_number", "long_as_number"));
        assert!(matches("a*b*c", "a--b--b--c"));
        assert!(matches("*", ""));
        assert!(matches("name", "name"));
        assert!(!matches("name", "names"));
        assert!(!matches("ab*ba", "aba"));
        assert!(!matches("a*b*c", "a--c"));
    }
}
