//! Global transaction identifiers of MySQL and MariaDB, and sets of them.
//!
//! MySQL: a [`Gtid`] is `uuid[:tag]:number`, and a [`GtidSet`] holds exact intervals per source. Gaps are real (Group
//! Replication hands out blocks of numbers), so nothing here ever closes one.
//!
//! MariaDB: a [`MariaGtid`] is `domain-server-number`. Numbers rise within a domain whoever writes, so a
//! [`MariaGtidSet`], the newest GTID of each domain, says what is held; [`MariaGtidSet::holds`] compares per domain.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The largest number of a transaction, as in the server (`GNO_END - 1`).
pub const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// A server's UUID. Text form with hyphens, lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServerUuid(pub [u8; 16]);

impl fmt::Display for ServerUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServerUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not a GTID, or not a set of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {expected}")]
pub struct ParseGtidError {
    text: String,
    expected: &'static str,
}

fn refuse(text: &str, expected: &'static str) -> ParseGtidError {
    let text = text.chars().take(80).collect();
    ParseGtidError { text, expected }
}

const A_UUID: &str = "a server's UUID";
const A_TAG: &str = "a GTID's tag: at most 32 letters, digits and underscores, not beginning with a digit";
const A_GTID: &str = "a GTID such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:23";
const A_SET: &str = "a GTID set such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23:tag:5";
const A_MARIA: &str = "a MariaDB GTID such as 0-1-100";

impl FromStr for ServerUuid {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || refuse(text, A_UUID);
        let mut bytes = [0; 16];
        let mut digits = text.bytes().filter(|&byte| byte != b'-');
        let hyphens_right = text.len() == 36
            && text.bytes().enumerate().all(|(i, b)| (b == b'-') == matches!(i, 8 | 13 | 18 | 23));
        if !hyphens_right && (text.len() != 32 || text.contains('-')) {
            return Err(refuse());
        }
        let mut digit = || {
            let byte = digits.next().map(char::from)?;
            byte.to_digit(16).and_then(|digit| u8::try_from(digit).ok())
        };
        for byte in &mut bytes {
            let (Some(high), Some(low)) = (digit(), digit()) else { return Err(refuse()) };
            *byte = high << 4 | low;
        }
        Ok(ServerUuid(bytes))
    }
}

/// A tag of MySQL 8.3+, lower case. Empty: none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag(String);

impl Tag {
    /// Checks and normalises (the server's tags are lower case). The empty text is no tag.
    ///
    /// # Errors
    /// Too long, or other characters than letters, digits and underscores.
    pub fn new(text: &str) -> Result<Self, ParseGtidError> {
        let first = text.bytes().next().is_none_or(|b| b == b'_' || b.is_ascii_alphabetic());
        let rest = text.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
        if text.len() > 32 || !first || !rest {
            Err(refuse(text, A_TAG))
        } else {
            Ok(Tag(text.to_ascii_lowercase()))
        }
    }

    /// The text; empty when there is none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// No tag.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who numbers transactions: a server, and a tag. Displays as `uuid` or `uuid:tag`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct GtidSource {
    /// The server.
    pub uuid: ServerUuid,
    /// The tag, if any.
    pub tag: Tag,
}

impl fmt::Display for GtidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tag.is_empty() {
            write!(f, "{}", self.uuid)
        } else {
            write!(f, "{}:{}", self.uuid, self.tag.0)
        }
    }
}

impl FromStr for GtidSource {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None => Ok(GtidSource { uuid: text.parse()?, tag: Tag::default() }),
            Some((_, "")) => Err(refuse(text, A_TAG)),
            Some((uuid, tag)) => Ok(GtidSource { uuid: uuid.parse()?, tag: Tag::new(tag)? }),
        }
    }
}

/// One transaction of MySQL. Displays as `uuid:number` or `uuid:tag:number`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Gtid {
    /// Who numbered it.
    pub source: GtidSource,
    /// Its number, from 1.
    pub number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.number)
    }
}

impl FromStr for Gtid {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (source, number) = text.rsplit_once(':').ok_or_else(|| refuse(text, A_GTID))?;
        let number = parse_number(number).ok_or_else(|| refuse(text, A_GTID))?;
        Ok(Gtid { source: source.parse()?, number })
    }
}

fn parse_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (1..=MAX_NUMBER).contains(number))
}

/// An unbroken run of one source's transactions: both ends belong to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GtidRange {
    /// The first number, from 1.
    pub start: u64,
    /// The last number, at least `start`.
    pub end: u64,
}

/// Exact sets of MySQL's GTIDs. Ranges are kept sorted, apart (never touching) and not empty.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct GtidSet {
    sources: BTreeMap<GtidSource, Vec<GtidRange>>,
}

impl GtidSet {
    /// Nothing.
    pub fn new() -> Self {
        GtidSet::default()
    }

    /// Holds nothing.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Adds one transaction. Whether it was new.
    pub fn insert(&mut self, gtid: &Gtid) -> bool {
        if self.contains(gtid) {
            return false;
        }
        self.insert_range(&gtid.source, GtidRange { start: gtid.number, end: gtid.number })
    }

