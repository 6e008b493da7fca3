//! Spatial values: stored as a number of the reference system and WKB; they travel as EWKB, as PostGIS writes it.

use super::super::reason::Reason;

/// The bit of EWKB's type that says that a reference system follows.
const HAS_SRID: u32 = 0x2000_0000;

/// Four bytes of the reference system and WKB, into EWKB. Without a reference system (zero) the WKB as it is.
///
/// Only the outermost geometry names its reference system, in EWKB too.
pub(super) fn to_ewkb(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let (srid, wkb) = bytes.split_first_chunk::<4>().ok_or(Reason::Malformed)?;
    // The server keeps little-endian WKB: byte order 1.
    let (&[1, a, b, c, d], rest) = wkb.split_first_chunk::<5>().ok_or(Reason::Malformed)? else {
        return Err(Reason::Malformed);
    };
    let kind = u32::from_le_bytes([a, b, c, d]);
    if !(1..=7).contains(&kind) {
        return Err(Reason::Malformed);
    }
    if *srid == [0; 4] {
        out.extend_from_slice(wkb);
        return Ok(());
    }
    out.push(1);
    out.extend((kind | HAS_SRID).to_le_bytes());
    out.extend(srid);
    out.extend_from_slice(rest);
    Ok(())
}
