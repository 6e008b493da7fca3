//! Tables that are put right where they are, against a model: rows that are wrong, missing, or that the source never had;
//! transactions between every two stations of a part, with keys that move and values that the log does not repeat;
//! compaction, deaths between any two file operations, readers that end and begin again. At every commit each key
//! that was right is right; in the end the table is the source.
//!
//! A failure names its seed: `STRANDLINE_AMEND_SEEDS=17 cargo test --lib amending` runs it again.

use super::chunks::written;
use super::process::Process;
use super::*;
use crate::event::{ChunkKey, KeyRange};
use crate::sink::write::{WriteMode, WriteOptions};
use crate::sink::{AmendPart, Amended};
use std::collections::BTreeSet;

/// From here on are keys that the stream does not touch: a change of a row that is not there stops a table.
const QUIET: i64 = 1000;
/// From here on are rows that the source never had.
const EXTRA: i64 = 2000;

struct Unit {
    to: u64,
    batch: ChangeBatch,
    /// The source's rows after it.
    rows: BTreeMap<i64, Row>,
    /// Keys whose rows may be wrong after it, if nothing was put right.
    tainted: BTreeSet<i64>,
}

struct World {
    p: Process,
    schema: Arc<TableSchema>,
    live: BTreeMap<i64, Row>,
    quiet: BTreeMap<i64, Row>,
    tainted: BTreeSet<i64>,
    units: Vec<Unit>,
    /// So many are in the table.
    done: usize,
    again: usize,
    void: usize,
    on: usize,
}

/// A part that was read, and waits.
struct Snapshot {
    at: u64,
    rows: BTreeMap<i64, Row>,
}

impl World {
    async fn new(seed: u64) -> World {
        let schema = schema(&[0]);
        let mut options = WriteOptions::default();
        if seed % 3 == 2 {
            options.write = WriteMode::CopyOnWrite;
        } else if seed % 5 == 1 {
            options = feed::fed(options);
        }
        options.column_mapping = seed % 4 == 3;
        let p = Process::first(seed, options, &schema).await;
        let mut world = World {
            p,
            schema,
            live: BTreeMap::new(),
            quiet: BTreeMap::new(),
            tainted: BTreeSet::new(),
            units: Vec::new(),
            done: 0,
            again: 0,
            void: 0,
            on: 0,
        };
        world.damage();
        world
    }

    /// The first unit: what the table holds, which is not what the source has.
    fn damage(&mut self) {
        while self.live.len() < 70 {
            let before = self.live.clone();
            if matches!(change(&mut self.p.random, &mut self.live), Change::Truncate) {
                self.live = before;
            }
        }
        self.quiet = (QUIET..QUIET + 30).map(|id| (id, (Some(format!("q{id}")), None))).collect();
        let mut held = Vec::new();
        for (id, (name, big)) in self.live.iter().chain(&self.quiet) {
            let wrong = || Some("wrong".to_owned());
            held.push(match self.p.random.below(6) {
                0 => Change::Insert(*id, (wrong(), big.clone())),
                1 => Change::Insert(*id, (name.clone(), wrong())),
                2 if *id >= QUIET => continue,
                _ => Change::Insert(*id, (name.clone(), big.clone())),
            });
        }
        held.extend((EXTRA..EXTRA + 15).map(|id| Change::Insert(id, (None, None))));
        self.tainted = self.live.keys().chain(self.quiet.keys()).copied().chain(EXTRA..EXTRA + 15).collect();
        self.push(&held);
    }

    fn rows(&self) -> BTreeMap<i64, Row> {
        self.live.iter().chain(&self.quiet).map(|(id, row)| (*id, row.clone())).collect()
    }

    fn push(&mut self, changes: &[Change]) {
        let to = self.end() + 5;
        let batch = batch_at(&self.schema, changes, to - 1);
        let (rows, tainted) = (self.rows(), self.tainted.clone());
        self.units.push(Unit { to, batch, rows, tainted });
    }

