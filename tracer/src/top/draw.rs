//! Draws the state on whatever size the terminal has; made for 80 columns and 24 lines. Every text is made safe to
//! show before it is drawn.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table, TableState};

use super::state::{Page, State};
use crate::model::Verdict;
use crate::model::verdict::{Certainty, Party};
use crate::output::text::clock;
use crate::output::{Palette, TextOptions, full, parts, sanitize};

/// Lines of the tables above the list.
const TABLES: u16 = 8;
/// Narrower terminals get no table of causes.
const WIDE: u16 = 70;

const HELP: &str = "\
 up, down, j, k   another incident, or another line
 page up, down    ten of them
 enter            the incident in full: evidence, what is missing, advice
 esc              back
 a                harmless incidents, too
 p, space         hold the list; what comes meanwhile is kept
 g                the latest
 ?                this help
 q                quit

 Rates are incidents that were not harmless, by the party at fault, in the last
 minute, five minutes, hour, and in all. From a store or a recording they end at
 its last incident.";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    draw_at(frame, state, Timestamp::now().as_second(), &TimeZone::system());
}

fn draw_at(frame: &mut Frame<'_>, state: &State, clock: i64, zone: &TimeZone) {
    let rows = [Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(title(state, clock, zone), head);
    match state.page {
        Page::Overview => overview(frame, state, body, (clock, zone)),
        Page::Verdict => verdict(frame, state, body, zone),
        Page::Help => frame.render_widget(Paragraph::new(HELP).block(framed("keys")), body),
    }
    frame.render_widget(keys(state), foot);
}

fn framed(title: &str) -> Block<'_> {
    Block::default().borders(Borders::TOP).title(format!(" {title} "))
}

