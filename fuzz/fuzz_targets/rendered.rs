//! Arbitrary bytes as a value of every type that becomes text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline_fuzz::pgoutput::TupleData;
use strandline_fuzz::schema::ColumnKind;
use strandline_fuzz::{builder, examine, shapes};

fuzz_target!(|data: &[u8]| {
    let [pick, content @ ..] = data else { return };
    let shapes = shapes();
    let shape = shapes[usize::from(*pick) % shapes.len()].clone();
    let mut bytes = vec![0, 1, b'b'];
    bytes.extend(u32::try_from(content.len()).expect("a short input").to_be_bytes());
    bytes.extend(content);
    let tuple = TupleData::parse(&bytes).expect("a tuple");
    let mut builder = builder([ColumnKind::Rendered(shape)].into_iter(), true);
    let _ = builder.push_insert(&tuple, 0, data.len());
    examine(&mut builder);
});
