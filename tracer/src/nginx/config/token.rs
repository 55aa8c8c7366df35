//! Splits a configuration file into directives by the rules of `ngx_conf_read_token`: quotes only at the beginning of
//! a word, backslash escapes, `${name}`, comments, blocks. Blocks of Lua code are skipped. Never fails; what is wrong
//! is said with its line number.

/// A step through a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `name argument …;`
    Directive(Vec<String>),
    /// `name argument … {`
    Open(Vec<String>),
    /// `}`
    Close,
    /// Something that cannot be read.
    Problem(String),
}

/// Walks through a file.
pub struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u32,
    /// Line on which the latest step began.
    began: u32,
    words: Vec<String>,
}

enum Piece {
    Word(String),
    End,
    Open,
    Close,
    Unclosed,
}

impl<'a> Tokens<'a> {
    /// Walks through `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, line: 1, began: 1, words: Vec::new() }
    }

    /// Number of the line on which the latest step began, from 1.
    pub fn began(&self) -> u32 {
        self.began
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.line += u32::from(byte == b'\n');
        Some(byte)
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.at += 1;
                    }
                }
                byte if byte.is_ascii_whitespace() => {
                    self.bump();
                }
                _ => return,
            }
        }
    }

    fn piece(&mut self) -> Option<Piece> {
        self.skip_space();
        if self.words.is_empty() {
            self.began = self.line;
        }
        let byte = self.peek()?;
        let simple = match byte {
            b';' => Piece::End,
            b'{' => Piece::Open,
            b'}' => Piece::Close,
            b'"' | b'\'' => {
                self.at += 1;
                return Some(self.quoted(byte));
            }
            _ => return Some(self.bare()),
        };
        self.at += 1;
        Some(simple)
    }

    fn quoted(&mut self, quote: u8) -> Piece {
        let mut word = Vec::new();
        while let Some(byte) = self.bump() {
            match byte {
                b'\\' => self.escape(&mut word),
                byte if byte == quote => return Piece::Word(text(&word)),
                _ => word.push(byte),
            }
        }
        Piece::Unclosed
    }

    fn bare(&mut self) -> Piece {
        let mut word = Vec::new();
        while let Some(byte) = self.peek() {
            let after_dollar = word.last() == Some(&b'$');
            let ends = byte.is_ascii_whitespace() || byte == b';' || (byte == b'{' && !after_dollar);
            if ends {
                break;
            }
            self.bump();
            if byte == b'\\' { self.escape(&mut word) } else { word.push(byte) }
        }
        Piece::Word(text(&word))
    }

    /// Quotes and backslashes lose their backslash, `t`, `r` and `n` become what they stand for, others keep it.
    fn escape(&mut self, word: &mut Vec<u8>) {
        match self.bump() {
            Some(byte @ (b'"' | b'\'' | b'\\')) => word.push(byte),
            Some(b't') => word.push(b'\t'),
            Some(b'r') => word.push(b'\r'),
            Some(b'n') => word.push(b'\n'),
            Some(byte) => word.extend([b'\\', byte]),
            None => word.push(b'\\'),
        }
    }

    /// Skips Lua code up to its closing brace.
    fn skip_lua(&mut self) -> bool {
        let mut depth = 1_u32;
        while let Some(byte) = self.bump() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b'"' | b'\'' => self.skip_lua_string(byte),
                b'-' if self.peek() == Some(b'-') => self.skip_lua_comment(),
                b'[' => self.skip_long_bracket(),
                _ => {}
            }
            if depth == 0 {
                return true;
            }
        }
        false
    }

    fn skip_lua_string(&mut self, quote: u8) {
        while let Some(byte) = self.bump() {
            match byte {
                b'\\' => {
                    self.bump();
                }
                byte if byte == quote || byte == b'\n' => return,
                _ => {}
            }
        }
    }

    fn skip_lua_comment(&mut self) {
        self.at += 1;
        if self.peek() == Some(b'[') {
            self.at += 1;
            let before = self.at;
            self.skip_long_bracket();
            if self.at != before {
                return;
            }
        }
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.at += 1;
        }
    }

    /// `[[ … ]]` and `[==[ … ]==]`; the first bracket is read already.
    fn skip_long_bracket(&mut self) {
        let rest = &self.bytes[self.at..];
        let equals = rest.iter().take_while(|byte| **byte == b'=').count();
        if rest.get(equals) != Some(&b'[') {
            return;
        }
        let closing = [&b"]"[..], &rest[..equals], b"]"].concat();
        let inside = &rest[equals + 1..];
        let length = memchr::memmem::find(inside, &closing).map_or(inside.len(), |at| at + closing.len());
        let end = self.at + equals + 1 + length;
        while self.at < end {
            self.bump();
        }
    }

    fn open(&mut self) -> Step {
        let words = std::mem::take(&mut self.words);
        let is_lua = words.first().is_some_and(|name| name.ends_with("_by_lua_block"));
        if !is_lua {
            return Step::Open(words);
        }
        if self.skip_lua() { Step::Directive(words) } else { self.problem("a Lua block is not closed") }
    }

    fn problem(&self, what: &str) -> Step {
        Step::Problem(format!("line {}: {what}", self.line))
    }
}

