//! Every character set of MySQL and MariaDB, to UTF-8, exactly as the servers convert it.
//!
//! A column's collation has a number; it says which character set the column's bytes are in. Bytes that the character
//! set does not define are an error: the servers write `?` for them, which is another value. The tests compare every
//! byte sequence of every set with what running servers say.

mod differ;
mod multi;
mod single;

use super::reason::Reason;

/// The collation `binary`: bytes, no text.
pub const BINARY: u16 = 63;

/// A character set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Charset {
    /// `binary`: no text.
    Binary,
    /// `utf8mb4`.
    Utf8mb4,
    /// `utf8mb3`.
    Utf8mb3,
    /// `ascii`.
    Ascii,
    /// `ucs2`.
    Ucs2,
    /// `utf16`, big-endian.
    Utf16,
    /// `utf16le`.
    Utf16Le,
    /// `utf32`, big-endian.
    Utf32,
    /// `swe7`.
    Swe7,
    /// One byte a character: what the bytes from 0x80 on are.
    Single(Single),
    /// One or more bytes a character, of East Asia.
    Multi(Multi),
}

macro_rules! singles {
    ($($name:ident $table:ident)*) => {
        /// Character sets of one byte a character.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[expect(missing_docs, reason = "named as the server names them")]
        pub enum Single { $($name),* }

        impl Single {
            fn table(self) -> &'static [u16; 128] {
                match self { $(Single::$name => &single::$table),* }
            }
        }
    };
}

singles! {
    Latin1 LATIN1 Latin2 LATIN2 Dec8 DEC8 Cp850 CP850 Hp8 HP8 Koi8r KOI8R Cp1251 CP1251 Hebrew HEBREW Tis620 TIS620
    Latin7 LATIN7 Koi8u KOI8U Greek GREEK Cp1250 CP1250 Cp1257 CP1257 Latin5 LATIN5 Armscii8 ARMSCII8 Cp866 CP866
    Keybcs2 KEYBCS2 Macce MACCE Macroman MACROMAN Cp852 CP852 Cp1256 CP1256 Geostd8 GEOSTD8
}

/// Character sets of East Asia.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[expect(missing_docs, reason = "named as the server names them")]
pub enum Multi {
    Big5,
    Sjis,
    Cp932,
    Ujis,
    Eucjpms,
    Euckr,
    Gb2312,
    Gbk,
    Gb18030,
}

impl Charset {
    /// The character set of a collation. `None`: a number that we do not know.
    pub fn of_collation(collation: u16) -> Option<Self> {
        // MariaDB's collations that do not pad are 1024 further.
        let padded = match collation {
            1025..=1270 => collation - 1024,
            other => other,
        };
        Some(match padded {
            63 => Charset::Binary,
            33 | 76 | 83 | 192..=215 | 223 | 576..=579 | 2048..=2303 => Charset::Utf8mb3,
            45 | 46 | 224..=247 | 255..=323 | 608..=611 | 2304..=2559 => Charset::Utf8mb4,
            11 | 65 => Charset::Ascii,
            35 | 90 | 128..=151 | 159 | 640..=642 | 2560..=2815 => Charset::Ucs2,
            54 | 55 | 101..=124 | 672..=674 | 2816..=3071 => Charset::Utf16,
            56 | 62 => Charset::Utf16Le,
            60 | 61 | 160..=183 | 736..=738 | 3072..=3327 => Charset::Utf32,
            10 | 82 => Charset::Swe7,
            1 | 84 => Charset::Multi(Multi::Big5),
            12 | 91 => Charset::Multi(Multi::Ujis),
            13 | 88 => Charset::Multi(Multi::Sjis),
            19 | 85 => Charset::Multi(Multi::Euckr),
            24 | 86 => Charset::Multi(Multi::Gb2312),
            28 | 87 => Charset::Multi(Multi::Gbk),
            95 | 96 => Charset::Multi(Multi::Cp932),
            97 | 98 => Charset::Multi(Multi::Eucjpms),
            248..=250 => Charset::Multi(Multi::Gb18030),
            other => Charset::Single(single_of(other)?),
        })
    }

    /// Bytes of its widest character: what a column's length in bytes is divided by.
    pub fn widest(self) -> u8 {
        match self {
            Charset::Binary | Charset::Ascii | Charset::Swe7 | Charset::Single(_) => 1,
            Charset::Utf8mb4 | Charset::Utf16 | Charset::Utf16Le | Charset::Utf32 => 4,
            Charset::Utf8mb3 => 3,
            Charset::Ucs2 => 2,
            Charset::Multi(Multi::Ujis | Multi::Eucjpms) => 3,
            Charset::Multi(Multi::Gb18030) => 4,
            Charset::Multi(_) => 2,
        }
    }

