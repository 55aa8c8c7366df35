//! The store on a real file: what goes in comes out, whatever happens in between.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Impact, Party};
use crate::output::samples;

const SECOND: i64 = 1_000_000_000;

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state/verdicts.db")
    }

    fn store(&self) -> Store {
        Store::create(&self.path()).unwrap()
    }
}

/// Verdict number `n`, `n` seconds after the epoch.
fn numbered(n: i64, verdict: &Verdict) -> Row {
    Row { id: format!("01JNA8VQ3W6T4Z0E5R7Y{n:06}"), time: n * SECOND, ..Row::of(verdict).unwrap() }
}

fn fill(store: &mut Store, numbers: std::ops::Range<i64>) {
    let rows: Vec<Row> = numbers.map(|n| numbered(n, &samples::upstream_abort())).collect();
    store.insert(&rows).unwrap();
}

fn causes(store: &Store, filter: &Filter, order: Order) -> Vec<Cause> {
    let mut causes = Vec::new();
    let take = |found: Found| {
        causes.push(serde_json::from_str::<Verdict>(&found.json).unwrap().cause);
        ControlFlow::Continue(())
    };
    store.query(filter, order, take).unwrap();
    causes
}

#[test]
fn what_goes_in_comes_out_by_every_column() {
    let place = Place::new();
    let mut store = place.store();
    let all = [samples::upstream_abort(), samples::client_abort(), samples::forged_reset()];
    let rows: Vec<Row> = all.iter().zip(0..).map(|(verdict, n)| numbered(n, verdict)).collect();
    store.insert(&rows).unwrap();
    let only = |filter: Filter| causes(&store, &filter, Order::Oldest);
    let none = Filter::default;
    let [upstream, client, forged] = [all[0].cause, all[1].cause, all[2].cause];
    assert_eq!(only(none()), [upstream, client, forged]);
    assert_eq!(only(Filter { parties: vec![Party::Client], ..none() }), [client]);
    assert_eq!(only(Filter { causes: vec![upstream, forged], ..none() }), [upstream, forged]);
    assert_eq!(only(Filter { from: Some(SECOND), ..none() }), [client, forged]);
    assert_eq!(only(Filter { to: Some(SECOND), ..none() }), [upstream, client]);
    assert_eq!(only(Filter { limit: Some(1), ..none() }), [forged]);
    assert_eq!(causes(&store, &Filter { limit: Some(2), ..none() }, Order::Latest), [forged, client]);
    assert_eq!(only(Filter { certainties: vec![Certainty::Undetermined], ..none() }), []);
    assert_eq!(only(Filter { client: Some("192.0.2.1".to_owned()), ..none() }), []);
    assert_eq!(store.count(&Filter { parties: vec![Party::Client, Party::Upstream], ..none() }).unwrap(), 2);
    assert!(store.by_id(&rows[1].id).unwrap().unwrap().contains("client_abort"));
    assert_eq!(store.by_id("nobody").unwrap(), None);
    assert_eq!(store.ids_like("01JNA8VQ3W6T4Z0E5R7Y", 2).unwrap().len(), 2);
    assert_eq!(store.ids_like(&rows[2].id, 2).unwrap(), [rows[2].id.clone()]);
}

#[test]
fn an_upstream_is_found_with_its_port_or_with_any() {
    let place = Place::new();
    let mut store = place.store();
    fill(&mut store, 0..1);
    let count = |upstream: &str| {
        store.count(&Filter { upstream: Some(upstream.to_owned()), ..Filter::default() }).unwrap()
    };
    assert_eq!(
        (count("10.0.1.10:8080"), count("10.0.1.10"), count("10.0.1.1"), count("10.0.1.10:80")),
        (1, 1, 0, 0)
    );
}

/// What people ask for, alone and together.
fn questions() -> Vec<Filter> {
    let none = Filter::default;
    let [upstream, client] = ["10.0.1.10:8080", "198.51.100.7"].map(|text| Some(text.to_owned()));
    vec![
        none(),
        Filter { without_harmless: true, ..none() },
        Filter { from: Some(3 * SECOND), to: Some(9 * SECOND), ..none() },
        Filter { parties: vec![Party::Client, Party::Nginx], without_harmless: true, ..none() },
        Filter { causes: vec![Cause::UpstreamAbort], certainties: vec![Certainty::Proven], ..none() },
        Filter { impacts: vec![Impact::RequestFailed], from: Some(2 * SECOND), ..none() },
        Filter { upstream: Some("10.0.1.10".to_owned()), without_harmless: true, ..none() },
        Filter { upstream, from: Some(SECOND), ..none() },
        Filter { client, without_harmless: true, to: Some(30 * SECOND), ..none() },
    ]
}

