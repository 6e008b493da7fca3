//! Arbitrary bytes: errors, never a panic, and never a builder that contradicts itself.

use super::golden::all_messages;
use super::*;
use crate::pgoutput::{
    CopyDecoder, Infinity, Message, NumericUnbounded, ReplicationFrame, UnknownTypes, decode,
};
use proptest::prelude::*;

const POLICIES: [Policies; 2] = [
    Policies {
        numeric_unbounded: NumericUnbounded::Text,
        infinity: Infinity::Stop,
        unknown_types: UnknownTypes::Stop,
    },
    Policies {
        numeric_unbounded: NumericUnbounded::Double,
        infinity: Infinity::Null,
        unknown_types: UnknownTypes::Text,
    },
];

/// Plays whatever a message holds into a builder, then takes the batch.
fn play(builder: &mut BatchBuilder, message: &Message<'_>) {
    let rows = builder.rows();
    let added = match message {
        Message::Insert(row) => builder.push_insert(&row.new, 0, 1).is_ok(),
        Message::Update(row) => builder.push_update(row.old.as_ref(), &row.new, 0, 1).is_ok(),
        Message::Delete(row) => builder.push_delete(&row.old, 0, 1).is_ok(),
        Message::Truncate(_) => builder.push_truncate(0, 1).is_ok(),
        _ => false,
    };
    assert_eq!(builder.rows(), rows + usize::from(added));
}

/// A batch whose parts do not fit together would panic here, or fail Arrow's own full check.
fn examine(builder: &mut BatchBuilder) {
    let rows = builder.rows();
    if let Ok(batch) = builder.take(Some(txn(1))) {
        assert_eq!((batch.len(), batch.after.num_rows(), batch.ordinals.len()), (rows, rows, rows));
        for column in batch.after.columns() {
            column.to_data().validate_full().unwrap();
        }
        render(&batch);
    }
    assert!(builder.is_empty());
}

fn value() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..24),
        "[-+0-9.: eBCINaintfy\\\\x]{0,24}".prop_map(String::into_bytes),
        // A numeric: few groups, any head.
        (0u16..4, any::<i16>(), prop::sample::select(vec![0u16, 0x4000, 0xC000, 0xD000, 0xF000]), 0u16..60)
            .prop_flat_map(|(count, weight, sign, scale)| {
                prop::collection::vec(0u16..10_001, usize::from(count)).prop_map(move |groups| {
                    let head = [count, weight as u16, sign, scale];
                    head.into_iter().chain(groups).flat_map(u16::to_be_bytes).collect()
                })
            }),
    ];
    (prop::sample::select(b"nutb".to_vec()), content)
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), in_stream: bool) {
        let _ = decode(&bytes, in_stream);
        let _ = ReplicationFrame::decode(&bytes);
        let mut builder = builder(&table(EVERY_KIND, &[], false));
        let mut decoder = CopyDecoder::new();
        let _ = decoder.feed(&bytes, &mut builder);
        let _ = builder.take(None);
        if let Ok(tuple) = TupleData::parse(&bytes) {
            prop_assert_eq!(tuple.values().count(), tuple.len());
        }
    }

    #[test]
    fn any_values_of_every_kind(
        rows in prop::collection::vec(prop::collection::vec(value(), EVERY_KIND.len()), 1..6),
        policy in 0usize..2,
    ) {
        // Also one column at a time, because one bad value refuses its whole row.
        for columns in (0..EVERY_KIND.len()).map(|i| i..i + 1).chain(std::iter::once(0..EVERY_KIND.len())) {
            let schema = table(&EVERY_KIND[columns.clone()], &[], false);
            let mut builder = BatchBuilder::new(schema, POLICIES[policy]);
            for row in &rows {
                let values: Vec<_> = row[columns.clone()]
                    .iter()
                    .map(|(tag, content)| match tag {
                        b'n' => Value::Null,
                        b'u' => Value::Unchanged,
                        b't' => Value::Text(content),
                        _ => Value::Binary(content),
                    })
                    .collect();
                let bytes = tuple(&values);
                let tuple = TupleData::parse(&bytes).unwrap();
                let _ = builder.push_insert(&tuple, 0, 1);
                let _ = builder.push_update(None, &tuple, 1, 1);
                let _ = builder.push_update(Some(&OldRow::Full(tuple)), &tuple, 2, 1);
                let _ = builder.push_delete(&OldRow::Key(tuple), 3, 1);
            }
            examine(&mut builder);
        }
    }

    /// Real messages with a few bytes changed get further than arbitrary bytes do.
    #[test]
    fn damaged_messages(
        pick in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let messages = all_messages();
        let (mut bytes, in_stream) = messages[pick.index(messages.len())].clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len().min(400));
            bytes[at] = byte;
        }
        if let Ok(message) = decode(&bytes, in_stream) {
            let mut builder = builder(&table(
                &[("id", ColumnKind::Int8), ("note", ColumnKind::Text), ("big", ColumnKind::Text)],
                &[0],
                false,
            ));
            play(&mut builder, &message);
            examine(&mut builder);
        }
    }
}
