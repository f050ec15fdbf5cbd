//! Percentiles and medians of what was measured.
use std::time::Duration;

/// Numbers in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn new(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        Self(numbers)
    }

    /// Durations as milliseconds.
    pub(super) fn millis(durations: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(durations.into_iter().map(|it| it.as_secs_f64() * 1e3))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest number that is not exceeded by `percent` of all; 0 where there are none.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(super) fn median(&self) -> f64 {
        self.percentile(50)
    }

    pub(super) fn min(&self) -> f64 {
        self.percentile(0)
    }

    pub(super) fn max(&self) -> f64 {
        self.percentile(100)
    }

    pub(super) fn numbers(&self) -> &[f64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let hundred = Samples::new((1..=100).rev().map(f64::from));
        let found = [0, 50, 90, 99, 100].map(|percent| hundred.percentile(percent));
        assert_eq!(found, [1.0, 50.0, 90.0, 99.0, 100.0]);
        assert_eq!(Samples::new([7.0]).percentile(99), 7.0);
        assert_eq!(Samples::default().median(), 0.0);
    }
}
