//! A terminal view for the person on call: rates by party and cause, upstreams, the latest incidents, and one verdict
//! in full. Shows what a source gives; judges nothing and stores nothing.

mod draw;
mod source;
mod state;

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

pub use source::{Source, SourceError};

use source::News;
use state::{Key, State};

/// How often the screen is drawn anew when nothing happens: rates fall.
const FRAME: Duration = Duration::from_millis(500);
/// Verdicts taken in before a key is looked at.
const BATCH: usize = 5000;

/// Shows a source until the user has seen enough.
pub fn run(source: &Source) -> Result<(), TopError> {
    let (name, news) = source.open()?;
    let mut terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let mut state = State::new(name, source.is_live());
    let shown = serve(&mut terminal, &mut state, &news);
    ratatui::restore();
    shown.map_err(TopError::Terminal)
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// There is nothing to show.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is nowhere to show it.
    #[error("cannot use this terminal: {0}")]
    Terminal(io::Error),
}

fn serve(
    terminal: &mut ratatui::DefaultTerminal,
    state: &mut State,
    news: &Receiver<News>,
) -> io::Result<()> {
    loop {
        take(state, news);
        terminal.draw(|frame| draw::draw(frame, state))?;
        if !event::poll(FRAME)? {
            continue;
        }
        let Event::Key(pressed) = event::read()? else { continue };
        if pressed.kind != KeyEventKind::Press {
            continue;
        }
        let interrupted =
            pressed.modifiers.contains(KeyModifiers::CONTROL) && pressed.code == KeyCode::Char('c');
        if interrupted || key(pressed.code).is_some_and(|key| state.press(key)) {
            return Ok(());
        }
    }
}

fn take(state: &mut State, news: &Receiver<News>) {
    for _ in 0..BATCH {
        match news.try_recv() {
            Ok(News::Verdict(verdict)) => state.add(*verdict),
            Ok(News::Ended(why)) => state.ended(why),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
        }
    }
}

fn key(code: KeyCode) -> Option<Key> {
    Some(match code {
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Char('?' | 'h') => Key::Help,
        KeyCode::Char('p' | ' ') => Key::Pause,
        KeyCode::Char('a') => Key::Harmless,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Key::Home,
        KeyCode::Enter | KeyCode::Right => Key::Open,
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => Key::Back,
        _ => return None,
    })
}
