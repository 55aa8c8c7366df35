//! Every metric, its name and what it means. The names are a contract: alerts and dashboards rest on them.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::process::usage;
use super::{Incidents, Shared};
use crate::session::Pulse;

type Labels<'a, const N: usize> = [(&'a str, &'a str); N];

/// Encodes everything anew at each scrape.
#[derive(Debug)]
pub(super) struct Collector(pub(super) Arc<Shared>);

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page { encoder };
        let shared = &*self.0;
        incidents(&mut page, &shared.incidents())?;
        let patterns = shared.patterns();
        let noticed = patterns
            .iter()
            .map(|((pattern, group), count)| ([("pattern", *pattern), ("group", *group)], *count));
        page.counters("rstscope_pattern_notices", "Notices of patterns in the incidents.", noticed)?;
        if let (Some(pulse), fresh) = shared.pulse() {
            session(&mut page, &pulse, fresh)?;
            listeners(&mut page, &pulse)?;
            programs(&mut page, &pulse)?;
            losses(&mut page, shared, &pulse)?;
        }
        store(&mut page, shared)?;
        live(&mut page, shared)?;
        process(&mut page)
    }
}

struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    /// A number that only grows; the name is without its `_total`.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// The same with labels, any number of times.
    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> Result<(), Error> {
        self.family(name, help, MetricType::Counter, samples, |metric, value| {
            metric.encode_counter::<NoLabelSet, u64, u64>(value, None)
        })
    }

    fn seconds<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
    ) -> Result<(), Error> {
        self.family(name, help, MetricType::Counter, samples, |metric, value| {
            metric.encode_counter::<NoLabelSet, f64, u64>(value, None)
        })
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
    ) -> Result<(), Error> {
        self.family(name, help, MetricType::Gauge, samples, |metric, value: &f64| {
            metric.encode_gauge::<f64>(value)
        })
    }

    fn family<'l, const N: usize, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l, N>, V)>,
        encode: impl Fn(&mut MetricEncoder<'_>, &V) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            encode(&mut metric.encode_family(&labels)?, &value)?;
        }
        Ok(())
    }
}

fn incidents(page: &mut Page<'_>, incidents: &Incidents) -> Result<(), Error> {
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
    )?;
    let joins = incidents.joins.iter().map(|(method, count)| ([("method", *method)], *count));
    page.counters("rstscope_joins", "Incidents by how the log line was joined to the kernel event.", joins)?;
    let help = "Joins that more than one line or event would have fitted.";
    page.counter("rstscope_joins_ambiguous", help, incidents.ambiguous)?;
    let idle = incidents
        .idle_seconds
        .iter()
        .map(|(upstream, seconds)| ([("upstream", upstream.as_str())], *seconds));
    let help = "Idle time after which the upstream last ended a kept-alive connection that Nginx used again.";
    page.gauges("rstscope_upstream_idle_timeout_seconds", help, idle)
}

fn session(page: &mut Page<'_>, pulse: &Pulse, fresh: bool) -> Result<(), Error> {
    page.gauge("rstscope_up", "1 while the event loop turns.", f64::from(u8::from(fresh)))?;
    let build =
        [([("version", env!("CARGO_PKG_VERSION")), ("ebpf_compiler", env!("RSTSCOPE_EBPF_COMPILER"))], 1.0)];
    page.gauges(
        "rstscope_build_info",
        "Version of the program and of the compiler of its kernel programs.",
        build,
    )?;
    let hooks =
        pulse.hooks.iter().map(|hook| ([("hook", hook.name.as_str())], f64::from(u8::from(hook.running))));
    page.gauges("rstscope_hook_running", "1 if the kernel hook runs.", hooks)?;
    let number = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    page.gauge("rstscope_nginx_masters", "Nginx master processes watched.", number(pulse.masters))?;
    page.gauge("rstscope_nginx_workers", "Nginx worker processes watched.", number(pulse.workers))?;
    let help = "RSTs sent by the TCP stack in the network namespaces of Nginx.";
    page.counter("rstscope_resets_sent", help, pulse.resets_sent)?;
    let help = "RSTs accepted by the TCP stack in the network namespaces of Nginx.";
    page.counter("rstscope_resets_received", help, pulse.resets_received)?;
    let help = "Segments retransmitted in the network namespaces of Nginx.";
    page.counter("rstscope_retransmits", help, pulse.retransmits)?;
    page.counter("rstscope_connections", "Connections of Nginx followed.", pulse.connections)?;
    page.counter("rstscope_ring_records", "Records from the kernel programs.", pulse.ring_records)?;
    let engine = &pulse.engine;
    page.counter("rstscope_log_lines", "Lines of error.log read.", engine.lines)?;
    let help = "Lines of error.log that no incident matched and that are no incident themselves.";
    page.counter("rstscope_log_lines_unmatched", help, engine.lines_unmatched)?;
    let help = "Lines of error.log that came after their incident had been judged.";
    page.counter("rstscope_log_lines_late", help, engine.lines_late)?;
    page.counter(
        "rstscope_incidents_judged_early",
        "Incidents judged early for lack of room.",
        engine.evicted,
    )
}

