//! Sets of GTIDs against plain sets of numbers.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

type Model = BTreeSet<(u8, u64)>;

fn source(n: u8) -> GtidSource {
    let tag = Tag::new(if n.is_multiple_of(2) { "" } else { "tag" }).unwrap();
    GtidSource { uuid: ServerUuid([n / 2; 16]), tag }
}

fn built(ranges: &[(u8, u64, u64)]) -> (GtidSet, Model) {
    let (mut set, mut model) = (GtidSet::new(), Model::new());
    for &(n, start, len) in ranges {
        set.insert_range(&source(n), GtidRange { start, end: start + len });
        model.extend((start..=start + len).map(|number| (n, number)));
    }
    (set, model)
}

fn numbers(set: &GtidSet) -> Model {
    let mut all = Model::new();
    for n in 0..4 {
        for (_, range) in set.ranges().filter(|(s, _)| **s == source(n)) {
            all.extend((range.start..=range.end).map(|number| (n, number)));
        }
    }
    all
}

fn ranges() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
    prop::collection::vec((0u8..4, 1u64..40, 0u64..6), 0..14)
}

proptest! {
    #[test]
    fn algebra_is_that_of_sets(a in ranges(), b in ranges()) {
        let ((a, model_a), (b, model_b)) = (built(&a), built(&b));
        prop_assert_eq!(numbers(&a), model_a.clone());
        prop_assert_eq!(a.count(), model_a.len() as u64);
        prop_assert_eq!(numbers(&a.union(&b)), model_a.union(&model_b).copied().collect::<Model>());
        prop_assert_eq!(numbers(&a.subtract(&b)), model_a.difference(&model_b).copied().collect::<Model>());
        prop_assert_eq!(numbers(&a.intersect(&b)), model_a.intersection(&model_b).copied().collect::<Model>());
        prop_assert_eq!(a.is_subset(&b), model_a.is_subset(&model_b));
        for n in 0..4 {
            for number in 1..50 {
                let gtid = Gtid { source: source(n), number };
                prop_assert_eq!(a.contains(&gtid), model_a.contains(&(n, number)));
            }
        }
        // One form for one set, whatever the order of its making.
        prop_assert_eq!(&a.union(&b), &b.union(&a));
        prop_assert_eq!(a.to_string().parse::<GtidSet>().unwrap(), a);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-f:,\\- tag_]{0,80}") {
        prop_assert!(text.parse::<GtidSet>().is_ok_and(|set| set.count() < u64::MAX) || text.parse::<GtidSet>().is_err());
    }
}

#[test]
fn gaps_stay_gaps() {
    let mut gapped = set(&format!("{A}:1-5:7-9"));
    assert_eq!(gapped.to_string(), format!("{A}:1-5:7-9"));
    assert!(!gapped.contains(&format!("{A}:6").parse().unwrap()));
    assert!(gapped.insert(&format!("{A}:6").parse().unwrap()));
    assert_eq!(gapped.to_string(), format!("{A}:1-9"));
}

#[test]
fn text_forms_of_the_server() {
    let shown = format!("{A}:1-3:11:47-49:mytag:1-2,\n{B}:7");
    assert_eq!(set(&shown).to_string(), shown.replace('\n', ""));
    assert_eq!(set(""), GtidSet::new());
    let upper = A.to_uppercase();
    assert_eq!(set(&format!("{upper}:1:MyTag:5 , {A}:2")).to_string(), format!("{A}:1-2:mytag:5"));
    let bad = [
        A.to_owned(),
        format!("{A}:"),
        format!("{A}:0"),
        format!("{A}:5-3"),
        format!("{A}:-3"),
        format!("{A}:1-"),
        format!("{A}:tag"),
        format!("{A}:1:tag"),
        format!("{A}:a-b:1"),
        format!("{A}:9223372036854775807"),
        format!("{}:1", &A[1..]),
        "1-2-3".to_owned(),
    ];
    for bad in bad {
        assert!(bad.parse::<GtidSet>().is_err(), "{bad:?} was taken");
    }
    let gtid: Gtid = format!("{A}:mytag:7").parse().unwrap();
    assert_eq!((gtid.source.tag.as_str(), gtid.number), ("mytag", 7));
    assert_eq!(gtid.to_string(), format!("{A}:mytag:7"));
}

#[test]
fn mariadb_positions() {
    let at: MariaGtidSet = "0-1-100, 2-7-5".parse().unwrap();
    assert_eq!(at.to_string(), "0-1-100,2-7-5");
    // The writer changed: the domain counts on.
    assert!(at.holds(MariaGtid { domain: 0, server_id: 9, number: 100 }));
    assert!(!at.holds(MariaGtid { domain: 0, server_id: 1, number: 101 }));
    assert!(!at.holds(MariaGtid { domain: 1, server_id: 1, number: 1 }));
    let other: MariaGtidSet = "0-2-90,1-1-1".parse().unwrap();
    assert_eq!(at.intersect(&other).to_string(), "0-2-90");
    assert_eq!(at.union(&other).to_string(), "0-1-100,1-1-1,2-7-5");
    assert!("0-1-90".parse::<MariaGtidSet>().unwrap().is_held_by(&at));
    assert!(!other.is_held_by(&at));
    for bad in ["0-1", "0-1-2-3", "a-1-2", "0-1-", "4294967296-1-1", "0-1-1,0-2-2", "-1-1-1"] {
        assert!(bad.parse::<MariaGtidSet>().is_err(), "{bad:?} was taken");
    }
}
