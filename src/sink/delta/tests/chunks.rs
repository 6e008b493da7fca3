//! Copies that were interrupted, against a model: random histories with keys that move and large values that the log
//! does not repeat, chunks at random moments of it, the table opened again anywhere. At every commit each key is as
//! the source had it at the later of its chunk's position and the replay's; in the end the table is the source.
//!
//! A failure names its seed: `STRANDLINE_CHUNK_SEEDS=17 cargo test --lib chunks` runs it again.

use super::super::clean::{Retention, clean, would_clean};
use super::super::table::now_ms;
use super::*;
use crate::event::{ChunkKey, SnapshotPoint};
use crate::position::Marks;

const TRANSACTIONS: usize = 40;

/// The source: its rows after each transaction, and what each transaction changed.
struct History {
    rows: Vec<BTreeMap<i64, Row>>,
    changes: Vec<Vec<Change>>,
}

fn start(t: usize) -> u64 {
    t as u64 * 100
}

fn end(t: usize) -> CommitLsn {
    at(start(t) + 50)
}

/// The consistent point of a snapshot that holds everything up to transaction `t`.
fn point(t: usize) -> CommitLsn {
    at(start(t) + 60)
}

fn history(random: &mut Random) -> History {
    let mut now = BTreeMap::new();
    while now.len() < 60 {
        change(random, &mut now);
    }
    let (mut rows, mut changes) = (vec![now.clone()], vec![vec![]]);
    for _ in 0..TRANSACTIONS {
        let mut made = Vec::new();
        while made.len() < 1 + random.below(8) as usize {
            let before = now.clone();
            match change(random, &mut now) {
                // A copy across one begins again.
                Change::Truncate => now = before,
                change => made.push(change),
            }
        }
        rows.push(now.clone());
        changes.push(made);
    }
    History { rows, changes }
}

struct Plan {
    /// Where each chunk ends but the last, and after which transaction each was read.
    ends: Vec<i64>,
    moments: Vec<usize>,
}

impl Plan {
    fn random(random: &mut Random) -> Plan {
        let mut ends: Vec<i64> = (0..1 + random.below(4)).map(|_| random.below(300) as i64 - 50).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut moments: Vec<usize> =
            (0..=ends.len()).map(|_| random.below(TRANSACTIONS as u64 * 3 / 4) as usize).collect();
        moments.sort_unstable();
        Plan { ends, moments }
    }

    fn moment_of(&self, key: i64) -> usize {
        self.moments[self.ends.partition_point(|end| *end <= key)]
    }

    /// What the table holds once everything up to `t` is applied.
    fn expected(&self, history: &History, t: usize) -> BTreeMap<i64, Row> {
        let of = |key: i64| &history.rows[self.moment_of(key).max(t)];
        (-50..250).filter_map(|key| of(key).get(&key).map(|row| (key, row.clone()))).collect()
    }

    /// Whether a value in the transaction is in no chunk.
    fn is_incomplete(&self, history: &History, t: usize) -> bool {
        history.changes[t].iter().any(|change| match change {
            Change::Update(from, to, _, None) => {
                from != to && t > self.moment_of(*to) && t <= self.moment_of(*from)
            }
            _ => false,
        })
    }
}

fn copied(schema: &Arc<TableSchema>, rows: &BTreeMap<i64, Row>) -> ChangeBatch {
    let changes: Vec<_> = rows.iter().map(|(id, row)| Change::Insert(*id, row.clone())).collect();
    let batch = batch(schema, &changes);
    let ops = vec![Op::Read; batch.len()];
    ChangeBatch { ops, runs: vec![], ordinals: vec![], before: None, unchanged: vec![None; 3], ..batch }
}

fn parts(table: &DeltaTable, schema: &Arc<TableSchema>, rows: &BTreeMap<i64, Row>) -> Vec<CopyPart> {
    written(table, schema, rows).unwrap()
}

pub(super) fn written(
    table: &DeltaTable,
    schema: &Arc<TableSchema>,
    rows: &BTreeMap<i64, Row>,
) -> Result<Vec<CopyPart>> {
    let snapshot = SnapshotPoint { position: at(1), xid: None, time: None, is_first: true, is_last: true };
    let mut writer = table.copy_writer(&snapshot)?;
    writer.write(copied(schema, rows))?;
    Ok(vec![writer.finish()?])
}