/// Whether a verdict stored with this row is asked for: the meaning of a filter, without SQL.
fn fits(filter: &Filter, row: &Row, verdict: &Verdict) -> bool {
    fn one_of<T: PartialEq>(wanted: &[T], found: &T) -> bool {
        wanted.is_empty() || wanted.contains(found)
    }
    let of_upstream = |wanted: &String| {
        let found = row.upstream.as_deref().unwrap_or_default();
        found == wanted || found.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with(':'))
    };
    filter.from.is_none_or(|from| row.time >= from)
        && filter.to.is_none_or(|to| row.time <= to)
        && one_of(&filter.parties, &verdict.party)
        && one_of(&filter.causes, &verdict.cause)
        && one_of(&filter.certainties, &verdict.certainty)
        && one_of(&filter.impacts, &verdict.impact)
        && !(filter.without_harmless && verdict.impact == Impact::Harmless)
        && filter.upstream.as_ref().is_none_or(of_upstream)
        && filter.client.as_ref().is_none_or(|client| row.client.as_ref() == Some(client))
}

#[test]
fn a_count_is_that_of_the_verdicts_one_by_one() {
    let place = Place::new();
    let mut store = place.store();
    let all = samples::all();
    let rows: Vec<Row> = all.iter().zip(0..).map(|(verdict, n)| numbered(n, verdict)).collect();
    store.insert(&rows).unwrap();
    for filter in questions() {
        let fitting =
            rows.iter().zip(&all).filter(|(row, verdict)| fits(&filter, row, verdict)).count() as u64;
        assert!(fitting > 0, "asks for nothing: {filter:?}");
        let shown = causes(&store, &filter, Order::Oldest).len() as u64;
        assert_eq!((store.count(&filter).unwrap(), shown), (fitting, fitting), "{filter:?}");
    }
}

#[test]
fn nothing_is_read_of_the_records_to_count_or_to_pass_over_them() {
    let place = Place::new();
    let store = place.store();
    for filter in questions() {
        for statement in
            [query::counting(&filter), query::statement(&Filter { limit: Some(9), ..filter }, Order::Latest)]
        {
            let (text, values) = statement;
            let mut plan = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
            let steps =
                plan.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
            for step in steps.map(Result::unwrap).filter(|step| step.contains(" verdicts")) {
                let is_one = step.ends_with("USING INTEGER PRIMARY KEY (rowid=?)");
                assert!(is_one || step.contains("COVERING INDEX"), "{step}: {text}");
            }
        }
    }
}

#[test]
fn text_is_searched_in_any_case_and_is_no_pattern() {
    let place = Place::new();
    let mut store = place.store();
    store.insert(&[numbered(1, &samples::hostile()), numbered(2, &samples::upstream_abort())]).unwrap();
    let count = |words: &[&str]| {
        let text = words.iter().map(|word| (*word).to_owned()).collect();
        store.count(&Filter { text, ..Filter::default() }).unwrap()
    };
    assert_eq!(
        (count(&["10.0.1.10:8080"]), count(&["UPSTREAM", "10.0.1.10"]), count(&["absent"])),
        (1, 1, 0)
    );
    assert_eq!(count(&["10.0.1.10", "absent"]) + count(&["10.0.%"]) + count(&["' OR 1=1 --"]), 0);
}

#[test]
fn hostile_strings_are_data() {
    let place = Place::new();
    let mut store = place.store();
    let mut verdict = samples::hostile();
    verdict.summary.push_str("'); DROP TABLE verdicts; --\0\u{202e}");
    let row = numbered(1, &verdict);
    store.insert(std::slice::from_ref(&row)).unwrap();
    let json = store.by_id(&row.id).unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap().summary, verdict.summary);
    assert!(!json.chars().any(crate::output::sanitize::is_dangerous));
}

#[test]
fn the_same_verdict_twice_is_one() {
    let place = Place::new();
    let mut store = place.store();
    fill(&mut store, 0..5);
    fill(&mut store, 3..8);
    assert_eq!(store.count(&Filter::default()).unwrap(), 8);
    assert_eq!([3, 7, 8, 9].map(|most| store.count_up_to(&Filter::default(), most).unwrap()), [4, 8, 8, 8]);
}