fn listeners(page: &mut Page<'_>, pulse: &Pulse) -> Result<(), Error> {
    let named: Vec<(String, u64)> =
        pulse.overflows.iter().map(|(netns, port, total)| (format!("{netns}:{port}"), *total)).collect();
    let dropped = named.iter().filter_map(|(name, total)| {
        let (netns, port) = name.split_once(':')?;
        Some(([("netns", netns), ("port", port)], *total))
    });
    let help = "Packets dropped because a listener of Nginx was full.";
    page.counters("rstscope_listen_overflows", help, dropped)?;
    let queues: Vec<(String, f64, f64)> = pulse
        .queues
        .iter()
        .map(|queue| (queue.listener.to_string(), f64::from(queue.waiting), f64::from(queue.limit)))
        .collect();
    let waiting = queues.iter().map(|(listener, waiting, _)| ([("listener", listener.as_str())], *waiting));
    page.gauges("rstscope_listen_queue_length", "Connections waiting for accept().", waiting)?;
    let limits = queues.iter().map(|(listener, _, limit)| ([("listener", listener.as_str())], *limit));
    page.gauges("rstscope_listen_queue_limit", "Connections that may wait for accept().", limits)
}

/// Absent unless the kernel counts (`sysctl kernel.bpf_stats_enabled=1`).
fn programs(page: &mut Page<'_>, pulse: &Pulse) -> Result<(), Error> {
    let runs = pulse.programs.iter().map(|program| ([("program", program.name.as_str())], program.runs));
    page.counters("rstscope_program_runs", "Runs of the kernel program.", runs)?;
    let time = pulse
        .programs
        .iter()
        .map(|program| ([("program", program.name.as_str())], program.time.as_secs_f64()));
    page.seconds("rstscope_program_run_seconds", "CPU time of the kernel program.", time)
}

fn losses(page: &mut Page<'_>, shared: &Shared, pulse: &Pulse) -> Result<(), Error> {
    let kernel = pulse.losses.by_handover.iter().map(|(name, lost)| (name.as_str(), *lost));
    let ours = [
        ("store", shared.store.lost()),
        ("live readers", shared.live.missed.load(Ordering::Relaxed)),
        ("patterns", shared.patterns_lost.load(Ordering::Relaxed)),
        ("journal", shared.journal_lost.load(Ordering::Relaxed)),
    ];
    let all = kernel.chain(ours).map(|(name, lost)| ([("handover", name)], lost));
    page.counters("rstscope_lost", "What was lost, by the hand-over where it was lost.", all)
}

fn store(page: &mut Page<'_>, shared: &Shared) -> Result<(), Error> {
    let account = &*shared.store;
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let gauge = |number: &AtomicU64| f64::from(u32::try_from(of(number)).unwrap_or(u32::MAX));
    page.counter("rstscope_store_verdicts_stored", "Verdicts stored.", of(&account.stored))?;
    page.counter(
        "rstscope_store_verdicts_expired",
        "Verdicts deleted by age or size.",
        of(&account.expired),
    )?;
    page.counter("rstscope_store_failures", "Batches that could not be stored.", of(&account.failures))?;
    page.gauge(
        "rstscope_store_pending_verdicts",
        "Verdicts that wait for the disk.",
        gauge(&account.pending),
    )?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a file, and seconds since 1970")]
    let (bytes, oldest) = (of(&account.bytes) as f64, of(&account.oldest) as f64 / 1e9);
    page.gauge("rstscope_store_size_bytes", "Bytes that the store takes.", bytes)?;
    let help = "Time of the oldest verdict in the store, 0 when it is empty.";
    page.gauge("rstscope_store_oldest_timestamp_seconds", help, oldest)?;
    let failing = f64::from(u8::from(account.failing.load(Ordering::Relaxed)));
    page.gauge("rstscope_store_failing", "1 while the disk takes no verdicts.", failing)
}

fn live(page: &mut Page<'_>, shared: &Shared) -> Result<(), Error> {
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let readers = f64::from(u32::try_from(of(&shared.live.readers)).unwrap_or(u32::MAX));
    page.gauge("rstscope_live_readers", "Readers of the socket.", readers)?;
    page.counter(
        "rstscope_live_readers_cut",
        "Readers that were too slow and were cut.",
        of(&shared.live.cut),
    )?;
    page.counter(
        "rstscope_live_readers_refused",
        "Readers that were turned away.",
        of(&shared.live.refused),
    )?;
    page.counter("rstscope_scrapes", "Scrapes of this page.", of(&shared.scrapes))
}

fn process(page: &mut Page<'_>) -> Result<(), Error> {
    let usage = usage();
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
    let resident = usage.resident as f64;
    let number = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident)?;
    page.gauge("process_open_fds", "Number of open file descriptors.", number(usage.descriptors))?;
    page.gauge("process_threads", "Number of threads.", number(usage.threads))?;
    let help = "Total user and system CPU time spent in seconds.";
    let mut metric =
        page.encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, f64, u64>(&usage.cpu_seconds, None)
}
