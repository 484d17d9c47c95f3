//! Response files (`@file`), split the way clang's driver splits them on Unix.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The words of a response file; `None` when there is no such file (then `@file` is an ordinary
/// argument, as it is for clang).
pub fn read(path: &OsStr) -> Option<Vec<OsString>> {
    let bytes = std::fs::read(Path::new(path)).ok()?;
    Some(split(&bytes))
}

/// GNU rules: words are separated by white space; quotes of both kinds group; a backslash keeps the
/// next character, in quotes too.
fn split(text: &[u8]) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote: Option<u8> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\\', _) => {
                // A backslash at the very end stands for nothing.
                if let Some(next) = bytes.next() {
                    word.get_or_insert_default().push(next);
                }
            }
            (_, Some(open)) if byte == open => quote = None,
            (b'\'' | b'"', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (b' ' | b'\t' | b'\r' | b'\n', None) => {
                words.extend(word.take().map(OsString::from_vec));
            }
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word.map(OsString::from_vec));
    words
}

/// The path behind an `@file` argument.
pub fn path_of(argument: &OsStr) -> Option<&OsStr> {
    argument
        .as_bytes()
        .strip_prefix(b"@")
        .filter(|rest| !rest.is_empty())
        .map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text.as_bytes())
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn white_space_quotes_and_backslashes() {
        assert_eq!(words("-c a.c\n -o\ta.o\r\n"), ["-c", "a.c", "-o", "a.o"]);
        assert_eq!(
            words(r#""a b.c" 'c d.c' e\ f.c"#),
            ["a b.c", "c d.c", "e f.c"]
        );
        assert_eq!(words(r#"-DX=\"y\" '' -D'Z'=1"#), ["-DX=\"y\"", "", "-DZ=1"]);
        assert_eq!(words(r#""a\"b" 'it'"'"'s'"#), ["a\"b", "it's"]);
        assert_eq!(words("  "), Vec::<String>::new());
    }

    #[test]
    fn not_a_response_file() {
        assert_eq!(
            path_of(OsStr::new("@args.rsp")),
            Some(OsStr::new("args.rsp"))
        );
        assert_eq!(path_of(OsStr::new("@")), None);
        assert_eq!(path_of(OsStr::new("a@b")), None);
        assert_eq!(read(OsStr::new("/nonexistent/args.rsp")), None);
    }
}