#[test]
fn readers_read_while_a_batch_is_written() {
    let place = Place::new();
    let mut store = place.store();
    fill(&mut store, 0..10);
    let reader = Store::open(&place.path()).unwrap();
    let mut writing = rusqlite::Connection::open(place.path()).unwrap();
    let open = writing.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    open.execute("DELETE FROM verdicts", []).unwrap();
    assert_eq!(reader.count(&Filter::default()).unwrap(), 10);
    open.commit().unwrap();
    assert_eq!(reader.count(&Filter::default()).unwrap(), 0);
}

#[test]
fn readers_change_nothing() {
    let place = Place::new();
    fill(&mut place.store(), 0..1);
    let mut reader = Store::open(&place.path()).unwrap();
    assert!(reader.insert(&[numbered(9, &samples::refused())]).is_err());
    assert!(Store::open(&place.folder.path().join("absent.db")).is_err());
    assert!(!place.folder.path().join("absent.db").exists());
}

#[test]
fn old_ones_go_by_age_and_the_oldest_by_size() {
    let place = Place::new();
    let mut store = place.store();
    fill(&mut store, 0..3000);
    let age = Retention { age: Some(Duration::from_secs(1000)), bytes: None };
    assert_eq!(store.retain(age, 3000 * SECOND).unwrap(), 2000);
    assert_eq!(store.oldest().unwrap(), Some(2000 * SECOND));
    let half = store.bytes().unwrap() / 2;
    assert!(store.retain(Retention { age: None, bytes: Some(half) }, 0).unwrap() > 0);
    assert!(store.bytes().unwrap() <= half);
    let left = store.count(&Filter::default()).unwrap();
    assert!(left > 0 && store.oldest().unwrap() == Some((3000 - i64::try_from(left).unwrap()) * SECOND));
    assert_eq!(std::fs::metadata(place.path()).unwrap().len(), store.bytes().unwrap());
}

#[test]
fn steps_are_applied_once_and_in_order() {
    let place = Place::new();
    let path = place.folder.path().join("any.db");
    let mut connection = Connection::open(path).unwrap();
    let mut steps = vec!["CREATE TABLE one (a); INSERT INTO one VALUES (1);"];
    migrate(&mut connection, &steps).unwrap();
    steps.push("ALTER TABLE one ADD COLUMN b; UPDATE one SET b = a + 1;");
    migrate(&mut connection, &steps).unwrap();
    migrate(&mut connection, &steps).unwrap();
    let row = connection.query_row("SELECT a, b FROM one", [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(row.unwrap(), (1_i64, 2_i64));
    // A step that fails leaves everything as it was.
    steps.push("INSERT INTO one VALUES (3, 3); SELECT nonsense;");
    assert!(migrate(&mut connection, &steps).is_err());
    let count: i64 = connection.query_row("SELECT count(*) FROM one", [], |row| row.get(0)).unwrap();
    assert_eq!((count, schema::number(&connection, "user_version").unwrap()), (1, 2));
}

#[test]
fn a_store_of_the_first_schema_keeps_its_verdicts_and_gets_new_ones() {
    let place = Place::new();
    std::fs::create_dir(place.path().parent().unwrap()).unwrap();
    let mut old = Connection::open(place.path()).unwrap();
    schema::set_up(&old).unwrap();
    migrate(&mut old, &MIGRATIONS[..1]).unwrap();
    let row = numbered(1, &samples::upstream_abort());
    let text = ["party", "cause", "certainty", "impact", "words"].map(|_| "x".to_owned());
    let insert = "INSERT INTO verdicts (id, time, party, cause, certainty, impact, words, verdict)
        VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let [party, cause, certainty, impact, words] = &text;
    old.execute(insert, rusqlite::params![row.id, party, cause, certainty, impact, words, row.json]).unwrap();
    drop(old);
    assert!(matches!(Store::open(&place.path()), Err(StoreError::Older { found: 1, .. })));
    let mut store = place.store();
    store.insert(&[numbered(2, &samples::client_abort()).with(Some(vec![1, 2]))]).unwrap();
    let mut found = Vec::new();
    let filter = Filter { with_dossiers: true, ..Filter::default() };
    let take = |one: Found| {
        found.push((one.json.contains("upstream_abort"), one.dossier));
        ControlFlow::Continue(())
    };
    store.query(&filter, Order::Oldest, take).unwrap();
    assert_eq!(found, [(true, None), (false, Some(vec![1, 2]))]);
    assert_eq!(store.coverage(None, None).unwrap(), Coverage::default());
}

#[test]
fn newer_and_foreign_stores_are_refused_and_untouched() {
    let place = Place::new();
    drop(place.store());
    let raw = Connection::open(place.path()).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::create(&place.path()), Err(StoreError::Newer { found: 99, .. })));
    raw.pragma_update(None, "user_version", 0).unwrap();
    assert!(matches!(Store::open(&place.path()), Err(StoreError::Older { found: 0, .. })));
    let other = place.folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    assert!(matches!(Store::create(&other), Err(StoreError::Foreign { .. })));
}

