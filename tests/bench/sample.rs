//! Samples of one measurement, and their statistics.

/// Samples of one quantity, in its unit (seconds, bytes, requests), sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Takes samples in any order; drops those that are not a number.
    pub fn new(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().filter(|s| s.is_finite()).collect();
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    /// Takes a single figure.
    pub fn one(figure: f64) -> Self {
        Self::new([figure])
    }

    /// Returns the number of samples.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the value below which `share` of the samples lie, interpolated between the two
    /// nearest; not a number without samples.
    pub fn quantile(&self, share: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else {
            return f64::NAN;
        };
        let place = share.clamp(0.0, 1.0) * last as f64;
        let (below, above) = (
            self.0[place.floor() as usize],
            self.0[place.ceil() as usize],
        );
        below + (above - below) * place.fract()
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the first and the third quartile.
    pub fn quartiles(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }

    /// Returns the mean, which shows rare long samples too.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Samples::new([4.0, 1.0, 3.0, 2.0]).median(), 2.5);
        assert_eq!(Samples::new([9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Samples::one(7.0).median(), 7.0);
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn quartiles_do_not_move_with_one_sample_that_is_far_off() {
        let samples = Samples::new([1.0, 2.0, 3.0, 4.0, 1e9]);
        assert_eq!(samples.quartiles(), (2.0, 4.0));
        assert_eq!(samples.median(), 3.0);
        assert!(samples.mean() > 1e8);
    }
}
