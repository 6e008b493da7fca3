//! Arbitrary numerics: the two ways to a decimal (from binary, and from the text of the binary) agree.
#![no_main]

use arrow::array::AsArray;
use arrow::datatypes::{Decimal128Type, Float64Type};
use libfuzzer_sys::fuzz_target;
use strandline_fuzz::builder;
use strandline_fuzz::event::Txn;
use strandline_fuzz::pgoutput::{Reason, TupleData};
use strandline_fuzz::position::{CommitLsn, Lsn};
use strandline_fuzz::schema::ColumnKind;

/// The only value of a column of `kind`, as words.
fn decode(kind: &ColumnKind, tag: u8, content: &[u8]) -> Result<String, Reason> {
    let mut bytes = vec![0, 1, tag];
    bytes.extend(u32::try_from(content.len()).expect("a short input").to_be_bytes());
    bytes.extend(content);
    let mut builder = builder([kind.clone()].into_iter(), true);
    let tuple = TupleData::parse(&bytes).expect("a tuple");
    builder.push_insert(&tuple, 0, 0).map_err(|error| error.reason)?;
    let txn = Txn { commit_start: Lsn::new(1), xid: 1, commit_time: 0, after: CommitLsn::ZERO };
    let batch = builder.take(Some(txn)).map_err(|error| error.reason)?;
    let column = batch.after.column(0);
    Ok(match kind {
        ColumnKind::Decimal { .. } => column.as_primitive::<Decimal128Type>().value(0).to_string(),
        ColumnKind::NumericDouble => column.as_primitive::<Float64Type>().value(0).to_bits().to_string(),
        _ => column.as_string::<i32>().value(0).to_owned(),
    })
}

fuzz_target!(|data: &[u8]| {
    let [precision, scale, content @ ..] = data else { return };
    let precision = precision % 38 + 1;
    let scale = (scale % (precision + 1)).cast_signed();
    let decimal = ColumnKind::Decimal { precision, scale };
    let from_binary = decode(&decimal, b'b', content);
    let _ = decode(&decimal, b't', content);
    // A value whose display scale hides digits has no text; one that has a text has one meaning.
    if let Ok(text) = decode(&ColumnKind::NumericText, b'b', content) {
        assert_eq!(decode(&ColumnKind::NumericText, b't', text.as_bytes()), Ok(text.clone()));
        assert_eq!(from_binary, decode(&decimal, b't', text.as_bytes()));
        let double = decode(&ColumnKind::NumericDouble, b't', text.as_bytes());
        assert_eq!(decode(&ColumnKind::NumericDouble, b'b', content), double);
    }
});