#[test]
fn a_damaged_store_is_set_aside() {
    let place = Place::new();
    drop(place.store());
    std::fs::write(place.path(), vec![0x5a; 8192]).unwrap();
    let (mut store, aside) = Store::create_or_set_aside(&place.path()).unwrap();
    fill(&mut store, 0..1);
    assert_eq!(std::fs::read(aside.unwrap()).unwrap(), vec![0x5a; 8192]);
}

/// Waits for a condition that another thread brings about.
#[track_caller]
fn wait_for(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "never came about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn verdict(n: u32) -> Arc<Verdict> {
    Arc::new(Verdict { id: format!("01JNA8VQ3W6T4Z0E5R7Y{n:06}"), ..samples::upstream_abort() })
}

#[test]
fn a_full_disk_is_counted_loses_nothing_within_the_bound_and_recovers() {
    let place = Place::new();
    let store = place.store();
    store.limit(store.bytes().unwrap() + 64 * 1024).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let stored: Stored =
        Box::new(move |verdict, stored| tell.lock().unwrap().push((verdict.id.clone(), stored)));
    let writer = Writer::start(store, Retention::default(), stored, || ()).unwrap();
    let account = writer.account();
    for n in 0..400 {
        assert!(writer.hand_over(verdict(n), None));
    }
    wait_for(|| told.lock().unwrap().len() == 400);
    assert!(account.failing.load(Ordering::Relaxed) && account.failures.load(Ordering::Relaxed) > 0);
    assert!(account.problem().unwrap().contains("full"), "{:?}", account.problem());
    assert!(account.pending.load(Ordering::Relaxed) > 0);
    // What was acknowledged is there; what was not waits.
    let acknowledged: Vec<String> =
        told.lock().unwrap().iter().filter(|(_, stored)| *stored).map(|(id, _)| id.clone()).collect();
    let reader = Store::open(&place.path()).unwrap();
    assert!(acknowledged.iter().all(|id| reader.by_id(id).unwrap().is_some()));
    writer.set_retention(Retention { age: None, bytes: Some(1 << 30) }); // Lifts the limit at the next try.
    wait_for(|| account.pending.load(Ordering::Relaxed) == 0);
    assert_eq!(reader.count(&Filter::default()).unwrap(), 400);
    assert!(!account.failing.load(Ordering::Relaxed) && account.lost() == 0);
}

#[test]
fn a_clock_that_is_far_ahead_takes_no_verdicts() {
    let place = Place::new();
    let mut store = place.store();
    // As if the latest of them were of 1970, or the clock wrong.
    fill(&mut store, 0..300);
    let keep = Retention { age: Some(Duration::from_secs(1)), bytes: None };
    drop(Writer::start(store, keep, Box::new(|_, _| ()), || ()).unwrap());
    assert_eq!(Store::open(&place.path()).unwrap().count(&Filter::default()).unwrap(), 300);
}

/// Hands one verdict over and waits until it was told of.
fn store_one(writer: &Writer, n: u32) {
    let account = writer.account();
    let stored = account.stored.load(Ordering::Relaxed);
    assert!(writer.hand_over(verdict(n), None));
    wait_for(|| account.stored.load(Ordering::Relaxed) > stored);
}

#[test]
fn a_store_that_is_removed_replaced_or_damaged_under_the_writer_gives_way_to_a_new_one() {
    let place = Place::new();
    let writer = Writer::start(place.store(), Retention::default(), Box::new(|_, _| ()), || ()).unwrap();
    let is_there = |n: u32| Store::open(&place.path()).unwrap().by_id(&verdict(n).id).unwrap().is_some();
    let happened = || writer.account().take_news().concat();
    store_one(&writer, 1);
    assert!(is_there(1) && happened().is_empty());
    std::fs::remove_file(place.path()).unwrap();
    store_one(&writer, 2);
    assert!(is_there(2) && happened().contains("was removed or replaced"));
    let other = place.folder.path().join("other.db");
    drop(Store::create(&other).unwrap());
    std::fs::rename(other, place.path()).unwrap();
    store_one(&writer, 3);
    assert!(is_there(3) && happened().contains("was removed or replaced"));
    assert!(!is_there(2), "the log of the old one was read into the new one");
    assert_eq!(writer.account().lost(), 0);
}