fn title<'a>(state: &State, clock: i64, zone: &TimeZone) -> Line<'a> {
    let time = Timestamp::from_second(state.now(clock)).map_or_else(
        |_| String::new(),
        |stamp| stamp.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    );
    let state_of = match (&state.end, state.paused) {
        (Some(why), _) => format!("  {}", sanitize::line(why, 60)),
        (None, true) => format!("  HELD, {} more", state.held()),
        (None, false) => String::new(),
    };
    Line::from(vec![
        Span::styled("rstscope top", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {}  {time}", sanitize::line(&state.source, 40))),
        Span::styled(state_of, Style::new().fg(Color::Yellow)),
    ])
}

fn keys<'a>(state: &State) -> Line<'a> {
    let text = match state.page {
        Page::Overview => " ?: help  enter: in full  a: harmless  p: hold  q: quit",
        Page::Verdict | Page::Help => " esc: back  up, down: scroll",
    };
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

fn overview(frame: &mut Frame<'_>, state: &State, area: Rect, (clock, zone): (i64, &TimeZone)) {
    let [tables, list] = Layout::vertical([Constraint::Length(TABLES), Constraint::Min(2)]).areas(area);
    let parties = if area.width >= WIDE { 36 } else { area.width };
    let [left, right] = Layout::horizontal([Constraint::Length(parties), Constraint::Min(0)]).areas(tables);
    frame.render_widget(rates(state, clock), left);
    if right.width > 0 {
        frame.render_widget(causes(state), right);
    }
    incidents(frame, state, list, zone);
}

fn rates<'a>(state: &State, clock: i64) -> Table<'a> {
    let now = state.now(clock);
    let row = |party: &Party| {
        let counts = state.counts(*party, now).map(|count| format!("{count:>5}"));
        let name = Span::styled(party.slug(), party_style(*party));
        Row::new(std::iter::once(Line::from(name)).chain(counts.into_iter().map(Line::from)))
    };
    let widths = [10, 5, 5, 5, 5].map(Constraint::Length);
    let head = Row::new(["party", "  1 m", "  5 m", "  1 h", "  all"])
        .style(Style::new().add_modifier(Modifier::DIM));
    Table::new(Party::ALL.iter().map(row), widths).header(head).block(framed("rates"))
}

fn causes<'a>(state: &State) -> Table<'a> {
    let row = |(cause, place, count): (&crate::model::verdict::Cause, &str, u64)| {
        Row::new([format!("{count:>6}"), cause.slug().to_owned(), place.to_owned()])
    };
    let harmless = format!("causes, {} harmless", state.harmless_seen());
    let rows: Vec<Row<'_>> = state.causes().into_iter().take(usize::from(TABLES)).map(row).collect();
    let widths = [Constraint::Length(6), Constraint::Length(24), Constraint::Min(8)];
    let block = Block::default().borders(Borders::TOP).title(format!(" {harmless} "));
    Table::new(rows, widths).block(block)
}

fn incidents(frame: &mut Frame<'_>, state: &State, area: Rect, zone: &TimeZone) {
    let row = |verdict: &Verdict| {
        Row::new([
            Line::from(clock(&verdict.time, zone).into_owned()),
            Line::styled(verdict.party.slug(), party_style(verdict.party)),
            Line::styled(short(verdict.certainty), certainty_style(verdict.certainty)),
            Line::from(verdict.cause.slug()),
            Line::from(parts::culprit(verdict)),
            Line::from(sanitize::line(&parts::impact_and_request(verdict), 60).into_owned()),
        ])
    };
    // Only what can be seen is laid out.
    let visible = usize::from(area.height);
    let first = (state.selected + 2).saturating_sub(visible).min(state.selected);
    let rows: Vec<Row<'_>> = state.shown().skip(first).take(visible).map(row).collect();
    let widths = [
        Constraint::Length(12),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(24),
        Constraint::Length(21),
        Constraint::Min(0),
    ];
    let table = Table::new(rows, widths)
        .block(framed("latest incidents"))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut chosen = TableState::default().with_selected(Some(state.selected - first));
    frame.render_stateful_widget(table, area, &mut chosen);
}

fn verdict(frame: &mut Frame<'_>, state: &State, area: Rect, zone: &TimeZone) {
    let Some(verdict) = state.chosen() else { return };
    let options = TextOptions {
        palette: Palette { colour: false },
        width: Some(usize::from(area.width)),
        zone: zone.clone(),
    };
    let text = full::text(verdict, &options);
    let lines: Vec<Line<'_>> = text.lines().map(Line::from).collect();
    let last = lines.len().saturating_sub(usize::from(area.height).saturating_sub(1));
    let first = u16::try_from(state.scroll.min(last)).unwrap_or(u16::MAX);
    frame.render_widget(Paragraph::new(Text::from(lines)).scroll((first, 0)).block(framed("incident")), area);
}

fn short(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Undetermined => "undet.",
        certainty => certainty.slug(),
    }
}

fn party_style(party: Party) -> Style {
    let colour = match party {
        Party::Client => Color::Cyan,
        Party::Nginx => Color::Magenta,
        Party::Upstream => Color::Yellow,
        Party::Middlebox => Color::Red,
        Party::Unknown => Color::DarkGray,
    };
    Style::new().fg(colour)
}

fn certainty_style(certainty: Certainty) -> Style {
    match certainty {
        Certainty::Proven => Style::new().fg(Color::Green).add_modifier(Modifier::BOLD),
        Certainty::Strong => Style::new().fg(Color::Green),
        Certainty::Weak => Style::new().fg(Color::Yellow),
        Certainty::Undetermined => Style::new().fg(Color::DarkGray),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::state::Key;
    use super::*;
    use crate::output::samples;

    /// 2026-03-01 14:03:30 UTC, eight seconds after most samples.
    const CLOCK: i64 = 1_772_373_810;

    fn filled() -> State {
        let mut state = State::new("live /run/rstscope/live.sock".to_owned(), true);
        for verdict in samples::all() {
            state.add(verdict);
        }
        state
    }

    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw_at(frame, state, CLOCK, &TimeZone::UTC)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_overview_fits_on_80_by_24() {
        insta::assert_snapshot!(screen(&filled(), 80, 24));
    }

    #[test]
    fn one_verdict_fits_and_scrolls() {
        let mut state = filled();
        for _ in 0..13 {
            state.press(Key::Down);
        }
        state.press(Key::Open);
        insta::assert_snapshot!(screen(&state, 80, 24));
        for _ in 0..100 {
            state.press(Key::PageDown);
        }
        assert!(!screen(&state, 80, 24).is_empty());
    }

    #[test]
    fn the_help_names_every_key() {
        let mut state = filled();
        state.press(Key::Help);
        let help = screen(&state, 80, 24);
        assert!(help.contains("quit") && help.contains("harmless") && help.contains("hold"), "{help}");
    }

    #[test]
    fn no_size_and_no_string_breaks_it() {
        let mut state = filled();
        for page in [Key::Back, Key::Open, Key::Help] {
            state.press(page);
            for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 90)] {
                let shown = screen(&state, width, height);
                assert!(!shown.chars().any(|c| c != '\n' && sanitize::is_dangerous(c)), "{shown}");
            }
        }
    }
}
