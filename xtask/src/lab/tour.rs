//! The tour: one fault of each kind, in order, with the tracer's own lines in between and its summary at the end.
//!
//! The tracer prints for people while its records go to a file; every record is compared with the ground truth.

use super::bench::{self, Bench, PATIENCE, Plan, Row};
use super::net::Family;
use super::nginx::Level;
use super::schema::Schema;
use super::seat::Seat;
use super::tracer::{self, Setup, Tracer};
use super::{cleanup, report, scenarios, wait};
use crate::out;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// From the record in the file to the line on the terminal.
const DISPLAY: Duration = Duration::from_secs(1);

/// Plays the tour with this tracer; fails when any verdict differs from the ground truth.
pub fn run(binary: PathBuf) -> Result<ExitCode> {
    cleanup::prepare();
    cleanup::leftovers();
    let setup =
        Setup { format: "text", colour: out::colours(), include_harmless: true, ..Setup::quiet(binary) };
    let rows = play(&setup)?;
    crate::say!("\nEvery verdict against what was really done:\n");
    report::print(&rows);
    let failed = rows.iter().filter(|row| !row.passed()).count();
    crate::say!("\n{} verdicts are right, {failed} are wrong", rows.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(setup: &Setup) -> Result<Vec<Row>> {
    let mut plan = plan();
    narrate("laying a network: client, two routers, Nginx host, two routers, upstream host");
    let bench = Bench::lay(&mut plan)?;
    narrate(&format!("Nginx runs as process {}; starting `rstscope trace`", bench.nginx.master()));
    let tracer = Tracer::start(setup, &bench.arguments(&plan), bench.nginx.folder(), Some(show))?;
    narrate(&format!("the tracer was ready after {} ms", tracer.start_up.as_millis()));
    let mut played = Vec::new();
    for seat in &plan.seats {
        narrate(&format!("fault {}: {}", seat.scenario.tour.unwrap_or(0), seat.scenario.says));
        let shown = tracer.shown();
        let (truth, troubles) = bench.play(seat, None);
        if troubles.is_empty() {
            await_verdict(&tracer, shown, || {
                tracer.records().is_ok_and(|records| bench::is_complete(seat, &truth, &records))
            });
        }
        if cleanup::interrupted() {
            bail!("interrupted");
        }
        played.push((truth, troubles));
    }
    narrate("ending the tracer as Ctrl-C does: its summary");
    let file = tracer.records_file();
    let stats = tracer.stop().context("the tracer")?;
    Ok(bench::rows(&plan, played, &tracer::read_records(&file)?, &stats, &Schema::load()?))
}

/// A verdict that does not come is found out by the comparison.
fn await_verdict(tracer: &Tracer, shown: usize, mut complete: impl FnMut() -> bool) {
    drop(wait::until("the verdict", PATIENCE, || complete().then_some(())));
    drop(wait::until("its line", DISPLAY, || (tracer.shown() > shown).then_some(())));
}

fn plan() -> Plan {
    let mut chosen: Vec<_> = scenarios::all().filter(|scenario| scenario.tour.is_some()).collect();
    chosen.sort_by_key(|scenario| scenario.tour);
    let level = Level::Error;
    let seat = |scenario| Seat { number: 0, scenario, family: Family::V4, level, namespace: None };
    Plan { number: 0, level, seats: chosen.into_iter().map(seat).collect(), delay: None }
}

fn narrate(text: &str) {
    let (bold, plain) = if out::colours() { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
    crate::say!("\n{bold}== {text}{plain}");
}

fn show(line: &str) {
    crate::say!("{line}");
}