#[test]
fn the_lines_of_the_latest_verdicts_are_known() {
    let place = Place::new();
    let mut store = place.store();
    let verdicts = samples::all();
    let rows: Vec<Row> = (1..).zip(&verdicts).map(|(n, verdict)| numbered(n, verdict)).collect();
    store.insert(&rows).unwrap();
    let expected: std::collections::HashSet<_> = verdicts
        .iter()
        .filter_map(|verdict| verdict.log.as_ref())
        .filter_map(|log| Some((log.file.clone(), log.offset, log.connection?)))
        .collect();
    assert!(!expected.is_empty());
    let ever = Duration::MAX;
    assert_eq!(store.latest_lines(ever, 1_000).unwrap(), expected);
    assert!(store.latest_lines(ever, 1).unwrap().len() <= 1);
    let later = Row { time: i64::MAX, ..numbered(999_999, &verdicts[0]) };
    store.insert(&[later]).unwrap();
    assert!(store.latest_lines(Duration::from_secs(1), 1_000).unwrap().len() <= 1);
}

#[test]
fn a_store_that_is_found_damaged_while_it_is_open_is_set_aside() {
    let here = Place::new();
    let mut place = super::Place::open(&here.path()).unwrap();
    fill(place.store().unwrap(), 0..3);
    let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    place.failed(&StoreError::Sql(rusqlite::Error::SqliteFailure(damage, None)));
    fill(place.store().unwrap(), 7..8);
    assert_eq!(Store::open(&here.path()).unwrap().count(&Filter::default()).unwrap(), 1);
    assert!(place.take_news().concat().contains("verdicts.db.damaged"));
    let aside = here.path().with_extension("db.damaged");
    assert_eq!(Store::open(&aside).unwrap().count(&Filter::default()).unwrap(), 3);
}

#[test]
fn only_a_disk_that_takes_nothing_now_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    assert!(matches!(super::Place::open(&path), Err(StoreError::Foreign { .. })));
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(super::Place::open(&file.join("verdicts.db")).is_err());
}

/// What stands behind an incident of the engine's scenes.
fn behind() -> Arc<crate::engine::Dossier> {
    use crate::engine::testing::{active_reset, play_witnessing, received, upstream};
    let reset = received(100, upstream(), Some(active_reset(&upstream())));
    Arc::new(play_witnessing(vec![reset]).1.remove(0))
}

#[test]
fn what_stands_behind_verdicts_is_bounded_and_what_is_left_out_is_counted() {
    let place = Place::new();
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let waits = Arc::clone(&gate);
    let stored: Stored = Box::new(move |_, _| drop(waits.lock().unwrap()));
    let writer = Writer::start(place.store(), Retention::default(), stored, || ()).unwrap();
    let (account, dossier) = (writer.account(), behind());
    assert!((0..2_000).all(|n| writer.hand_over(verdict(n), Some(&dossier))));
    drop(held);
    drop(writer);
    let mut with = 0_u64;
    let filter = Filter { with_dossiers: true, ..Filter::default() };
    let take = |one: Found| {
        let unpacked = one.dossier.map(|bytes| unpack(&bytes).unwrap());
        with += u64::from(unpacked.is_some_and(|unpacked| unpacked == *dossier));
        ControlFlow::Continue(())
    };
    Store::open(&place.path()).unwrap().query(&filter, Order::Oldest, take).unwrap();
    let without = account.without_dossier.load(Ordering::Relaxed);
    assert!(with > 0 && without > 0, "{with} with, {without} without");
    assert_eq!((with + without, account.lost()), (2_000, 0));
}

#[test]
fn a_slow_disk_is_never_waited_for() {
    let place = Place::new();
    let store = place.store();
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let waits = Arc::clone(&gate);
    let stored: Stored = Box::new(move |_, _| drop(waits.lock().unwrap()));
    let writer = Writer::start(store, Retention::default(), stored, || ()).unwrap();
    let taken = (0..10_000).filter(|n| writer.hand_over(verdict(*n), None)).count();
    assert!(taken < 10_000);
    assert_eq!(writer.account().lost(), 10_000 - u64::try_from(taken).unwrap());
    drop(held);
    drop(writer);
    assert_eq!(Store::open(&place.path()).unwrap().count(&Filter::default()).unwrap(), taken as u64);
}