    /// Adds a range. False, and nothing is changed, when it is none (start 0 or beyond the end, or beyond
    /// [`MAX_NUMBER`]).
    pub fn insert_range(&mut self, source: &GtidSource, range: GtidRange) -> bool {
        if range.start == 0 || range.start > range.end || range.end > MAX_NUMBER {
            return false;
        }
        // The usual case first: the next number of a known source.
        let ranges = match self.sources.get_mut(source) {
            Some(ranges) => ranges,
            None => self.sources.entry(source.clone()).or_default(),
        };
        if let Some(last) = ranges.last_mut()
            && last.start <= range.start
        {
            if range.start <= last.end.saturating_add(1) {
                last.end = last.end.max(range.end);
            } else {
                ranges.push(range);
            }
            return true;
        }
        let from = ranges.partition_point(|r| r.end.saturating_add(1) < range.start);
        let to = ranges.partition_point(|r| r.start <= range.end.saturating_add(1));
        let touched = ranges.get(from..to).unwrap_or_default();
        let start = touched.first().map_or(range.start, |r| r.start.min(range.start));
        let end = touched.last().map_or(range.end, |r| r.end.max(range.end));
        ranges.splice(from..to, [GtidRange { start, end }]);
        true
    }

    /// Whether the transaction is held.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.sources.get(&gtid.source).is_some_and(|ranges| {
            let at = ranges.partition_point(|r| r.end < gtid.number);
            ranges.get(at).is_some_and(|r| r.start <= gtid.number)
        })
    }

    /// Everything of both.
    #[must_use]
    pub fn union(&self, other: &GtidSet) -> GtidSet {
        let mut all = self.clone();
        for (source, range) in other.ranges() {
            all.insert_range(source, range);
        }
        all
    }

    /// What is held here and not there.
    #[must_use]
    pub fn subtract(&self, other: &GtidSet) -> GtidSet {
        self.combine(other, |own, others| {
            let mut left = Vec::new();
            for range in own {
                let mut start = range.start;
                for cut in others.iter().filter(|cut| cut.end >= range.start && cut.start <= range.end) {
                    if cut.start > start {
                        left.push(GtidRange { start, end: cut.start - 1 });
                    }
                    start = start.max(cut.end.saturating_add(1));
                }
                if start <= range.end {
                    left.push(GtidRange { start, end: range.end });
                }
            }
            left
        })
    }

    /// What is held by both: where a pipeline resumes.
    #[must_use]
    pub fn intersect(&self, other: &GtidSet) -> GtidSet {
        self.combine(other, |own, others| {
            let mut both = Vec::new();
            for range in own {
                for with in others {
                    let (start, end) = (range.start.max(with.start), range.end.min(with.end));
                    if start <= end {
                        both.push(GtidRange { start, end });
                    }
                }
            }
            both
        })
    }

    fn combine(&self, other: &GtidSet, f: impl Fn(&[GtidRange], &[GtidRange]) -> Vec<GtidRange>) -> GtidSet {
        let mut sources = BTreeMap::new();
        for (source, own) in &self.sources {
            let others = other.sources.get(source).map(Vec::as_slice).unwrap_or_default();
            let ranges = f(own, others);
            if !ranges.is_empty() {
                sources.insert(source.clone(), ranges);
            }
        }
        GtidSet { sources }
    }

    /// Whether everything here is held there.
    pub fn is_subset(&self, other: &GtidSet) -> bool {
        self.sources.iter().all(|(source, own)| {
            let others = other.sources.get(source).map(Vec::as_slice).unwrap_or_default();
            own.iter().all(|range| {
                let at = others.partition_point(|r| r.end < range.start);
                others.get(at).is_some_and(|r| r.start <= range.start && range.end <= r.end)
            })
        })
    }

    /// All ranges, by source, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (&GtidSource, GtidRange)> {
        self.sources.iter().flat_map(|(source, ranges)| ranges.iter().map(move |&range| (source, range)))
    }

    /// The sources, each with its ranges, ascending.
    pub fn sources(&self) -> impl Iterator<Item = (&GtidSource, &[GtidRange])> {
        self.sources.iter().map(|(source, ranges)| (source, ranges.as_slice()))
    }

    /// How many transactions it holds.
    pub fn count(&self) -> u64 {
        self.ranges().fold(0, |sum, (_, range)| sum.saturating_add(range.end - range.start + 1))
    }
}

