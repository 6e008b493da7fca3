//! Network addresses as PostgreSQL writes them.

use super::{Bytes, HEX, number};
use crate::pgoutput::reason::Reason;

/// The families' numbers in the binary form.
const IPV4: u8 = 2;
const IPV6: u8 = 3;

/// Family, bits of the net, whether it is a `cidr`, length, address. The bits are written where they are not
/// all, and always for a `cidr`.
pub(super) fn address(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let [family, bits, cidr, len] = bytes.array()?;
    let all = match (family, len) {
        (IPV4, 4) => {
            let [a, b, c, d] = bytes.array()?;
            number(out, format_args!("{a}.{b}.{c}.{d}"));
            32
        }
        (IPV6, 16) => {
            ipv6(bytes.array()?, out);
            128
        }
        _ => return Err(Reason::Malformed),
    };
    bytes.end()?;
    if bits > all || cidr > 1 {
        return Err(Reason::Malformed);
    }
    if bits != all || cidr == 1 {
        number(out, format_args!("/{bits}"));
    }
    Ok(())
}

/// The longest run of zero words, of two at least, becomes `::`; an IPv4 address within is written as one.
fn ipv6(bytes: [u8; 16], out: &mut Vec<u8>) {
    let mut words = [0u16; 8];
    for (word, pair) in words.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *word = u16::from_be_bytes(*pair);
    }
    let (base, len) = longest_zeros(&words);
    let within = |i: usize| i >= base && i < base + len;
    for (i, word) in words.iter().enumerate() {
        if within(i) {
            if i == base {
                out.push(b':');
            }
            continue;
        }
        if i != 0 {
            out.push(b':');
        }
        if i == 6 && base == 0 && (len == 6 || len == 5 && words[5] == 0xFFFF) {
            let [.., a, b, c, d] = bytes;
            number(out, format_args!("{a}.{b}.{c}.{d}"));
            return;
        }
        number(out, format_args!("{word:x}"));
    }
    if len > 0 && base + len == words.len() {
        out.push(b':');
    }
}

/// Where it begins, and its length: zero when there is none of two words.
fn longest_zeros(words: &[u16; 8]) -> (usize, usize) {
    let mut best = (8, 0);
    let mut run = 0;
    for (i, &word) in words.iter().enumerate() {
        run = if word == 0 { run + 1 } else { 0 };
        if run > 1 && run > best.1 {
            best = (i + 1 - run, run);
        }
    }
    best
}

/// `08:00:2b:01:02:03`
pub(super) fn hardware<const N: usize>(bytes: [u8; N], out: &mut Vec<u8>) {
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 {
            out.push(b':');
        }
        out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}
