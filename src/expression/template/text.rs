//! Where the expressions in a text begin and end.

use super::Invalid;

/// A part of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    Text(String),
    Expression(&'a str),
}

/// Takes a text apart. The `}` that closes an expression is the first that does not stand in a text of it, in a comment,
/// or closes a `{` of its own.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Invalid> {
    let mut pieces = vec![];
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            plain.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let end = end_of(after).ok_or(Invalid::Unclosed)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Expression(&after[..end]));
            rest = &after[end + 1..];
        } else {
            plain.push('$');
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

/// Where the `}` stands that closes an expression which begins here.
fn end_of(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 0_usize;
    let mut at = 0;
    // Where the word began that ends here: `r` in front of a quote takes backslashes as they are.
    let mut word = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            b'\'' | b'"' => {
                let is_raw =
                    matches!(&bytes[word..at], [b'r' | b'R'] | [b'b' | b'B', b'r' | b'R'] | [b'r' | b'R', b'b' | b'B']);
                at = end_of_quoted(bytes, at, is_raw)?;
                word = at;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += text[at..].find('\n')?;
            }
            _ => {}
        }
        at += 1;
        if !(byte.is_ascii_alphanumeric() || byte == b'_') {
            word = at;
        }
    }
    None
}

/// Where it goes on after a quoted text that begins here.
fn end_of_quoted(bytes: &[u8], start: usize, is_raw: bool) -> Option<usize> {
    let quote = bytes[start];
    let three = [quote; 3];
    let quotes: &[u8] = if bytes[start..].starts_with(&three) { &three } else { &three[..1] };
    let mut at = start + quotes.len();
    while at < bytes.len() {
        if bytes[at] == b'\\' && !is_raw {
            at += 2;
        } else if bytes[at..].starts_with(quotes) {
            return Some(at + quotes.len());
        } else {
            at += 1;
        }
    }
    None
}
