//! Every metric, its name and what it means. The names are a contract: alerts and dashboards rest on them.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Family, Kind, Number, Sample, float};
use super::process::usage;
use super::{Incidents, Shared};
use crate::session::Pulse;

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Encodes everything anew at each scrape.
#[derive(Debug)]
pub(super) struct Collector(pub(super) Arc<Shared>);

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        families(&self.0).iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// Every metric as it is now.
pub fn families(shared: &Shared) -> Vec<Family> {
    let mut page = Page { families: Vec::with_capacity(64) };
    incidents(&mut page, &shared.incidents());
    let patterns = shared.patterns();
    let noticed =
        patterns.iter().map(|((pattern, group), count)| ([("pattern", *pattern), ("group", *group)], *count));
    page.counters("rstscope_pattern_notices", "Notices of patterns in the incidents.", noticed);
    if let (Some(pulse), fresh) = shared.pulse() {
        session(&mut page, &pulse, fresh);
        listeners(&mut page, &pulse);
        programs(&mut page, &pulse);
        losses(&mut page, shared, &pulse);
    }
    store(&mut page, shared);
    live(&mut page, shared);
    outbound(&mut page, shared);
    process(&mut page);
    page.families
}

struct Page {
    families: Vec<Family>,
}

impl Page {
    /// A number that only grows; the name is without its `_total`.
    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.family(name, help, Kind::Counter, [([], Number::Whole(value))]);
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(name, help, Kind::Gauge, [([], Number::Real(value))]);
    }

    /// The same with labels, any number of times.
    fn counters<'l, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) {
        let samples = samples.into_iter().map(|(labels, value)| (labels, Number::Whole(value)));
        self.family(name, help, Kind::Counter, samples);
    }

    fn seconds<'l, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
    ) {
        let samples = samples.into_iter().map(|(labels, value)| (labels, Number::Real(value)));
        self.family(name, help, Kind::Counter, samples);
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
    ) {
        let samples = samples.into_iter().map(|(labels, value)| (labels, Number::Real(value)));
        self.family(name, help, Kind::Gauge, samples);
    }

    /// A metric without samples is left out.
    fn family<'l, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        samples: impl IntoIterator<Item = (Labels<'l, N>, Number)>,
    ) {
        let owned = |(labels, value): (Labels<'l, N>, Number)| Sample {
            labels: labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
            value,
        };
        let samples: Vec<Sample> = samples.into_iter().map(owned).collect();
        if !samples.is_empty() {
            self.families.push(Family { name, help, kind, samples });
        }
    }
}

fn incidents(page: &mut Page, incidents: &Incidents) {
    let label = |(party, cause, certainty, impact, upstream): &'_ super::incidents::Labels| {
        (party.slug(), cause.slug(), certainty.slug(), impact.slug(), upstream.clone())
    };
    let counted: Vec<_> = incidents.counts.iter().map(|(labels, count)| (label(labels), *count)).collect();
    let counted = counted.iter().map(|((party, cause, certainty, impact, upstream), count)| {
        let labels = [
            ("party", *party),
            ("cause", *cause),
            ("certainty", *certainty),
            ("impact", *impact),
            ("upstream", upstream.as_str()),
        ];
        (labels, *count)
    });
    page.counters(
        "rstscope_incidents",
        "Failed or reset connections of Nginx, by the verdict on each.",
        counted,
    );
    let joins = incidents.joins.iter().map(|(method, count)| ([("method", *method)], *count));
    page.counters("rstscope_joins", "Incidents by how the log line was joined to the kernel event.", joins);
    let help = "Joins that more than one line or event would have fitted.";
    page.counter("rstscope_joins_ambiguous", help, incidents.ambiguous);
    let idle = incidents
        .idle_seconds
        .iter()
        .map(|(upstream, seconds)| ([("upstream", upstream.as_str())], *seconds));
    let help = "Idle time after which the upstream last ended a kept-alive connection that Nginx used again.";
    page.gauges("rstscope_upstream_idle_timeout_seconds", help, idle);
}