/// As `gtid_executed` shows it, without line breaks: `uuid:1-5:7,uuid2:1-3:tag:1-2`.
impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut uuid = None;
        for (source, ranges) in &self.sources {
            if uuid != Some(source.uuid) {
                if uuid.is_some() {
                    f.write_str(",")?;
                }
                write!(f, "{}", source.uuid)?;
                uuid = Some(source.uuid);
            }
            if !source.tag.is_empty() {
                write!(f, ":{}", source.tag.0)?;
            }
            for range in ranges {
                write!(f, ":{}", range.start)?;
                if range.end > range.start {
                    write!(f, "-{}", range.end)?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = ParseGtidError;

    /// As the server reads it: blanks and line breaks do not count, sets may repeat a source.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = GtidSet::new();
        let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        for part in compact.split(',').filter(|part| !part.is_empty()) {
            let mut pieces = part.split(':');
            let uuid = pieces.next().unwrap_or_default().parse()?;
            let mut source = GtidSource { uuid, tag: Tag::default() };
            let mut complete = false;
            for piece in pieces {
                if piece.starts_with(|c: char| c.is_ascii_digit()) {
                    let range = parse_range(piece).ok_or_else(|| refuse(text, A_SET))?;
                    if !set.insert_range(&source, range) {
                        return Err(refuse(text, A_SET));
                    }
                    complete = true;
                } else if piece.is_empty() {
                    return Err(refuse(text, A_SET));
                } else {
                    source.tag = Tag::new(piece)?;
                    complete = false;
                }
            }
            if !complete {
                return Err(refuse(text, A_SET));
            }
        }
        Ok(set)
    }
}

fn parse_range(text: &str) -> Option<GtidRange> {
    match text.split_once('-') {
        Some((start, end)) => {
            let (start, end) = (parse_number(start)?, parse_number(end)?);
            (start <= end).then_some(GtidRange { start, end })
        }
        None => parse_number(text).map(|number| GtidRange { start: number, end: number }),
    }
}

/// One transaction of MariaDB. Displays as `domain-server-number`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MariaGtid {
    /// The replication domain.
    pub domain: u32,
    /// The server that wrote it first.
    pub server_id: u32,
    /// Its number in the domain.
    pub number: u64,
}

impl fmt::Display for MariaGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server_id, self.number)
    }
}

impl FromStr for MariaGtid {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |part: &str| -> Option<u64> {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|_| digits)
        };
        let mut parts = text.split('-').map(part);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(domain)), Some(Some(server_id)), Some(Some(number)), None) => {
                match (u32::try_from(domain), u32::try_from(server_id)) {
                    (Ok(domain), Ok(server_id)) => Ok(MariaGtid { domain, server_id, number }),
                    _ => Err(refuse(text, A_MARIA)),
                }
            }
            _ => Err(refuse(text, A_MARIA)),
        }
    }
}

/// The newest GTIDs of MariaDB, one per domain: what a slave's position is made of, `0-1-100,1-2-7`.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct MariaGtidSet {
    domains: BTreeMap<u32, MariaGtid>,
}

impl MariaGtidSet {
    /// Nothing.
    pub fn new() -> Self {
        MariaGtidSet::default()
    }

    /// Holds nothing.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// `gtid` is the newest of its domain from now on, whatever stood there.
    pub fn set(&mut self, gtid: MariaGtid) {
        self.domains.insert(gtid.domain, gtid);
    }

    /// The newest of a domain.
    pub fn get(&self, domain: u32) -> Option<MariaGtid> {
        self.domains.get(&domain).copied()
    }

    /// Whether the transaction is held: whoever wrote it, its number is not above the domain's.
    pub fn holds(&self, gtid: MariaGtid) -> bool {
        self.get(gtid.domain).is_some_and(|newest| gtid.number <= newest.number)
    }

    /// Whether every domain here is as far there, or further.
    pub fn is_held_by(&self, other: &MariaGtidSet) -> bool {
        self.iter().all(|gtid| other.holds(gtid))
    }

    /// Per domain the lesser one, of the domains that both have: where a pipeline resumes.
    #[must_use]
    pub fn intersect(&self, other: &MariaGtidSet) -> MariaGtidSet {
        let both = |own: &MariaGtid| {
            let with = other.get(own.domain)?;
            Some((own.domain, if own.number <= with.number { *own } else { with }))
        };
        MariaGtidSet { domains: self.domains.values().filter_map(both).collect() }
    }

    /// Per domain the greater one.
    #[must_use]
    pub fn union(&self, other: &MariaGtidSet) -> MariaGtidSet {
        let mut all = self.clone();
        for gtid in other.iter() {
            if !all.holds(gtid) {
                all.set(gtid);
            }
        }
        all
    }

    /// All, by domain.
    pub fn iter(&self) -> impl Iterator<Item = MariaGtid> + '_ {
        self.domains.values().copied()
    }
}

impl fmt::Display for MariaGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, gtid) in self.domains.values().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(gtid, f)?;
        }
        Ok(())
    }
}

impl FromStr for MariaGtidSet {
    type Err = ParseGtidError;

    /// A domain that is named twice is refused: no server writes it, and which one holds is not known.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = MariaGtidSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let gtid: MariaGtid = part.parse()?;
            if set.get(gtid.domain).is_some() {
                return Err(refuse(text, "one MariaDB GTID per domain"));
            }
            set.set(gtid);
        }
        Ok(set)
    }
}

#[cfg(test)]
#[path = "gtid_tests.rs"]
mod tests;
