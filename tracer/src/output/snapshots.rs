//! What people read, as snapshots: incidents, header and summary, plain and coloured.

use jiff::tz::TimeZone;

use super::samples;
use super::style::Palette;
use super::text::TextOptions;

pub(super) fn options(width: Option<usize>, colour: bool) -> TextOptions {
    TextOptions { palette: Palette { colour }, width, zone: TimeZone::UTC }
}

mod incident {
    use super::super::sanitize::is_dangerous;
    use super::super::text::incident;
    use super::*;

    #[test]
    fn look() {
        for v in samples::all() { println!("{}", incident(&v, &options(Some(100), std::env::var_os("C").is_some()))); }
        println!("=========== 80");
        for v in samples::all() { print!("{}", incident(&v, &options(Some(80), false))); }
        println!("=========== pipe");
        for v in samples::all() { print!("{}", incident(&v, &options(None, false))); }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 60, 80, 100, 132] {
            for verdict in samples::all() {
                let text = incident(&verdict, &options(Some(width), false));
                for line in text.lines() {
                    assert!(line.chars().count() <= width, "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn nothing_hostile_reaches_the_terminal() {
        for width in [Some(80), None] {
            let text = incident(&samples::hostile(), &options(width, false));
            assert!(!text.replace('\n', "").chars().any(is_dangerous), "{text}");
            assert!(text.lines().all(|line| !line.starts_with("fake line")), "{text}");
        }
    }
}