type KeyOf = fn(i64) -> ChunkKey;

/// Chunk by chunk, each in a process of its own as often as not. `over`: what the table holds for its readers meanwhile.
async fn copy(
    lake: &Lake,
    schema: &Arc<TableSchema>,
    random: &mut Random,
    (history, plan): (&History, &Plan),
    (key, over): (KeyOf, Option<&BTreeMap<i64, Row>>),
) {
    let purpose = || match over {
        Some(_) => OpenFor::Replace,
        None => OpenFor::Continue(ChangePolicy::default()),
    };
    let (mut table, before) = lake.open_for(schema, purpose()).await;
    let mut chunks = Chunks::default();
    for (i, &moment) in plan.moments.iter().enumerate() {
        if random.below(2) == 0 {
            let (again, record) = lake.open_for(schema, purpose()).await;
            assert_eq!((&record.chunks, record.position), (&chunks, before.position));
            table = again;
        }
        if let Some(over) = over {
            assert_eq!(&content(&lake.files, &lake.ids).await, over, "readers keep what they had");
        }
        let from = i.checked_sub(1).map_or(i64::MIN, |i| plan.ends[i]);
        let below = plan.ends.get(i).copied();
        let rows = history.rows[moment].clone().into_iter();
        let rows = rows.filter(|(id, _)| *id >= from && below.is_none_or(|below| *id < below)).collect();
        let parts = parts(&table, schema, &rows);
        let is_first = chunks.is_empty();
        chunks.push(below.map(key), point(moment), rows.len() as u64);
        assert!(table.takes_chunks());
        table.commit_chunk(chunks.clone(), is_first, parts).await.unwrap();
    }
}

/// The table holds other rows, some of which the source has not, and readers use them.
async fn used(lake: &Lake, schema: &Arc<TableSchema>, random: &mut Random) -> BTreeMap<i64, Row> {
    let rows: BTreeMap<i64, Row> =
        (0..40).map(|_| (random.below(400) as i64 - 100, (Some("old".to_owned()), None))).collect();
    let (mut table, _) = lake.open(schema).await;
    let parts = parts(&table, schema, &rows);
    table.commit_copy(at(1), parts, Base::Copied).await.unwrap();
    rows
}

/// How it ended: whole, or to be copied again because of a value that is in no chunk.
async fn one(seed: u64) -> bool {
    let is_used = seed.is_multiple_of(2);
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut lake, schema) = (lake(), schema(&[0]));
    if seed.is_multiple_of(3) {
        let exact = crate::sink::write::WriteOptions {
            write: crate::sink::write::WriteMode::CopyOnWrite,
            ..Default::default()
        };
        lake.sink = lake.sink.with_choices(WriteChoices { default: exact, ..WriteChoices::default() });
    }
    let (history, plan) = (history(&mut random), Plan::random(&mut random));
    let over = if is_used { Some(used(&lake, &schema, &mut random).await) } else { None };
    copy(&lake, &schema, &mut random, (&history, &plan), (ChunkKey::Number, over.as_ref())).await;
    let (mut table, mut record) = lake.open(&schema).await;
    let (oldest, newest) = (plan.moments[0], *plan.moments.last().unwrap());
    let is_mixed = point(oldest) != point(newest);
    assert_eq!(record.position, Some(point(oldest)), "seed {seed}");
    assert_eq!(record.chunks.newest(), is_mixed.then(|| point(newest)), "seed {seed}");
    let (mut t, mut from) = (oldest, point(oldest));
    assert_eq!(content(&lake.files, &lake.ids).await, plan.expected(&history, t), "seed {seed}");
    while t < TRANSACTIONS {
        let unit: Vec<usize> = (t + 1..=TRANSACTIONS).take(1 + random.below(6) as usize).collect();
        for &t in &unit {
            let staged = table.stage(batch_at(&schema, &history.changes[t], start(t))).await;
            if plan.is_incomplete(&history, t) {
                let error = staged.unwrap_err();
                assert!(error.code().is_change(), "seed {seed}: {error:?}");
                return false;
            }
            staged.unwrap_or_else(|error| panic!("seed {seed}, transaction {t}: {error:?}"));
        }
        // A process that dies here has left nothing.
        if random.below(4) == 0 {
            (table, record) = lake.open(&schema).await;
            assert_eq!(record.position, Some(from), "seed {seed}");
            continue;
        }
        t = unit[unit.len() - 1];
        table.commit(Interval { from, to: end(t) }).await.unwrap();
        from = end(t);
        assert_eq!(content(&lake.files, &lake.ids).await, plan.expected(&history, t), "seed {seed}, {t}");
        let is_whole = !is_mixed || from >= point(newest);
        assert_eq!(table.core.state.copied.is_empty(), is_whole, "seed {seed}, {t}");
        assert_eq!(table.core.state.first_live_version.is_some(), is_whole, "seed {seed}, {t}");
    }
    assert_eq!(content(&lake.files, &lake.ids).await, history.rows[TRANSACTIONS]);
    true
}