    /// Where the source's log ends.
    fn end(&self) -> u64 {
        self.units.last().map_or(10, |unit| unit.to)
    }

    /// Where the table is.
    fn held(&self) -> u64 {
        self.done.checked_sub(1).map_or(10, |last| self.units[last].to)
    }

    fn transact(&mut self) {
        let mut changes = Vec::new();
        for _ in 0..=self.p.random.below(6) {
            let change = change(&mut self.p.random, &mut self.live);
            match &change {
                Change::Truncate => {
                    self.quiet.clear();
                    self.tainted.clear();
                }
                Change::Insert(id, _) => drop(self.tainted.remove(id)),
                Change::Update(from, to, _, big) => {
                    let was = self.tainted.remove(from);
                    if was && big.is_none() {
                        self.tainted.insert(*to);
                    }
                }
                Change::Delete(id) => drop(self.tainted.remove(id)),
            }
            changes.push(change);
        }
        if !changes.is_empty() {
            self.push(&changes);
        }
    }

    async fn deliver(&mut self) -> Result<()> {
        let Some(unit) = self.units.get(self.done) else { return Ok(()) };
        let (interval, batch) = (Interval { from: at(self.held()), to: at(unit.to) }, unit.batch.clone());
        self.p.table().stage(batch).await?;
        self.p.table().commit(interval).await?;
        self.done += 1;
        self.check().await;
        Ok(())
    }

    /// Each key that was right is right.
    async fn check(&mut self) {
        if self.p.random.below(3) > 0 {
            return;
        }
        let found = content(&self.p.lake.files, &self.p.lake.ids).await;
        let unit = &self.units[self.done - 1];
        let keys: BTreeSet<i64> = found.keys().chain(unit.rows.keys()).copied().collect();
        for key in keys.into_iter().filter(|key| !unit.tainted.contains(key)) {
            assert_eq!(found.get(&key), unit.rows.get(&key), "key {key} at {}", unit.to);
        }
    }

    /// What happens between two stations.
    async fn happen(&mut self) -> Result<()> {
        for _ in 0..self.p.random.below(4) {
            match self.p.random.below(6) {
                0..3 => self.transact(),
                3..5 => self.deliver().await?,
                _ => self.p.upkeep().await?,
            }
        }
        Ok(())
    }

    async fn snapshot(&mut self) -> Result<Snapshot> {
        self.p.table().watch_amending();
        self.happen().await?;
        Ok(Snapshot { at: self.end(), rows: self.rows() })
    }

    /// The part finds its place: everything up to the snapshot is in, and perhaps more.
    async fn place(
        &mut self,
        snapshot: &Snapshot,
        (range, keys): (Option<KeyRange>, &[ChunkKey]),
        ends: &[i64],
    ) -> Result<Amended> {
        let holds = |id: i64| {
            let key = ChunkKey::Number(id);
            match &range {
                Some(KeyRange { from, below }) => {
                    from.as_ref().is_none_or(|from| *from <= key)
                        && below.as_ref().is_none_or(|below| key < *below)
                }
                None => keys.contains(&key),
            }
        };
        let rows = snapshot.rows.iter().filter(|(id, _)| holds(**id));
        let rows: BTreeMap<i64, Row> = rows.map(|(id, row)| (*id, row.clone())).collect();
        let schema = self.schema.clone();
        let parts = if rows.is_empty() { Vec::new() } else { written(self.p.table(), &schema, &rows)? };
        self.happen().await?;
        while self.held() < snapshot.at {
            self.deliver().await?;
        }
        let ends = ends.iter().copied().map(ChunkKey::Number).collect();
        let part = AmendPart {
            request: "r".into(),
            at: at(snapshot.at),
            range,
            read: None,
            keys: vec![],
            ends,
            parts,
        };
        let (amended, outcome) = self.p.table().amend_part(part).await?;
        assert!(matches!(outcome, CommitOutcome::Committed { .. }));
        self.again += amended.again.len();
        self.void += usize::from(amended.void.is_some());
        Ok(amended)
    }