    /// Whether its bytes are UTF-8 as they are. That they really are is checked by whoever takes them.
    pub fn is_utf8(self) -> bool {
        matches!(self, Charset::Utf8mb4 | Charset::Utf8mb3)
    }

    /// Appends the text as UTF-8. Bytes of the `utf8` sets are appended as they are.
    ///
    /// # Errors
    /// Bytes that the character set does not define.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        let ascii_first = matches!(self, Charset::Ascii | Charset::Single(_) | Charset::Multi(_));
        if self.is_utf8() || (ascii_first && bytes.is_ascii()) {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        match self {
            Charset::Utf8mb4 | Charset::Utf8mb3 => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Charset::Binary | Charset::Ascii => Err(Reason::NotText),
            Charset::Ucs2 => wide(bytes, out, |[a, b]| char::from_u32(u32::from(u16::from_be_bytes([a, b])))),
            Charset::Utf32 => wide(bytes, out, |unit: [u8; 4]| char::from_u32(u32::from_be_bytes(unit))),
            Charset::Utf16 => utf16(bytes, out, u16::from_be_bytes),
            Charset::Utf16Le => utf16(bytes, out, u16::from_le_bytes),
            Charset::Swe7 => {
                for &byte in bytes {
                    let letter = single::SWE7.iter().find(|(own, _)| *own == byte).map(|(_, letter)| *letter);
                    let letter = letter.or_else(|| (byte < 0x7F).then(|| char::from(byte)));
                    push(out, letter.ok_or(Reason::NotText)?);
                }
                Ok(())
            }
            Charset::Single(set) => {
                let table = set.table();
                for &byte in bytes {
                    if byte < 0x80 {
                        out.push(byte);
                        continue;
                    }
                    match table.get(usize::from(byte & 0x7F)) {
                        Some(&unit) if unit != 0 => {
                            push(out, char::from_u32(unit.into()).ok_or(Reason::NotText)?);
                        }
                        _ => return Err(Reason::NotText),
                    }
                }
                Ok(())
            }
            Charset::Multi(set) => multi::decode(set, bytes, out),
        }
    }

    /// The text. `None`: bytes that the character set does not define.
    pub fn to_text(self, bytes: &[u8]) -> Option<String> {
        let mut out = Vec::with_capacity(bytes.len());
        self.decode(bytes, &mut out).ok()?;
        String::from_utf8(out).ok()
    }
}

fn single_of(collation: u16) -> Option<Single> {
    Some(match collation {
        5 | 8 | 15 | 31 | 47..=49 | 94 => Single::Latin1,
        2 | 9 | 21 | 27 | 77 => Single::Latin2,
        3 | 69 => Single::Dec8,
        4 | 80 => Single::Cp850,
        6 | 72 => Single::Hp8,
        7 | 74 => Single::Koi8r,
        14 | 23 | 50..=52 => Single::Cp1251,
        16 | 71 => Single::Hebrew,
        18 | 89 => Single::Tis620,
        20 | 41 | 42 | 79 => Single::Latin7,
        22 | 75 => Single::Koi8u,
        25 | 70 => Single::Greek,
        26 | 34 | 44 | 66 | 99 => Single::Cp1250,
        29 | 58 | 59 => Single::Cp1257,
        30 | 78 => Single::Latin5,
        32 | 64 => Single::Armscii8,
        36 | 68 => Single::Cp866,
        37 | 73 => Single::Keybcs2,
        38 | 43 => Single::Macce,
        39 | 53 => Single::Macroman,
        40 | 81 => Single::Cp852,
        57 | 67 => Single::Cp1256,
        92 | 93 => Single::Geostd8,
        _ => return None,
    })
}

#[inline]
fn push(out: &mut Vec<u8>, letter: char) {
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

fn wide<const N: usize>(
    bytes: &[u8],
    out: &mut Vec<u8>,
    letter: impl Fn([u8; N]) -> Option<char>,
) -> Result<(), Reason> {
    let (units, rest) = bytes.as_chunks::<N>();
    for &unit in units {
        push(out, letter(unit).ok_or(Reason::NotText)?);
    }
    if rest.is_empty() { Ok(()) } else { Err(Reason::NotText) }
}

fn utf16(bytes: &[u8], out: &mut Vec<u8>, unit: fn([u8; 2]) -> u16) -> Result<(), Reason> {
    let (units, rest) = bytes.as_chunks::<2>();
    for letter in char::decode_utf16(units.iter().map(|&bytes| unit(bytes))) {
        push(out, letter.map_err(|_| Reason::NotText)?);
    }
    if rest.is_empty() { Ok(()) } else { Err(Reason::NotText) }
}
