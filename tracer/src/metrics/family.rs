//! A metric with its samples, before it takes the form that a receiver wants.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name is without its `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A count.
    Whole(u64),
    /// Anything else.
    Real(f64),
}

/// A number with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: Number,
}

/// A metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Name as Prometheus has it.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Its samples; one without labels has none besides.
    pub samples: Vec<Sample>,
}

impl Family {
    /// Writes it in Prometheus' way.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for Sample { labels, value } in &self.samples {
            if labels.is_empty() {
                number(&mut metric, self.kind, *value)?;
            } else {
                let labels: Vec<(&str, &str)> =
                    labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                number(&mut metric.encode_family(&labels)?, self.kind, *value)?;
            }
        }
        Ok(())
    }
}

fn number(metric: &mut MetricEncoder<'_>, kind: Kind, value: Number) -> Result<(), Error> {
    match (kind, value) {
        (Kind::Counter, Number::Whole(value)) => metric.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        (Kind::Counter, Number::Real(value)) => metric.encode_counter::<NoLabelSet, f64, u64>(&value, None),
        (Kind::Gauge, Number::Whole(value)) => metric.encode_gauge(&float(value)),
        (Kind::Gauge, Number::Real(value)) => metric.encode_gauge(&value),
    }
}

/// A count as a float: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "bytes, seconds and counts of this host")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}
