//! Families written down, as the catalogue has them.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder},
    metrics::{counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
};

use super::catalogue::{Family, Kind};

/// Takes families with their rows: the values of the labels, and the value.
pub(super) struct Rows<'e>(DescriptorEncoder<'e>);

/// A counter's value, or a gauge's.
pub(super) trait Value: Copy {
    fn encode(self, kind: Kind, to: MetricEncoder<'_>) -> fmt::Result;
}

impl Value for u64 {
    fn encode(self, kind: Kind, to: MetricEncoder<'_>) -> fmt::Result {
        match kind {
            Kind::Counter => ConstCounter::new(self).encode(to),
            Kind::Gauge | Kind::Histogram | Kind::Info => ConstGauge::new(self).encode(to),
        }
    }
}

impl Value for i64 {
    fn encode(self, _: Kind, to: MetricEncoder<'_>) -> fmt::Result {
        ConstGauge::new(self).encode(to)
    }
}

impl<'e> Rows<'e> {
    pub(super) const fn new(encoder: DescriptorEncoder<'e>) -> Self {
        Self(encoder)
    }

    /// A family without labels.
    pub(super) fn one(&mut self, family: &Family, value: u64) -> fmt::Result {
        self.all(family, [([], value)])
    }

    /// A family with its rows; nothing where there are none.
    pub(super) fn all<'v, const N: usize, V: Value>(
        &mut self,
        family: &Family,
        rows: impl IntoIterator<Item = ([&'v str; N], V)>,
    ) -> fmt::Result {
        self.each(family, rows, |value, to| value.encode(family.kind, to))
    }

    /// A family of histograms.
    pub(super) fn histograms<'v, const N: usize>(
        &mut self,
        family: &Family,
        rows: impl IntoIterator<Item = ([&'v str; N], &'v Histogram)>,
    ) -> fmt::Result {
        self.each(family, rows, |histogram, to| histogram.encode(to))
    }

    /// A family that tells by its labels.
    pub(super) fn info<const N: usize>(&mut self, family: &Family, values: [&str; N]) -> fmt::Result {
        let unit = family.unit();
        let labels = labels(family, values);
        self.0
            .encode_descriptor(family.name, family.help, unit.as_ref(), family.kind.metric_type())?
            .encode_info(&labels)
    }

    fn each<'v, const N: usize, V>(
        &mut self,
        family: &Family,
        rows: impl IntoIterator<Item = ([&'v str; N], V)>,
        write: impl Fn(V, MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let unit = family.unit();
        let mut metric =
            self.0
                .encode_descriptor(family.name, family.help, unit.as_ref(), family.kind.metric_type())?;
        for (values, value) in rows {
            write(value, metric.encode_family(&labels(family, values))?)?;
        }
        Ok(())
    }
}

fn labels<'v, const N: usize>(family: &Family, values: [&'v str; N]) -> Vec<(&'static str, &'v str)> {
    debug_assert_eq!(family.labels.len(), N, "{}", family.name);
    family.labels.iter().copied().zip(values).collect()
}