fn session(page: &mut Page, pulse: &Pulse, fresh: bool) {
    page.gauge("rstscope_up", "1 while the event loop turns.", f64::from(u8::from(fresh)));
    let build =
        [([("version", env!("CARGO_PKG_VERSION")), ("ebpf_compiler", env!("RSTSCOPE_EBPF_COMPILER"))], 1.0)];
    page.gauges(
        "rstscope_build_info",
        "Version of the program and of the compiler of its kernel programs.",
        build,
    );
    let hooks =
        pulse.hooks.iter().map(|hook| ([("hook", hook.name.as_str())], f64::from(u8::from(hook.running))));
    page.gauges("rstscope_hook_running", "1 if the kernel hook runs.", hooks);
    let number = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    page.gauge("rstscope_nginx_masters", "Nginx master processes watched.", number(pulse.masters));
    page.gauge("rstscope_nginx_workers", "Nginx worker processes watched.", number(pulse.workers));
    let help = "RSTs sent by the TCP stack in the network namespaces of Nginx.";
    page.counter("rstscope_resets_sent", help, pulse.resets_sent);
    let help = "RSTs accepted by the TCP stack in the network namespaces of Nginx.";
    page.counter("rstscope_resets_received", help, pulse.resets_received);
    let help = "Segments retransmitted in the network namespaces of Nginx.";
    page.counter("rstscope_retransmits", help, pulse.retransmits);
    page.counter("rstscope_connections", "Connections of Nginx followed.", pulse.connections);
    page.counter("rstscope_ring_records", "Records from the kernel programs.", pulse.ring_records);
    let engine = &pulse.engine;
    page.counter("rstscope_log_lines", "Lines of error.log read.", engine.lines);
    let help = "Lines of error.log that no incident matched and that are no incident themselves.";
    page.counter("rstscope_log_lines_unmatched", help, engine.lines_unmatched);
    let help = "Lines of error.log that came after their incident had been judged.";
    page.counter("rstscope_log_lines_late", help, engine.lines_late);
    page.counter(
        "rstscope_incidents_judged_early",
        "Incidents judged early for lack of room.",
        engine.evicted,
    );
}

fn listeners(page: &mut Page, pulse: &Pulse) {
    let named: Vec<(String, u64)> =
        pulse.overflows.iter().map(|(netns, port, total)| (format!("{netns}:{port}"), *total)).collect();
    let dropped = named.iter().filter_map(|(name, total)| {
        let (netns, port) = name.split_once(':')?;
        Some(([("netns", netns), ("port", port)], *total))
    });
    let help = "Packets dropped because a listener of Nginx was full.";
    page.counters("rstscope_listen_overflows", help, dropped);
    let queues: Vec<(String, f64, f64)> = pulse
        .queues
        .iter()
        .map(|queue| (queue.listener.to_string(), f64::from(queue.waiting), f64::from(queue.limit)))
        .collect();
    let waiting = queues.iter().map(|(listener, waiting, _)| ([("listener", listener.as_str())], *waiting));
    page.gauges("rstscope_listen_queue_length", "Connections waiting for accept().", waiting);
    let limits = queues.iter().map(|(listener, _, limit)| ([("listener", listener.as_str())], *limit));
    page.gauges("rstscope_listen_queue_limit", "Connections that may wait for accept().", limits);
}

/// Absent unless the kernel counts (`sysctl kernel.bpf_stats_enabled=1`).
fn programs(page: &mut Page, pulse: &Pulse) {
    let runs = pulse.programs.iter().map(|program| ([("program", program.name.as_str())], program.runs));
    page.counters("rstscope_program_runs", "Runs of the kernel program.", runs);
    let time = pulse
        .programs
        .iter()
        .map(|program| ([("program", program.name.as_str())], program.time.as_secs_f64()));
    page.seconds("rstscope_program_run_seconds", "CPU time of the kernel program.", time);
}

fn losses(page: &mut Page, shared: &Shared, pulse: &Pulse) {
    let kernel = pulse.losses.by_handover.iter().map(|(name, lost)| (name.as_str(), *lost));
    let ours = [
        ("store", shared.store.lost()),
        ("live readers", shared.live.missed.load(Ordering::Relaxed)),
        ("patterns", shared.patterns_lost.load(Ordering::Relaxed)),
        ("journal", shared.journal_lost.load(Ordering::Relaxed)),
        ("webhook", shared.notices.webhook.lost()),
        ("command", shared.notices.command.lost()),
        ("otlp", shared.otlp.lost()),
    ];
    let all = kernel.chain(pulse.engine.lost()).chain(ours).map(|(name, lost)| ([("handover", name)], lost));
    page.counters("rstscope_lost", "What was lost, by the hand-over where it was lost.", all);
}

