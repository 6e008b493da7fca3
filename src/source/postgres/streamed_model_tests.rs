//! Random sessions: what the server sends in blocks, the same whole, and what must come out.

use super::*;

/// Small and seeded (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A session of the source.
struct Session {
    xid: u32,
    /// Open subtransactions, each with how many changes came before it.
    stack: Vec<(u32, usize)>,
    /// All that have begun and are not rolled back, in order.
    subs: Vec<u32>,
    /// Changes that are not rolled back.
    changes: Vec<(u32, u32, Change)>,
    /// Not sent yet, from this change on.
    sent: usize,
    is_streamed: bool,
    streamed_subs: Vec<u32>,
    /// It has messages, or has been rolled back in part: never both, which nobody can tell apart in blocks.
    speaks: Option<bool>,
}

/// What the server sends in blocks, the same whole, and what must come out.
#[derive(Default)]
struct Script {
    blocks: Vec<Vec<u8>>,
    whole: Vec<Vec<u8>>,
    expected: BTreeMap<u32, Vec<String>>,
}

const TABLES: u32 = 4;

fn some_change(random: &mut Random) -> Change {
    let key = random.below(1000) as i32;
    match random.below(22) {
        20.. => Change::Message("m".repeat(random.below(300) as usize)),
        0 => Change::Truncate,
        1..4 => Change::Delete(key),
        4..8 => Change::Move(key, key + 1),
        _ => Change::Insert(key, "y".repeat(random.below(400) as usize)),
    }
}

fn in_words(change: &Change) -> String {
    match change {
        Change::Insert(id, note) => format!("insert {id} {}", short(note)),
        Change::Move(from, to) => format!("move {from} {to}"),
        Change::Delete(id) => format!("delete {id}"),
        Change::Truncate => "truncate".into(),
        Change::Bad => "bad".into(),
        Change::Message(content) => format!("message {}", short(content)),
    }
}

impl Session {
    fn new(xid: u32) -> Self {
        Session {
            xid,
            stack: Vec::new(),
            subs: Vec::new(),
            changes: Vec::new(),
            sent: 0,
            is_streamed: false,
            streamed_subs: Vec::new(),
            speaks: None,
        }
    }

    fn current(&self) -> u32 {
        self.stack.last().map_or(self.xid, |(xid, _)| *xid)
    }

    /// Everything that was not sent goes out as a block.
    fn send_block(&mut self, out: &mut Script) {
        out.blocks.push(stream_start(self.xid, !self.is_streamed));
        self.is_streamed = true;
        for table in 1..=TABLES {
            out.blocks.push(relation(Some(self.xid), table, &[ID, TEXT]));
        }
        for (sub, table, c) in &self.changes[self.sent..] {
            out.blocks.push(change(Some(*sub), *table, c));
            if !self.streamed_subs.contains(sub) {
                self.streamed_subs.push(*sub);
            }
        }
        self.sent = self.changes.len();
        out.blocks.push(stream_stop());
    }

    /// Rolls back to the state with `depth` open subtransactions.
    fn roll_back(&mut self, depth: usize, out: &mut Script) {
        if *self.speaks.get_or_insert(false) {
            return;
        }
        let Some(&(sub, keep)) = self.stack.get(depth) else { return };
        self.stack.truncate(depth);
        // It and all that began after it.
        let at = self.subs.iter().position(|xid| *xid == sub).expect("it has begun");
        let gone = self.subs.split_off(at);
        // Children first, as abort records list them; only those of which something was sent.
        for sub in gone.iter().rev().filter(|sub| self.streamed_subs.contains(sub)) {
            out.blocks.push(stream_abort(self.xid, *sub));
        }
        self.changes.truncate(keep);
        self.sent = self.sent.min(keep);
    }

    fn commit(mut self, start: u64, out: &mut Script) {
        if self.is_streamed {
            if self.sent < self.changes.len() {
                self.send_block(out);
            }
            out.blocks.push(stream_commit(self.xid, start));
        } else {
            self.send_whole(start, &mut out.blocks);
        }
        self.send_whole(start, &mut out.whole);
        for (ordinal, (_, table, change)) in self.changes.iter().enumerate() {
            let words = format!("{}/{ordinal}@{} {}", self.xid, Lsn::new(start), in_words(change));
            out.expected.entry(*table).or_default().push(words);
        }
    }

