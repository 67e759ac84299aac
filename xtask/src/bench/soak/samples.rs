//! What a daemon holds, over time.

/// At one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    /// Of the run, so that samples of one daemon can be told.
    pub(super) upgrades: u32,
    /// MiB, proportional: what is shared with a draining daemon counts once.
    pub(super) memory: f64,
    /// MiB, resident.
    pub(super) rss: f64,
    /// MiB, with those that drain.
    pub(super) memory_of_all: f64,
    pub(super) daemons: usize,
    pub(super) descriptors: usize,
    /// Per cent, of the fullest map.
    pub(super) fill: f64,
}

/// Daemons needed in the second half for a line through their last samples.
const ENOUGH: usize = 3;

/// In order of time.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<Sample>);

impl Series {
    pub(super) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(super) fn max(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        self.0.iter().map(of).fold(0.0, f64::max)
    }

    /// Mean memory in the second half.
    pub(super) fn memory(&self) -> f64 {
        let half = &self.0[self.0.len() / 2..];
        half.iter().map(|s| s.memory).sum::<f64>() / half.len().max(1) as f64
    }

    /// How much it rises over the second half, by least squares.
    pub(super) fn growth(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        let half = &self.0[self.0.len() / 2..];
        // The one that runs at the end has not come to the age of the others.
        let last: Vec<&Sample> = half
            .windows(2)
            .filter(|pair| pair[0].upgrades != pair[1].upgrades)
            .map(|pair| &pair[0])
            .collect();
        let points: Vec<(f64, f64)> = if last.len() >= ENOUGH {
            last.iter().map(|s| (s.seconds, of(s))).collect()
        } else {
            half.iter().map(|s| (s.seconds, of(s))).collect()
        };
        slope(&points).map_or(0.0, |slope| {
            slope * (points[points.len() - 1].0 - points[0].0)
        })
    }
}

fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (mut over, mut under) = (0.0, 0.0);
    for point in points {
        over += (point.0 - x) * (point.1 - y);
        under += (point.0 - x).powi(2);
    }
    (under > 0.0).then(|| over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(memory: impl Fn(u32) -> f64) -> Series {
        let sample = |second: u32| Sample {
            seconds: f64::from(second),
            upgrades: second / 10,
            memory: memory(second),
            ..Sample::default()
        };
        Series((0..200).map(sample).collect())
    }

    #[test]
    fn growth_is_between_daemons_of_the_same_age() {
        for (description, memory, want) in [
            ("none", (|_| 30.0) as fn(u32) -> f64, 0.0),
            (
                "each fills its caches anew",
                |s| 20.0 + f64::from(s % 10),
                0.0,
            ),
            ("only at first", |s| f64::from(s.min(50)), 0.0),
            ("from daemon to daemon", |s| f64::from(s / 10), 8.0),
        ] {
            let got = series(memory).growth(|s| s.memory);
            assert!((got - want).abs() < 0.01, "{description}: {got}");
        }
    }

    #[test]
    fn without_upgrades_every_sample_counts() {
        let mut series = series(f64::from);
        series.0.iter_mut().for_each(|sample| sample.upgrades = 0);
        assert!((series.growth(|s| s.memory) - 99.0).abs() < 0.01);
        assert_eq!(Series::default().growth(|s| s.memory), 0.0);
    }
}