    async fn again(&mut self, mut keys: Vec<ChunkKey>) -> Result<()> {
        while !keys.is_empty() {
            let snapshot = self.snapshot().await?;
            let amended = self.place(&snapshot, (None, &keys), &[]).await?;
            let void = if amended.void.is_some() { std::mem::take(&mut keys) } else { Vec::new() };
            keys = void.into_iter().chain(amended.again).collect();
        }
        Ok(())
    }

    /// All parts, from where an earlier attempt ended. Returns whether it came to its end.
    async fn attempt(&mut self) -> Result<bool> {
        let mut from = self.p.table().begin_amending("r")?;
        self.on += usize::from(from.is_some());
        let first = match &from {
            Some(ChunkKey::Number(first)) => *first,
            _ => i64::MIN,
        };
        let mut ends: Vec<i64> =
            [20, 100, 180, QUIET + 10, EXTRA].into_iter().filter(|e| *e > first).collect();
        ends.retain(|_| self.p.random.below(5) > 0);
        let mut snapshot: Option<Snapshot> = None;
        for i in 0..=ends.len() {
            let below = ends.get(i).copied().map(ChunkKey::Number);
            let range = KeyRange { from: from.take(), below: below.clone() };
            loop {
                if self.p.random.below(6) == 0 {
                    self.p.faults.die_after(self.p.random.below(40) as i64);
                }
                if self.p.random.below(25) == 0 {
                    return Ok(false);
                }
                let taken = match snapshot.take() {
                    Some(taken) if self.p.random.below(2) == 0 => taken,
                    _ => self.snapshot().await?,
                };
                let rest = ends.get(i + 1..).unwrap_or_default();
                let amended = self.place(&taken, (Some(range.clone()), &[]), rest).await?;
                if amended.void.is_none() {
                    snapshot = amended.again.is_empty().then_some(taken);
                    self.again(amended.again).await?;
                    break;
                }
            }
            from.clone_from(&below);
        }
        loop {
            let left = self.p.table().left_to_amend();
            if left.is_empty() {
                break;
            }
            self.again(left).await?;
        }
        self.p.table().end_amending()?;
        Ok(true)
    }

    async fn history(&mut self) {
        self.deliver().await.unwrap();
        loop {
            match self.attempt().await {
                Ok(true) => break,
                // Who read has ended; the table is still there.
                Ok(false) => {}
                Err(error) => {
                    self.p.died(&error);
                    let purpose = OpenFor::Continue(ChangePolicy::default());
                    let position = self.p.open(&self.schema, purpose).await.position.unwrap();
                    self.done = self.units.iter().take_while(|unit| at(unit.to) <= position).count();
                }
            }
        }
        self.p.faults.live();
        while self.done < self.units.len() {
            self.deliver().await.unwrap();
        }
        assert_eq!(content(&self.p.lake.files, &self.p.lake.ids).await, self.rows());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_amending_with_faults_ends_as_the_source() {
    let given = std::env::var("STRANDLINE_AMEND_SEEDS").unwrap_or_else(|_| "1..50".into());
    let (from, to) = match given.split_once("..") {
        Some((from, to)) => (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap()),
        None => (given.parse().unwrap(), given.parse::<u64>().unwrap() + 1),
    };
    let (mut deaths, mut again, mut void, mut on) = (0, 0, 0, 0);
    for seed in from..to {
        let run = tokio::spawn(async move {
            let mut world = Box::pin(World::new(seed)).await;
            world.history().await;
            (world.p.deaths, world.again, world.void, world.on)
        });
        let found = match run.await {
            Ok(found) => found,
            Err(panic) => panic!("seed {seed}: {panic:?}"),
        };
        (deaths, again, void, on) = (deaths + found.0, again + found.1, void + found.2, on + found.3);
    }
    println!("{} seeds: {deaths} deaths, {on} goings on, {again} rows again, {void} parts void", to - from);
    if to - from > 40 {
        assert!(deaths > 10 && again > 10 && void > 3 && on > 3, "it proves too little");
    }
}
