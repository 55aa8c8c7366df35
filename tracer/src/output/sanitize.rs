//! Makes text from outside safe to show: error.log lines, process names, paths, addresses.
//!
//! Everything textual goes through here before it meets a terminal. A character that moves the cursor,
//! reorders the line or can't be seen becomes a visible escape; nothing is dropped without a mark.
//! Escaping is for the eye and is not meant to be undone: the JSON output has the exact bytes.

use std::borrow::Cow;

/// Mark of a shortened text.
pub const ELLIPSIS: char = '…';

/// Characters of a text that are looked at, at most. Longer ones are cut before anything else.
pub const MAX_CHARS: usize = 4096;

/// Ranges of characters that reorder, hide or join what stands around them (Unicode categories Cf, Zl, Zp
/// and the fillers that render as nothing), sorted.
const INVISIBLE: [(char, char); 16] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// The text on one terminal line: dangerous characters escaped, at most `max_chars` characters long,
/// the last of them an ellipsis when something was cut. An escape is never cut in half.
pub fn line(text: &str, max_chars: usize) -> Cow<'_, str> {
    let limit = max_chars.min(MAX_CHARS);
    if !text.chars().any(is_dangerous) && text.chars().nth(limit).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(escape(text, limit))
}

/// Whether a terminal would do something else with `character` than show it.
pub fn is_dangerous(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    character.is_control() || INVISIBLE.iter().any(|&(first, last)| (first..=last).contains(&character))
}

fn escape(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut length = 0;
    // Byte offset to cut back to when the ellipsis must fit.
    let mut room_for_ellipsis = 0;
    for character in text.chars() {
        let before = shown.len();
        push_visible(&mut shown, character);
        length += shown[before..].chars().count();
        if length > limit {
            shown.truncate(room_for_ellipsis);
            if limit > 0 {
                shown.push(ELLIPSIS);
            }
            return shown;
        }
        if length < limit {
            room_for_ellipsis = shown.len();
        }
    }
    shown
}

fn push_visible(out: &mut String, character: char) {
    if !is_dangerous(character) {
        return out.push(character);
    }
    let escape = match (character, u32::from(character)) {
        ('\n', _) => "\\n".to_owned(),
        ('\r', _) => "\\r".to_owned(),
        ('\t', _) => "\\t".to_owned(),
        (_, code @ 0..=0xff) => format!("\\x{code:02x}"),
        (_, code) => format!("\\u{{{code:x}}}"),
    };
    out.push_str(&escape);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hostile: &str, shown: &str) {
        assert_eq!(line(hostile, 200), shown);
    }

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(line("GET /größe?q=日本 HTTP/1.1", 80), Cow::Borrowed(_)));
    }

    #[test]
    fn terminal_control_becomes_visible() {
        check("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred");
        check("\x1b]0;title\x07", "\\x1b]0;title\\x07");
        check("a\nb\r\nc\td", "a\\nb\\r\\nc\\td");
        check("nul\0 del\x7f bs\x08", "nul\\x00 del\\x7f bs\\x08");
        check("c1 csi \u{9b}31m", "c1 csi \\x9b31m");
    }

    #[test]
    fn reordering_and_invisible_characters_become_visible() {
        check("/pay\u{202e}gpj.exe", "/pay\\u{202e}gpj.exe");
        check("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}");
        check("ad\u{200b}min\u{feff}", "ad\\u{200b}min\\u{feff}");
        check("line\u{2028}sep", "line\\u{2028}sep");
        check("soft\u{ad}hyphen", "soft\\xadhyphen");
        check("tag\u{e0041}", "tag\\u{e0041}");
    }

    #[test]
    fn long_text_ends_in_an_ellipsis_within_the_bound() {
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdefg", 6), "abcde…");
        assert_eq!(line("abcdefg", 1), "…");
        assert_eq!(line("abcdefg", 0), "");
        assert_eq!(line("日本語日本語", 4), "日本語…");
    }

    #[test]
    fn an_escape_is_never_cut_in_half() {
        assert_eq!(line("ab\x1bcd", 5), "ab…");
        assert_eq!(line("ab\x1bcd", 7), "ab\\x1b…");
        assert_eq!(line("ab\x1bc", 7), "ab\\x1bc");
    }

    #[test]
    fn the_bound_holds_whatever_is_asked() {
        assert_eq!(line(&"\x1b".repeat(100_000), usize::MAX).chars().count(), MAX_CHARS - 3);
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        assert!(INVISIBLE.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    proptest::proptest! {
        #[test]
        fn nothing_dangerous_survives(text in ".*", limit in 0_usize..64) {
            let shown = line(&text, limit);
            proptest::prop_assert!(!shown.chars().any(is_dangerous));
            proptest::prop_assert!(shown.chars().count() <= limit);
        }
    }
}
