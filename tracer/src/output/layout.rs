//! Words, spans and lines: how numbers are said and how text is broken to the width of a terminal.
//! Works on text that is already safe to show (see [`super::sanitize`]); widths are in characters.

/// A number of milliseconds as a person says it.
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `1 worker`, `2 workers`.
pub fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// Length in characters.
pub fn length(text: &str) -> usize {
    text.chars().count()
}

/// Breaks `text` at spaces into lines of at most `width` characters; a longer word is cut into pieces.
/// `None` keeps one line.
pub fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.map(|width| width.max(1)) else {
        return vec![text.to_owned()];
    };
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !current.is_empty() && length(&current) + 1 + length(word) > width {
            lines.push(std::mem::take(&mut current));
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
        cut(&mut current, width, &mut lines);
    }
    if !current.is_empty() || lines.is_empty() {
        lines.push(current);
    }
    lines
}

/// Moves pieces of exactly `width` characters to `lines` until the rest fits.
fn cut(current: &mut String, width: usize, lines: &mut Vec<String>) {
    while let Some((at, _)) = current.char_indices().nth(width) {
        let rest = current.split_off(at);
        lines.push(std::mem::replace(current, rest));
    }
}

/// Appends `first` and then `text`, broken so that no line is longer than `width`; following lines start
/// under the text. `first_length` is the visible length of `first`, which may hold colour escapes.
pub fn hang(out: &mut String, first: &str, first_length: usize, text: &str, width: Option<usize>) {
    let room = width.map(|width| width.saturating_sub(first_length).max(20));
    let mut prefix = first.to_owned();
    for line in wrap(text, room) {
        out.push_str(&prefix);
        out.push_str(&line);
        out.push('\n');
        prefix = " ".repeat(first_length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_two_units_at_most() {
        let said = [0, 999, 1500, 59_999, 252_000, 7_500_000, 200_000_000].map(span);
        assert_eq!(said, ["0 ms", "999 ms", "1.5 s", "59.9 s", "4 min 12 s", "2 h 5 min", "2 d 7 h"]);
    }

    #[test]
    fn counts_have_their_plural() {
        assert_eq!((count(0, "log"), count(1, "log")), ("0 logs".to_owned(), "1 log".to_owned()));
    }

    #[test]
    fn text_breaks_at_spaces_and_long_words_in_pieces() {
        assert_eq!(wrap("one two three", Some(7)), ["one two", "three"]);
        assert_eq!(wrap("a 123456789 b", Some(4)), ["a", "1234", "5678", "9 b"]);
        assert_eq!(wrap("stays  whole", None), ["stays  whole"]);
        assert_eq!(wrap("", Some(4)), [""]);
    }

    #[test]
    fn following_lines_start_under_the_text() {
        let mut out = String::new();
        hang(&mut out, "\x1b[1mlog\x1b[0m  ", 5, "alpha beta gamma delta epsilon", Some(25));
        assert_eq!(out, "\x1b[1mlog\x1b[0m  alpha beta gamma\n     delta epsilon\n");
    }

    proptest::proptest! {
        #[test]
        fn no_wrapped_line_is_too_long_and_no_word_is_lost(text in "[a-zé ]{0,200}", width in 1_usize..40) {
            let lines = wrap(&text, Some(width));
            proptest::prop_assert!(lines.iter().all(|line| length(line) <= width));
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            proptest::prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
