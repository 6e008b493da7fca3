//! Decimal numbers as Connect wants them: an unscaled whole number in two's complement, the highest byte first.

/// Of a number of 128 bits: as many bytes as it needs.
pub(super) fn unscaled(value: i128, buffer: &mut [u8; 16]) -> &[u8] {
    *buffer = value.to_be_bytes();
    let fill = if value < 0 { 0xFF } else { 0 };
    let mut start = 0;
    while start < 15
        && buffer.get(start) == Some(&fill)
        && buffer.get(start + 1).is_some_and(|next| next & 0x80 == fill & 0x80)
    {
        start += 1;
    }
    buffer.get(start..).unwrap_or_default()
}

/// A decimal number of any length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Decimal {
    pub(super) is_negative: bool,
    /// ASCII digits without leading zeros; empty for zero.
    pub(super) digits: Vec<u8>,
    /// How many of them stand behind the point.
    pub(super) scale: i32,
}

impl Decimal {
    /// From PostgreSQL's text; `None` for `NaN` and the infinities.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if rest.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
        digits.drain(..zeros);
        Some(Decimal { is_negative, digits, scale: i32::try_from(fraction.len()).ok()? })
    }

    /// From an unscaled number.
    pub(super) fn of(value: i128, scale: i32) -> Self {
        let digits = if value == 0 { Vec::new() } else { value.unsigned_abs().to_string().into_bytes() };
        Decimal { is_negative: value < 0, digits, scale }
    }

    /// Without zeros at its end, and without a negative scale.
    pub(super) fn stripped(mut self) -> Self {
        while self.scale > 0 && self.digits.last().is_none_or(|&digit| digit == b'0') {
            self.digits.pop();
            self.scale -= 1;
        }
        self
    }

    /// With this scale exactly; `None` when digits would be lost.
    pub(super) fn scaled(mut self, scale: i32) -> Option<Self> {
        while self.scale < scale {
            if !self.digits.is_empty() {
                self.digits.push(b'0');
            }
            self.scale += 1;
        }
        while self.scale > scale {
            if self.digits.pop().is_some_and(|digit| digit != b'0') {
                return None;
            }
            self.scale -= 1;
        }
        Some(self)
    }

    /// The unscaled number's bytes.
    pub(super) fn unscaled(&self) -> Vec<u8> {
        let mut bytes = magnitude(&self.digits);
        if bytes.first().is_none_or(|first| first & 0x80 != 0) {
            bytes.insert(0, 0);
        }
        if self.is_negative {
            negate(&mut bytes);
        }
        // A power of two, negated, needs no byte for the sign.
        while bytes.len() > 1
            && matches!((bytes.first(), bytes.get(1)), (Some(0xFF), Some(next)) if next & 0x80 != 0)
        {
            bytes.remove(0);
        }
        bytes
    }

    /// `-0.10`, all digits, no exponent.
    pub(super) fn plain(&self) -> String {
        let mut digits = self.digits.clone();
        if self.scale < 0 {
            if !digits.is_empty() {
                digits.resize(digits.len() + self.scale.unsigned_abs() as usize, b'0');
            }
        } else {
            let behind = self.scale.unsigned_abs() as usize;
            let missing = (behind + 1).saturating_sub(digits.len());
            digits.splice(0..0, std::iter::repeat_n(b'0', missing));
            if behind > 0 {
                digits.insert(digits.len() - behind, b'.');
            }
        }
        if digits.is_empty() {
            digits.push(b'0');
        }
        let sign = if self.is_negative { "-" } else { "" };
        format!("{sign}{}", String::from_utf8_lossy(&digits))
    }

    /// As `BigDecimal.toString` prints it: with an exponent when the scale is negative or far out.
    pub(super) fn java(&self) -> String {
        let count = i32::try_from(self.digits.len().max(1)).unwrap_or(i32::MAX);
        let exponent = count - 1 - self.scale;
        if self.scale >= 0 && exponent >= -6 {
            return self.plain();
        }
        let digits = if self.digits.is_empty() { &b"0"[..] } else { &self.digits };
        let (first, rest) = digits.split_at(1);
        let mut text = String::from(if self.is_negative { "-" } else { "" });
        text.push_str(&String::from_utf8_lossy(first));
        if !rest.is_empty() {
            text.push('.');
            text.push_str(&String::from_utf8_lossy(rest));
        }
        if exponent != 0 {
            text.push_str(&format!("E{exponent:+}"));
        }
        text
    }
}

/// The highest byte first, no leading zeros.
fn magnitude(digits: &[u8]) -> Vec<u8> {
    const CHUNK: usize = 9;
    // The lowest limb first.
    let mut limbs: Vec<u32> = Vec::new();
    let mut first = digits.len() % CHUNK;
    if first == 0 {
        first = CHUNK.min(digits.len());
    }
    let (head, tail) = digits.split_at(first);
    for chunk in std::iter::once(head).chain(tail.chunks(CHUNK)) {
        let mut carry = chunk.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
        let factor = 10u64.pow(u32::try_from(chunk.len()).unwrap_or(0));
        for limb in &mut limbs {
            let product = u64::from(*limb) * factor + carry;
            *limb = (product & 0xFFFF_FFFF).try_into().unwrap_or(0);
            carry = product >> 32;
        }
        if carry > 0 {
            limbs.push(carry.try_into().unwrap_or(0));
        }
    }
    let bytes: Vec<u8> = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes.get(zeros..).unwrap_or_default().to_vec()
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        let (next, over) = (!*byte).overflowing_add(u8::from(carry));
        (*byte, carry) = (next, over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn coded(text: &str, scale: i32) -> String {
        STANDARD.encode(Decimal::parse(text).unwrap().scaled(scale).unwrap().unscaled())
    }

    #[test]
    fn golden_vectors() {
        let known = [
            ("1.10", 2, "bg=="),
            ("10", 0, "Cg=="),
            ("0", 0, "AA=="),
            ("-1", 0, "/w=="),
            ("128", 0, "AIA="),
            ("-128", 0, "gA=="),
            ("22.22", 4, "A2P4"),
            ("22.2222", 4, "A2QO"),
            ("3.30", 2, "AUo="),
            ("10.1111", 4, "AYr3"),
            ("1234.11", 2, "AeIT"),
            ("-1234.11", 2, "/h3t"),
            ("99999999.99", 2, "AlQL4/8="),
        ];
        for (text, scale, expected) in known {
            assert_eq!(coded(text, scale), expected, "{text}");
        }
        assert_eq!(Decimal::parse("NaN"), None);
        assert_eq!(Decimal::parse("1.15").unwrap().scaled(1), None, "a digit would be lost");
        assert_eq!(Decimal::parse("1.10").unwrap().stripped(), Decimal::parse("1.1").unwrap());
        assert_eq!(Decimal::of(-5, 3).plain(), "-0.005");
        assert_eq!(Decimal::of(1, 18).java(), "1E-18");
        assert_eq!(Decimal::of(-5000, 4).java(), "-0.5000");
    }

    proptest! {
        #[test]
        fn both_ways_agree(value: i128) {
            let mut buffer = [0; 16];
            let expected = unscaled(value, &mut buffer).to_vec();
            prop_assert_eq!(Decimal::of(value, 0).unscaled(), expected);
            let text = Decimal::of(value, 7).plain();
            prop_assert_eq!(Decimal::parse(&text).unwrap(), Decimal::of(value, 7));
        }
    }
}
