//! MariaDB's `inet4` and `inet6`, as the server writes them.

use super::super::reason::Reason;
use super::fixed;

/// Four bytes: `192.0.2.1`.
pub(super) fn inet4(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let address = padded::<4>(bytes)?;
    out.extend(core::net::Ipv4Addr::from(address).to_string().bytes());
    Ok(())
}

/// Sixteen bytes. The longest run of zero words, the first of equal ones, is left out, also when it is one word; and
/// addresses that hold one of IPv4 end as such.
pub(super) fn inet6(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let address = padded::<16>(bytes)?;
    let mut words = [0u16; 8];
    for (word, pair) in words.iter_mut().zip(address.as_chunks::<2>().0) {
        *word = u16::from_be_bytes(*pair);
    }
    let (mut gap, mut length, mut run) = (8, 0, 0);
    for (i, &word) in words.iter().enumerate() {
        run = if word == 0 { run + 1 } else { 0 };
        if run > length {
            (gap, length) = (i + 1 - run, run);
        }
    }
    let mapped = gap == 0 && (length == 6 || (length == 5 && words[5] == 0xFFFF));
    let mut i = 0;
    while i < 8 {
        if i == gap {
            out.extend_from_slice(if i == 0 { b"::" } else { b":" });
            i += length;
            continue;
        }
        if i == 6 && mapped {
            let [.., a, b, c, d] = address;
            return inet4(&[a, b, c, d], out);
        }
        let word = words.get(i).copied().unwrap_or_default();
        out.extend(format!("{word:x}").bytes());
        i += 1;
        if i < 8 {
            out.push(b':');
        }
    }
    Ok(())
}

/// Zeros at the end are not on the wire.
fn padded<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Reason> {
    let mut whole = [0; N];
    whole.get_mut(..bytes.len()).ok_or(Reason::Malformed)?.copy_from_slice(bytes);
    fixed(&whole)
}