/// The same where only the source compares keys: what a key is on the way nobody promises, and that it is not shown.
async fn one_by_the_source(seed: u64) -> bool {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (lake, schema) = (lake(), schema(&[0]));
    let (history, plan) = (history(&mut random), Plan::random(&mut random));
    let key = |n: i64| ChunkKey::Source { order: "id".into(), values: vec![n.to_string()] };
    copy(&lake, &schema, &mut random, (&history, &plan), (key, None)).await;
    let (mut table, _) = lake.open(&schema).await;
    let (oldest, newest) = (plan.moments[0], *plan.moments.last().unwrap());
    let (mut t, mut from) = (oldest, point(oldest));
    while t < TRANSACTIONS {
        let unit: Vec<usize> = (t + 1..=TRANSACTIONS).take(1 + random.below(6) as usize).collect();
        for &t in &unit {
            match table.stage(batch_at(&schema, &history.changes[t], start(t))).await {
                Ok(_) => {}
                Err(error) => {
                    assert!(error.code().is_change() && from < point(newest), "seed {seed}, {t}: {error:?}");
                    let lacks = |c: &Change| matches!(c, Change::Update(_, _, _, None));
                    assert!(history.changes[t].iter().any(lacks), "seed {seed}, {t}: {error:?}");
                    return false;
                }
            }
        }
        if random.below(4) == 0 {
            table = lake.open(&schema).await.0;
            continue;
        }
        t = unit[unit.len() - 1];
        table.commit(Interval { from, to: end(t) }).await.unwrap();
        from = end(t);
        let is_live = table.core.state.first_live_version.is_some();
        assert_eq!(is_live, oldest == newest || from >= point(newest), "seed {seed}, {t}");
        if is_live {
            assert_eq!(content(&lake.files, &lake.ids).await, history.rows[t], "seed {seed}, {t}");
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_copies_by_the_source_s_order_end_as_the_source() {
    let (mut whole, seeds) = (0, seeds(1..61));
    let all = seeds.end - seeds.start;
    for seed in seeds {
        whole += u64::from(Box::pin(one_by_the_source(seed)).await);
    }
    println!("{whole} of {all} became whole by the replay, the others are copied again");
    assert!(all < 30 || (whole >= all / 8 && whole < all), "too few of a kind: {whole} of {all}");
}

fn seeds(usual: std::ops::Range<u64>) -> std::ops::Range<u64> {
    match std::env::var("STRANDLINE_CHUNK_SEEDS") {
        Ok(text) => match text.split_once("..") {
            Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
            None => text.parse().unwrap()..text.parse::<u64>().unwrap() + 1,
        },
        Err(_) => usual,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_copies_end_as_the_source() {
    let seeds = seeds(1..61);
    let (mut whole, all) = (0, seeds.end - seeds.start);
    for seed in seeds {
        whole += u64::from(Box::pin(one(seed)).await);
    }
    println!("{whole} of {all} became whole by the replay, the others are copied again");
    assert!(all < 30 || (whole >= all / 4 && whole < all), "too few of a kind: {whole} of {all}");
}

/// What was copied is worth nothing once the source's table is another one.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_a_table_that_changed_are_forgotten() {
    let (lake, schema) = (lake(), schema(&[0]));
    let (mut table, _) = lake.open(&schema).await;
    let rows: BTreeMap<i64, Row> = [(1, (None, None)), (2, (None, None))].into();
    let mut chunks = Chunks::default();
    chunks.push(Some(ChunkKey::Number(5)), point(1), 2);
    let parts = parts(&table, &schema, &rows);
    table.commit_chunk(chunks.clone(), true, parts).await.unwrap();
    let (_, record) = lake.open(&schema).await;
    assert_eq!((record.position, &record.chunks), (None, &chunks));

    let mut rewritten = TableSchema::clone(&schema);
    rewritten.form.files = 9;
    let (mut table, record) = lake.open(&Arc::new(rewritten)).await;
    assert_eq!((record.position, record.chunks), (None, Chunks::default()));
    table.commit_copy(point(2), vec![], Base::Copied).await.unwrap();
    assert!(content(&lake.files, &lake.ids).await.is_empty(), "a new copy replaces them");
}

/// A copy ahead of a table is given up when the table goes on without it, when the source's table is another one, and when a
/// file of it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_ahead_is_forgotten_when_it_is_of_no_use() {
    let (lake, schema) = (lake(), schema(&[0]));
    let old = used(&lake, &schema, &mut Random(7)).await;
    let marks = Marks([("uuid/1".to_owned(), 17)].into());
    let ahead = async || {
        let (mut table, _) = lake.open_for(&schema, OpenFor::Replace).await;
        let mut chunks = Chunks::default();
        chunks.push(Some(ChunkKey::Number(5)), point(1), 2);
        let parts = parts(&table, &schema, &[(1, (None, None)), (2, (None, None))].into());
        table.mark(marks.clone());
        table.commit_chunk(chunks.clone(), true, parts).await.unwrap();
        chunks
    };
    let chunks = ahead().await;
    let (_, record) = lake.open_for(&schema, OpenFor::Replace).await;
    assert_eq!((record.chunks, &record.marks), (chunks, &marks));
    let mut rewritten = TableSchema::clone(&schema);
    rewritten.form.files = 9;
    let (_, record) = lake.open_for(&Arc::new(rewritten), OpenFor::Replace).await;
    assert_eq!(record.chunks, Chunks::default(), "the source's table was rewritten");

    let (mut table, record) = lake.open(&schema).await;
    assert_eq!(
        (record.position, record.chunks, record.marks),
        (Some(at(1)), Chunks::default(), Marks::default())
    );
    assert!(table.core.state.ahead.is_none());
    let new = batch_at(&schema, &[Change::Insert(9000, (None, None))], start(1));
    table.stage(new).await.unwrap();
    table.commit(Interval { from: at(1), to: end(1) }).await.unwrap();
    assert_eq!(content(&lake.files, &lake.ids).await.len(), old.len() + 1);
    assert_eq!(lake.open_for(&schema, OpenFor::Replace).await.1.chunks, Chunks::default(), "it went on");

    let mut chunks = ahead().await;
    let (mut table, _) = lake.open_for(&schema, OpenFor::Replace).await;
    let file = table.core.state.ahead.as_ref().unwrap().finished().next().unwrap().path;
    // Hours later a vacuum takes what nobody names, but for this.
    assert!(lake.sink.inspect(&schema.name).await.unwrap().is_copied);
    let since = table.core.ahead_since().unwrap();
    let (kept, later) = (Retention { files_ms: 0, log_ms: i64::MAX / 2 }, now_ms() + 10_000_000);
    let unneeded = async |since| would_clean(&lake.files, kept, later, since).await.unwrap().files;
    assert!(unneeded(i64::MAX).await > unneeded(since).await);
    clean(&lake.files, kept, later, since).await.unwrap();
    assert!(lake.files.list_data().await.unwrap().iter().any(|there| there.name == file));
    lake.files.delete(&file).await.unwrap();
    assert_eq!(lake.open_for(&schema, OpenFor::Replace).await.1.chunks, Chunks::default(), "a file is gone");

    ahead().await;
    (table, _) = lake.open_for(&schema, OpenFor::Replace).await;
    let last = parts(&table, &schema, &[(7, (None, None))].into());
    chunks.push(None, point(3), 1);
    table.mark(Marks([("uuid/1".to_owned(), 99)].into()));
    table.commit_chunk(chunks, false, last).await.unwrap();
    let (_, record) = lake.open(&schema).await;
    assert_eq!((record.position, record.marks), (Some(point(1)), marks), "of the oldest chunk");
    assert_eq!(content(&lake.files, &lake.ids).await.len(), 3);
}
