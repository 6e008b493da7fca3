//! Arbitrary tuples into builders of every kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline_fuzz::pgoutput::{OldRow, TupleData};
use strandline_fuzz::{KINDS, builder, examine};

fuzz_target!(|data: &[u8]| {
    let [flags, first, rest @ ..] = data else { return };
    let Ok(tuple) = TupleData::parse(rest) else { return };
    let kinds = KINDS.iter().cloned().cycle().skip(usize::from(*first) % KINDS.len()).take(tuple.len());
    let mut builder = builder(kinds, flags & 1 == 0);
    let _ = builder.push_insert(&tuple, 0, data.len());
    let mark = builder.mark();
    let _ = builder.push_update(None, &tuple, 1, data.len());
    let _ = builder.push_update(Some(&OldRow::Full(tuple)), &tuple, 2, data.len());
    let _ = builder.push_update(Some(&OldRow::Key(tuple)), &tuple, 3, data.len());
    if flags & 2 == 0 {
        builder.rollback_to(mark);
    }
    let _ = builder.push_delete(&OldRow::Key(tuple), 4, data.len());
    examine(&mut builder);
});