    fn send_whole(&self, start: u64, out: &mut Vec<Vec<u8>>) {
        out.push(begin(start, self.xid));
        for table in 1..=TABLES {
            out.push(relation(None, table, &[ID, TEXT]));
        }
        out.extend(self.changes.iter().map(|(_, table, c)| change(None, *table, c)));
        out.push(commit(start));
    }
}

fn script(seed: u64) -> Script {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = Script::default();
    let mut sessions: Vec<Session> = Vec::new();
    let (mut xid, mut lsn) = (100, 1000);
    let mut next_xid = || {
        xid += 1;
        xid
    };
    for _ in 0..random.below(400) {
        if sessions.is_empty() || (sessions.len() < 4 && random.chance(8)) {
            sessions.push(Session::new(next_xid()));
        }
        let at = random.below(sessions.len() as u64) as usize;
        let session = &mut sessions[at];
        match random.below(100) {
            0..60 => {
                for _ in 0..=random.below(6) {
                    let (sub, change) = (session.current(), some_change(&mut random));
                    let is_message = matches!(change, Change::Message(_));
                    if is_message && !*session.speaks.get_or_insert(true) {
                        continue;
                    }
                    // As the server sends it.
                    let sub = if is_message { session.xid } else { sub };
                    let table = if is_message { 0 } else { 1 + random.below(u64::from(TABLES)) as u32 };
                    session.changes.push((sub, table, change));
                }
            }
            60..68 => {
                let (sub, at) = (next_xid(), session.changes.len());
                session.stack.push((sub, at));
                session.subs.push(sub);
            }
            68..72 => {
                // Released: its changes are the outer one's, unless that is rolled back.
                session.stack.pop();
            }
            72..78 if !session.stack.is_empty() => {
                let depth = random.below(session.stack.len() as u64) as usize;
                session.roll_back(depth, &mut out);
            }
            78..92 => session.send_block(&mut out),
            92..96 => {
                lsn += 10;
                sessions.swap_remove(at).commit(lsn, &mut out);
            }
            96..98 => {
                let session = sessions.swap_remove(at);
                if session.is_streamed {
                    out.blocks.push(stream_abort(session.xid, session.xid));
                }
            }
            _ => out.blocks.push(keepalive(lsn + 9)),
        }
    }
    for session in sessions {
        lsn += 10;
        session.commit(lsn, &mut out);
    }
    out
}

/// Rows of table 4 are not ours: they count for ordinals only.
const OURS: [u32; 4] = [0, 1, 2, 3];

fn difference(found: &Outcome, wanted: &Outcome) -> Option<String> {
    for table in OURS {
        let rows = |o: &Outcome| o.rows.get(&table).cloned().unwrap_or_default();
        let (found, wanted) = (rows(found), rows(wanted));
        let at = (0..found.len().max(wanted.len())).find(|&i| found.get(i) != wanted.get(i));
        if let Some(at) = at {
            return Some(format!("table {table}, row {at}: {:?}, not {:?}", found.get(at), wanted.get(at)));
        }
    }
    (found != wanted).then(|| format!("{:?} {:?}", found.witnesses, wanted.witnesses))
}

#[test]
fn in_blocks_as_whole_as_expected() {
    let seeds = std::env::var("SEEDS").map_or(400, |n| n.parse().expect("SEEDS is a number"));
    let (mut rows, mut spilled) = (0, 0);
    for seed in 1..=seeds {
        let Script { blocks, whole, mut expected } = script(seed);
        expected.remove(&TABLES);
        rows += expected.values().map(Vec::len).sum::<usize>();
        let dir = tempfile::tempdir().unwrap();
        let tiny = Spill { memory: 3000, slice: 700, dir: dir.path().into() };
        let plain = play(&mut assembler(&OURS, memory()), &whole).unwrap();
        assert_eq!(plain.rows, expected, "seed {seed}: whole");
        let found = play(&mut assembler(&OURS, memory()), &blocks).unwrap();
        assert_eq!(difference(&found, &plain), None, "seed {seed}: in blocks");
        let mut a = assembler(&OURS, tiny);
        let found = play(&mut a, &blocks).unwrap();
        assert_eq!(difference(&found, &plain), None, "seed {seed}: through the disk");
        spilled += a.spilled_bytes();
    }
    assert!(rows > 100 * seeds as usize && spilled > 10_000 * seeds, "{rows} rows, {spilled} bytes");
}
