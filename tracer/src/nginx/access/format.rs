//! A `log_format`, taken apart once, and lines cut into the values of its variables (`ngx_http_log_module`).
//!
//! Between two variables stands fixed text, and a value ends where that text begins. Three things need more care:
//! lists of upstreams hold blanks and colons of their own, `$time_local` holds a blank, and values are escaped.

use memchr::memmem;

use crate::nginx::config::LogFormat;

/// Most variables of a format that are looked at.
const MOST: usize = 200;

/// How Nginx makes values safe (`escape=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// `\xHH`.
    Default,
    /// As in JSON strings.
    Json,
    /// Not at all.
    None,
}

/// A piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Variable(String),
}

/// A format, ready to read lines with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pieces: Vec<Piece>,
    /// How values are escaped.
    pub escape: Escape,
}

/// The value of a variable in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'f, 'l> {
    /// Its name, without the dollar.
    pub name: &'f str,
    /// As printed.
    pub raw: &'l [u8],
}

impl Format {
    /// Takes a format apart.
    pub fn new(format: &LogFormat) -> Self {
        let escape = match format.escape.as_str() {
            "json" => Escape::Json,
            "none" => Escape::None,
            _ => Escape::Default,
        };
        Self { pieces: pieces(&format.format), escape }
    }

    /// Whether the format prints this variable.
    pub fn has(&self, variable: &str) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Variable(name) if name == variable))
    }

    /// The values of a line; `None` if the line is not of this format.
    pub fn split<'f, 'l>(&'f self, line: &'l [u8]) -> Option<Vec<Value<'f, 'l>>> {
        let mut rest = line;
        let mut values = Vec::with_capacity(self.pieces.len() / 2 + 1);
        for (at, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) => rest = rest.strip_prefix(text.as_slice())?,
                Piece::Variable(name) => {
                    let end = match self.pieces.get(at + 1) {
                        Some(Piece::Text(text)) => end_of(name, rest, text)?,
                        // Two variables without a text between them: the first takes all.
                        Some(Piece::Variable(_)) | None => rest.len(),
                    };
                    values.push(Value { name, raw: &rest[..end] });
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty().then_some(values)
    }
}

fn pieces(format: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('$') {
        let (name, after) = variable(&rest[at + 1..]);
        if name.is_empty() || pieces.len() >= MOST {
            break;
        }
        if at > 0 {
            pieces.push(Piece::Text(rest.as_bytes()[..at].to_vec()));
        }
        pieces.push(Piece::Variable(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.as_bytes().to_vec()));
    }
    pieces
}

/// `name` or `{name}`, and what follows.
fn variable(text: &str) -> (&str, &str) {
    if let Some((name, after)) = text.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
        return (name, after);
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.split_at(end)
}

/// Length of `$time_local`: `20/Nov/2026:06:43:33 +0000`.
const TIME_LOCAL: usize = 26;

/// Where the value of a variable ends: at the first following text that can be its end.
fn end_of(name: &str, rest: &[u8], text: &[u8]) -> Option<usize> {
    let is_list = name.starts_with("upstream_");
    memmem::find_iter(rest, text).find(|end| {
        let (value, after) = (&rest[..*end], &rest[end + text.len()..]);
        match name {
            "time_local" => value.len() >= TIME_LOCAL || value == b"-",
            _ if is_list => is_whole_list(value, text, after),
            _ => true,
        }
    })
}

/// `a, b : c` is one value although it holds blanks: a comma or a colon before or behind a blank goes on.
fn is_whole_list(value: &[u8], text: &[u8], after: &[u8]) -> bool {
    if text.first() == Some(&b',') && after.first() == Some(&b' ') && text.len() == 1 {
        return false;
    }
    if text.first() != Some(&b' ') {
        return true;
    }
    !value.ends_with(b",") && !value.ends_with(b" :") && !after.starts_with(b": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> Format {
        Format::new(&LogFormat {
            name: "f".to_owned(),
            escape: "default".to_owned(),
            format: text.to_owned(),
        })
    }

    fn split(text: &str, line: &str) -> Option<Vec<(String, String)>> {
        let format = format(text);
        let values = format.split(line.as_bytes())?;
        let owned =
            |value: &Value<'_, '_>| (value.name.to_owned(), String::from_utf8_lossy(value.raw).into_owned());
        Some(values.iter().map(owned).collect())
    }

    fn value(text: &str, line: &str, name: &str) -> Option<String> {
        split(text, line)?.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    #[test]
    fn the_combined_format() {
        let combined = LogFormat::combined().format;
        let line =
            r#"10.0.0.9 - a b [20/Nov/2026:06:43:33 +0000] "GET /a HTTP/1.1" 502 157 "-" "curl/8 (x)""#;
        assert_eq!(value(&combined, line, "remote_user").as_deref(), Some("a b"));
        assert_eq!(value(&combined, line, "status").as_deref(), Some("502"));
        assert_eq!(value(&combined, line, "http_user_agent").as_deref(), Some("curl/8 (x)"));
        assert_eq!(split(&combined, "something else"), None);
        assert_eq!(split(&combined, &format!("{line} more")), None);
    }

    #[test]
    fn lists_of_upstreams_are_one_value() {
        let text = "$status $upstream_addr $upstream_response_time $upstream_status $request_id";
        let line = "200 10.0.0.1:80, [::1]:81 : unix:/run/a.sock 0.001, 0.002 : - 502, 200 : 200 abc";
        assert_eq!(
            value(text, line, "upstream_addr").as_deref(),
            Some("10.0.0.1:80, [::1]:81 : unix:/run/a.sock")
        );
        assert_eq!(value(text, line, "upstream_status").as_deref(), Some("502, 200 : 200"));
        assert_eq!(value(text, line, "request_id").as_deref(), Some("abc"));
        let comma = "$upstream_addr,$status";
        assert_eq!(
            value(comma, "10.0.0.1:80, 10.0.0.2:80,200", "upstream_addr").as_deref(),
            Some("10.0.0.1:80, 10.0.0.2:80")
        );
    }

    #[test]
    fn names_in_braces_and_times_with_a_blank() {
        assert_eq!(
            value("${status}x $time_local $msec", "200x 20/Nov/2026:06:43:33 +0000 1.5", "msec").as_deref(),
            Some("1.5")
        );
        assert!(format("$a $connection").has("connection"));
    }
}
