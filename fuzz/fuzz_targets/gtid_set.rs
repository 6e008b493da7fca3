//! Sets of GTIDs as text and as bytes: what is read is written the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline_fuzz::binlog::{decode_gtid_set, encode_gtid_set};
use strandline_fuzz::position::gtid::{GtidSet, MariaGtidSet};

fuzz_target!(|data: &[u8]| {
    if let Ok(set) = decode_gtid_set(data) {
        assert_eq!(decode_gtid_set(&encode_gtid_set(&set)).as_ref(), Ok(&set));
        assert_eq!(set.to_string().parse::<GtidSet>().as_ref(), Ok(&set));
        assert!(set.subtract(&set).is_empty() && set.is_subset(&set));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(set) = text.parse::<GtidSet>() {
        assert_eq!(set.to_string().parse::<GtidSet>().as_ref(), Ok(&set));
    }
    if let Ok(set) = text.parse::<MariaGtidSet>() {
        assert_eq!(set.to_string().parse::<MariaGtidSet>().as_ref(), Ok(&set));
    }
});
