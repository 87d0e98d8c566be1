//! Resources of the server, and whether they grow under load. This file is also a test target,
//! because programs without a test harness cannot have unit tests.
#![allow(dead_code, reason = "the test target does not use everything")]

/// Resources of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resources {
    /// Resident memory in KiB.
    pub(crate) memory: u64,
    /// Peak of the resident memory in KiB.
    pub(crate) peak: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

/// Readings of each third of the time. The first third is the warm-up.
#[derive(Debug)]
pub(crate) struct Thirds([Vec<Resources>; 3]);

impl Thirds {
    pub(crate) fn of(readings: &[Resources]) -> Self {
        let (first, rest) = readings.split_at(readings.len() / 3);
        let (second, last) = rest.split_at(rest.len() / 2);
        Self([first, second, last].map(<[Resources]>::to_vec))
    }

    /// Returns the median of a field in each third.
    pub(crate) fn medians(&self, field: fn(&Resources) -> u64) -> [u64; 3] {
        self.0.each_ref().map(|readings| {
            let mut values: Vec<u64> = readings.iter().map(field).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or_default()
        })
    }

    /// Returns the maximum of a field in each third.
    pub(crate) fn maxima(&self, field: fn(&Resources) -> u64) -> [u64; 3] {
        self.0
            .each_ref()
            .map(|readings| readings.iter().map(field).max().unwrap_or_default())
    }

    /// Names each resource that grew from the second third to the last.
    pub(crate) fn growth(&self) -> Vec<String> {
        let mut growth = Vec::new();
        let [_, before, after] = self.medians(|resources| resources.memory);
        if after * 100 > before * 115 {
            growth.push(format!(
                "memory grew from {} to {} MB (medians of the second and the last third)",
                before / 1024,
                after / 1024
            ));
        }
        let maxima = [
            (
                "file descriptors",
                self.maxima(|resources| resources.descriptors),
            ),
            ("threads", self.maxima(|resources| resources.threads)),
        ];
        for (what, [_, before, after]) in maxima {
            if after > before + 4 {
                growth.push(format!(
                    "{what} grew from {before} to {after} (maxima of the second and the last third)"
                ));
            }
        }
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(memory: [u64; 3], descriptors: [u64; 3], threads: [u64; 3]) -> usize {
        let third = |third: usize| Resources {
            memory: memory[third],
            peak: 0,
            descriptors: descriptors[third],
            threads: threads[third],
        };
        Thirds::of(&[0, 0, 1, 1, 2, 2].map(third)).growth().len()
    }

    #[test]
    fn growth_after_warm_up() {
        let flat = [20, 30, 34];
        assert_eq!(growth([100, 300, 345], flat, flat), 0);
        assert_eq!(growth([300, 300, 346], flat, flat), 1);
        assert_eq!(growth([300; 3], [20, 30, 35], flat), 1);
        assert_eq!(growth([300; 3], [20, 30, 35], [9, 9, 14]), 2);
    }
}
