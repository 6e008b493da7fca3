//! Which files are compacted.
//!
//! Files are small below [`Policy::small_bytes`] of live data and fall into classes by powers of
//! [`Policy::fan_out`]. As soon as a class is full, it is merged with everything smaller, so a row is
//! rewritten once per class on its way up. A file of any size is rewritten when [`Policy::dead_percent`] of
//! its rows are gone. Files of full size are otherwise left alone, but while there is time: when no unit has come for
//! [`Policy::rest_after`], or for so long that it costs no more than [`Policy::worn_rate`], those with
//! [`Policy::worn_percent`] of their rows gone are rewritten, because every scan reads the gone rows, too.

use super::partition::Values;
use super::slots::Slots;
use super::table::DataFile;
use super::unit::TARGET_FILE_BYTES;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::time::Duration;

/// The smallest class: everything below is in it.
const CLASSES: usize = 5;

/// What is compacted, and how fast.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// A file with less live data is small.
    pub small_bytes: u64,
    /// So many files of a class are merged.
    pub fan_out: usize,
    /// A file with so many of its rows gone is rewritten, together with others.
    pub dead_percent: u64,
    /// A file with so many of its rows gone is rewritten alone.
    pub very_dead_percent: u64,
    /// The same of a file of full size; `None`: as any other.
    pub whole_dead_percent: Option<u64>,
    /// What it is while there is time.
    pub worn_percent: u64,
    /// There is time when no unit has come for so long.
    pub rest_after: Duration,
    /// Otherwise as much is rewritten for it, in bytes per second.
    pub worn_rate: u64,
    /// Live bytes of one job.
    pub job_bytes: u64,
    /// A file is closed at this size.
    pub target_bytes: usize,
    /// Bytes read and written per second, at most.
    pub rate: u64,
    /// The share of the time that a job works while nothing is urgent.
    pub work_percent: u32,
    /// With so many small files a job no longer rests.
    pub crowd: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            small_bytes: 16 << 20,
            fan_out: 8,
            dead_percent: 40,
            very_dead_percent: 65,
            whole_dead_percent: None,
            worn_percent: 15,
            rest_after: Duration::from_secs(10),
            worn_rate: 4 << 20,
            job_bytes: 256 << 20,
            target_bytes: TARGET_FILE_BYTES,
            rate: 128 << 20,
            work_percent: 50,
            crowd: 24,
        }
    }
}

/// What a file weighs.
struct Weight {
    number: u32,
    live_bytes: u64,
    dead_percent: u64,
    class: usize,
}

impl Policy {
    fn class(&self, live_bytes: u64) -> usize {
        let mut class = 0;
        let mut bytes = live_bytes.max(1);
        while bytes < self.small_bytes && class < CLASSES {
            bytes = bytes.saturating_mul(self.fan_out as u64);
            class += 1;
        }
        class
    }

    /// By partition.
    fn weigh(&self, slots: &Slots) -> Vec<Vec<Weight>> {
        let mut found: BTreeMap<&Values, Vec<Weight>> = BTreeMap::new();
        for (number, file) in slots.iter() {
            let Some(gone) = file.deleted.as_ref().map(RoaringBitmap::len) else { continue };
            let rows = u64::from(file.rows).max(1);
            let size = u64::try_from(file.add.size).unwrap_or(0);
            let live = u128::from(size) * u128::from(rows - gone.min(rows)) / u128::from(rows);
            let Ok(live_bytes) = u64::try_from(live) else { continue };
            found.entry(&file.add.partition_values).or_default().push(Weight {
                number,
                live_bytes,
                dead_percent: gone * 100 / rows,
                class: self.class(live_bytes),
            });
        }
        found.into_values().collect()
    }

    /// The files of the next job. Empty: nothing to do.
    pub(super) fn choose(&self, slots: &Slots) -> Vec<u32> {
        let mut jobs: Vec<Vec<Weight>> =
            self.weigh(slots).into_iter().map(|weights| self.choose_of(weights)).collect();
        jobs.retain(|job| !job.is_empty());
        // The most crowded partition first; as many more as fit.
        jobs.sort_by_key(|job| std::cmp::Reverse(job.len()));
        let mut bytes = 0;
        let mut numbers = Vec::new();
        for job in jobs {
            bytes += job.iter().map(|weight| weight.live_bytes).sum::<u64>();
            if !numbers.is_empty() && bytes > self.job_bytes {
                break;
            }
            numbers.extend(job.iter().map(|weight| weight.number));
        }
        numbers.sort_unstable();
        numbers
    }

