//! Arbitrary bytes as a pgoutput message and as a replication frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline_fuzz::pgoutput::{Message, ReplicationFrame, decode};

fuzz_target!(|data: &[u8]| {
    for in_stream in [false, true] {
        match decode(data, in_stream) {
            Ok(Message::Insert(insert)) => assert_eq!(insert.new.values().count(), insert.new.len()),
            Ok(_) => {}
            Err(error) => assert!(error.offset <= data.len()),
        }
    }
    if let Ok(ReplicationFrame::XLogData(frame)) = ReplicationFrame::decode(data) {
        assert!(frame.data.len() <= data.len());
    }
});
