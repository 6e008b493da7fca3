//! Arbitrary COPY streams, whole and cut: the same rows, the same error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline_fuzz::pgoutput::{CopyDecoder, CopyError};
use strandline_fuzz::{KINDS, builder};

fuzz_target!(|data: &[u8]| {
    let [columns, chunk, tail @ ..] = data else { return };
    let kinds = || KINDS.iter().cloned().take(usize::from(*columns) % (KINDS.len() + 1));
    let stream = [b"PGCOPY\n\xFF\r\n\0\0\0\0\0", tail].concat();
    let run = |size: usize| {
        let mut builder = builder(kinds(), false);
        let mut decoder = CopyDecoder::new();
        let fed = stream.chunks(size).try_for_each(|piece| decoder.feed(piece, &mut builder));
        let outcome = fed.and_then(|()| decoder.finish());
        let rows = builder.rows();
        (outcome, rows, builder.take(None).map(|batch| batch.after))
    };
    let (whole, cut) = (run(stream.len()), run(usize::from(*chunk).max(1)));
    assert_eq!((whole.1, &whole.2), (cut.1, &cut.2));
    match (whole.0, cut.0) {
        // How many bytes are too many depends on how many came together.
        (Err(CopyError::Format(a)), Err(CopyError::Format(b))) => {
            assert_eq!((a.field, a.offset), (b.field, b.offset));
        }
        (a, b) => assert_eq!(a, b),
    }
});