impl Iterator for Tokens<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            match self.piece() {
                Some(Piece::Word(word)) => self.words.push(word),
                Some(Piece::End) if self.words.is_empty() => {}
                Some(Piece::End) => return Some(Step::Directive(std::mem::take(&mut self.words))),
                Some(Piece::Open) => return Some(self.open()),
                Some(Piece::Close) => {
                    self.words.clear();
                    return Some(Step::Close);
                }
                Some(Piece::Unclosed) => return Some(self.problem("a quote is not closed")),
                None if self.words.is_empty() => return None,
                None => {
                    self.words.clear();
                    return Some(self.problem("the file ends inside a directive"));
                }
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        Tokens::new(text.as_bytes()).collect()
    }

    fn directive(words: &[&str]) -> Step {
        Step::Directive(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn open(words: &[&str]) -> Step {
        Step::Open(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn words_quotes_and_comments() {
        assert_eq!(
            steps("log_format a '$x \"y\" ' \"b;c\"; # comment;\nuser www#1;"),
            [directive(&["log_format", "a", "$x \"y\" ", "b;c"]), directive(&["user", "www#1"])]
        );
        assert_eq!(steps(r#"a "x\"y\tz\d";"#), [directive(&["a", "x\"y\tz\\d"])]);
    }

    #[test]
    fn blocks_and_variables_in_braces() {
        assert_eq!(
            steps("server{listen 80;proxy_pass http://${h}/;}"),
            [
                open(&["server"]),
                directive(&["listen", "80"]),
                directive(&["proxy_pass", "http://${h}/"]),
                Step::Close
            ]
        );
    }

    #[test]
    fn lua_code_is_skipped_whole() {
        let text = "content_by_lua_block { local a = '}' -- }\n local b = [==[ } ]==] if x then y({}) end }\nlisten 81;";
        assert_eq!(steps(text), [directive(&["content_by_lua_block"]), directive(&["listen", "81"])]);
    }

    #[test]
    fn what_is_not_closed_is_said() {
        assert_eq!(
            steps("a \"b"),
            [
                Step::Problem("line 1: a quote is not closed".to_owned()),
                Step::Problem("line 1: the file ends inside a directive".to_owned())
            ]
        );
        assert_eq!(
            steps("\nlisten 80"),
            [Step::Problem("line 2: the file ends inside a directive".to_owned())]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Tokens::new(&bytes).count() <= bytes.len() + 2);
        }

        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("[ -~]{0,12}", 1..5)) {
            let quote = |word: &String| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
            let line = words.iter().map(quote).collect::<Vec<_>>().join(" ") + ";";
            prop_assert_eq!(Tokens::new(line.as_bytes()).collect::<Vec<_>>(), vec![Step::Directive(words)]);
        }
    }
}
