//! A small seeded generator: the whole of a test's randomness comes from one printed number.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// From `STRANDLINE_SEED`, or from the clock; prints the seed, so that a failure can be repeated.
    pub(crate) fn from_env(what: &str) -> Random {
        let seed = match std::env::var("STRANDLINE_SEED") {
            Ok(text) => text.parse().expect("STRANDLINE_SEED is a number"),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |d| d.as_secs() ^ (u64::from(d.subsec_nanos()) << 32)),
        };
        println!("{what}: STRANDLINE_SEED={seed}");
        Random(seed)
    }

    /// An independent generator for a part.
    pub(crate) fn fork(&mut self) -> Random {
        Random(self.next())
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// At least `low`, below `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// Below `n`, for an index.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.between(0, n as u64)).expect("an index")
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Any whole number that fits into so many bits with a sign, 1 to 64.
    pub(crate) fn signed(&mut self, bits: u32) -> i64 {
        i64::from_ne_bytes(self.next().to_ne_bytes()) >> (64 - bits)
    }

    /// Text of fewer characters than this, some of which need quoting, escaping or more than a byte.
    pub(crate) fn text(&mut self, fewer_than: u64) -> String {
        let letters: Vec<char> = "abcXYZ äß'\\\"%;{}日本\t\n🦀$".chars().collect();
        (0..self.between(0, fewer_than)).map(|_| letters[self.below(letters.len())]).collect()
    }
}