fn store(page: &mut Page, shared: &Shared) {
    let account = &*shared.store;
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let gauge = |number: &AtomicU64| f64::from(u32::try_from(of(number)).unwrap_or(u32::MAX));
    page.counter("rstscope_store_verdicts_stored", "Verdicts stored.", of(&account.stored));
    page.counter("rstscope_store_verdicts_expired", "Verdicts deleted by age or size.", of(&account.expired));
    let help = "Verdicts stored without their packets and steps, because too many came at once.";
    page.counter("rstscope_store_verdicts_without_packets", help, of(&account.without_dossier));
    page.counter("rstscope_store_failures", "Batches that could not be stored.", of(&account.failures));
    page.gauge(
        "rstscope_store_pending_verdicts",
        "Verdicts that wait for the disk.",
        gauge(&account.pending),
    );
    #[expect(clippy::cast_precision_loss, reason = "bytes of a file, and seconds since 1970")]
    let (bytes, oldest) = (of(&account.bytes) as f64, of(&account.oldest) as f64 / 1e9);
    page.gauge("rstscope_store_size_bytes", "Bytes that the store takes.", bytes);
    let help = "Time of the oldest verdict in the store, 0 when it is empty.";
    page.gauge("rstscope_store_oldest_timestamp_seconds", help, oldest);
    let failing = f64::from(u8::from(account.failing.load(Ordering::Relaxed)));
    page.gauge("rstscope_store_failing", "1 while the disk takes no verdicts.", failing);
}

fn live(page: &mut Page, shared: &Shared) {
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let readers = f64::from(u32::try_from(of(&shared.live.readers)).unwrap_or(u32::MAX));
    page.gauge("rstscope_live_readers", "Readers of the socket.", readers);
    page.counter(
        "rstscope_live_readers_cut",
        "Readers that were too slow and were cut.",
        of(&shared.live.cut),
    );
    page.counter("rstscope_live_readers_refused", "Readers that were turned away.", of(&shared.live.refused));
    page.counter("rstscope_scrapes", "Scrapes of this page.", of(&shared.scrapes));
}

fn outbound(page: &mut Page, shared: &Shared) {
    let accounts = shared.notices.named();
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let sent = accounts.iter().map(|(name, account)| ([("receiver", *name)], of(&account.sent)));
    page.counters("rstscope_notices_sent", "Notices that arrived.", sent);
    let lost = accounts.iter().flat_map(|(name, account)| {
        let reasons =
            [("failed", &account.failed), ("queue_full", &account.dropped), ("rate", &account.limited)];
        reasons.map(|(reason, number)| ([("receiver", *name), ("reason", reason)], of(number)))
    });
    page.counters("rstscope_notices_lost", "Notices that did not arrive.", lost);
    let otlp = &*shared.otlp;
    page.counter("rstscope_otlp_sent", "Verdicts and metrics that the collector has taken.", of(&otlp.sent));
    let lost = [
        ("rejected", &otlp.rejected),
        ("channel_full", &otlp.channel_full),
        ("queue_full", &otlp.queue_full),
    ];
    let lost = lost.map(|(reason, number)| ([("reason", reason)], of(number)));
    page.counters("rstscope_otlp_lost", "Verdicts and metrics that the collector did not get.", lost);
    let help = "Requests to the collector that failed and were sent again.";
    page.counter("rstscope_otlp_retries", help, of(&otlp.retries));
    page.gauge(
        "rstscope_otlp_queue_bytes",
        "Bytes that wait on disk for the collector.",
        float(of(&otlp.bytes)),
    );
}

fn process(page: &mut Page) {
    let usage = usage();
    page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", float(usage.resident));
    page.gauge("process_open_fds", "Number of open file descriptors.", float(usage.descriptors));
    page.gauge("process_threads", "Number of threads.", float(usage.threads));
    let help = "Total user and system CPU time spent in seconds.";
    page.seconds("process_cpu_seconds", help, [([], usage.cpu_seconds)]);
}