    /// Of the files of one partition.
    fn choose_of(&self, weights: Vec<Weight>) -> Vec<Weight> {
        let mut first_class = CLASSES + 1;
        let mut merged = 0u64;
        for class in (1..=CLASSES).rev() {
            // What the smaller classes become counts where it will belong.
            let more = usize::from(merged > 0 && self.class(merged) <= class);
            if weights.iter().filter(|w| w.class == class).count() + more >= self.fan_out {
                first_class = class;
                merged = weights.iter().filter(|w| w.class >= class).map(|w| w.live_bytes).sum();
            }
        }
        let limit = |w: &Weight| match self.whole_dead_percent {
            Some(percent) if w.class == 0 => percent,
            _ => self.dead_percent,
        };
        let dead = |w: &&Weight| w.dead_percent >= limit(w);
        let dead_bytes: u64 = weights.iter().filter(dead).map(|w| w.live_bytes).sum();
        let take_dead = dead_bytes >= self.small_bytes
            || weights.iter().any(|w| w.dead_percent >= self.very_dead_percent);
        let wanted = |w: &Weight| w.class >= first_class || (take_dead && dead(&w));
        let mut chosen: Vec<Weight> = weights.into_iter().filter(wanted).collect();
        // The deadest and smallest first: that frees most for what it costs.
        chosen.sort_by_key(|w| (std::cmp::Reverse(w.dead_percent >= limit(w)), w.live_bytes));
        let mut bytes = 0;
        let fits = |weight: &Weight| {
            let is_first = bytes == 0;
            bytes += weight.live_bytes.max(1);
            is_first || bytes <= self.job_bytes
        };
        chosen.into_iter().take_while(fits).collect()
    }

    /// What is worth its bytes while there is time: files of full size whose gone rows make scans slow.
    pub(super) fn at_rest(&self) -> Self {
        let whole = Some(self.worn_percent);
        Policy { whole_dead_percent: whole, ..self.clone() }
    }

    /// Whether there is something to do while there is time.
    pub(super) fn has_worn(&self, slots: &Slots) -> bool {
        !self.at_rest().choose(slots).is_empty()
    }

    /// How many of these files are small.
    pub(super) fn small_among(&self, files: Vec<DataFile>) -> usize {
        let mut slots = Slots::default();
        slots.replace(files);
        self.weigh(&slots).into_iter().flatten().filter(|w| w.class > 0).count()
    }

    /// How many small files there are in the most crowded partition.
    pub(super) fn small_files(&self, slots: &Slots) -> usize {
        let small = |of: Vec<Weight>| of.iter().filter(|w| w.class > 0).count();
        self.weigh(slots).into_iter().map(small).max().unwrap_or(0)
    }
}

/// A file of a test: bytes, rows, the first of which are gone.
#[cfg(test)]
pub(super) fn file(bytes: i64, rows: u32, gone: u32) -> DataFile {
    DataFile {
        add: super::log::Add {
            path: "x".into(),
            partition_values: BTreeMap::new(),
            size: bytes,
            modification_time: 0,
            data_change: true,
            stats: None,
            deletion_vector: None,
        },
        rows,
        deleted: Some((0..gone).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_weighed_apart() {
        let of = |partition: &str, n: usize| -> Vec<DataFile> {
            let mut one = file(MB, 100, 0);
            one.add.partition_values = [("p".to_owned(), Some(partition.to_owned()))].into();
            vec![one; n]
        };
        let mut files = of("a", 7);
        files.extend(of("b", 7));
        assert!(chosen(files.clone()).is_empty());
        files.extend(of("b", 1));
        assert_eq!(chosen(files.clone()), (7..15).collect::<Vec<_>>());
        files.extend(of("a", 2));
        assert_eq!(chosen(files).len(), 17, "both in one job");
    }

    fn chosen(files: Vec<DataFile>) -> Vec<u32> {
        let mut slots = Slots::default();
        slots.replace(files);
        Policy::default().choose(&slots)
    }

    const MB: i64 = 1 << 20;

    #[test]
    fn a_full_class_is_merged_with_everything_smaller() {
        assert!(chosen((0..7).map(|_| file(MB, 100, 0)).collect()).is_empty());
        let mut files: Vec<_> = (0..8).map(|_| file(MB, 100, 0)).collect();
        files.push(file(100 * MB, 100, 10));
        files.push(file(1000, 100, 0));
        assert_eq!(chosen(files), [0, 1, 2, 3, 4, 5, 6, 7, 9]);
        // What eight small ones become makes the next class full: one job, not two.
        let mut files: Vec<_> = (0..7).map(|_| file(8 * MB, 100, 0)).collect();
        files.extend((0..8).map(|_| file(MB, 100, 0)));
        assert_eq!(chosen(files).len(), 15);
    }

    #[test]
    fn much_deleted_files_are_rewritten() {
        assert!(chosen(vec![file(100 * MB, 100, 39)]).is_empty());
        assert_eq!(chosen(vec![file(100 * MB, 100, 40), file(100 * MB, 100, 0)]), [0]);
        assert!(chosen(vec![file(MB, 100, 50)]).is_empty(), "too little to be worth it");
        assert_eq!(chosen(vec![file(MB, 100, 70)]), [0]);
    }

    #[test]
    fn worn_files_are_rewritten_while_there_is_time() {
        let slots = |files: Vec<DataFile>| {
            let mut slots = Slots::default();
            slots.replace(files);
            slots
        };
        let worn = slots(vec![file(100 * MB, 100, 15), file(100 * MB, 100, 14), file(MB, 100, 39)]);
        let policy = Policy::default();
        assert!(policy.choose(&worn).is_empty() && policy.has_worn(&worn));
        assert_eq!(policy.at_rest().choose(&worn), [0]);
        assert!(!policy.has_worn(&slots(vec![file(100 * MB, 100, 14), file(MB, 100, 39)])));
    }

    #[test]
    fn a_job_is_bounded() {
        let numbers = chosen((0..100).map(|_| file(100 * MB, 100, 50)).collect());
        assert_eq!(numbers.len(), 5);
    }
}
