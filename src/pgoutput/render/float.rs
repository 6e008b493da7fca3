//! Floating-point numbers as PostgreSQL writes them with `extra_float_digits` above zero.
//!
//! The server uses Ryu with one change: a decimal that lies exactly between two numbers does not stand for the
//! even one. 10^23 is such a decimal, and what Rust writes as `1e23` PostgreSQL writes as `9.999999999999999e+22`.
//! So the standard library's shortest digits are taken, and where they are such a decimal, or where several are
//! as short, the digits are found again by exact rounding.

use std::io::Write;

/// The most digits that a number needs: 17 for 64 bits, 9 for 32.
const MAX_DIGITS: usize = 17;

/// A decimal: `d1.d2d3… * 10^exponent`.
struct Decimal {
    digits: [u8; MAX_DIGITS],
    len: usize,
    /// Of the first digit.
    exponent: i32,
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, digit) in self.digits().iter().enumerate() {
            write!(f, "{}{digit}", if i == 1 { "." } else { "" })?;
        }
        write!(f, "e{}", self.exponent)
    }
}

impl Decimal {
    fn digits(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }
}

/// What the two widths differ in.
struct Width {
    /// Digits that every decimal keeps through this width.
    safe: usize,
    /// Digits that every number needs at most.
    most: usize,
    /// From this exponent on the scientific notation is used.
    scientific: i32,
}

const SINGLE: Width = Width { safe: 6, most: 9, scientific: 6 };
const DOUBLE: Width = Width { safe: 15, most: 17, scientific: 15 };

/// As `float8out`.
pub(super) fn double(value: f64, out: &mut Vec<u8>) {
    if special(value, out) {
        return;
    }
    let value = value.abs();
    let bits = value.to_bits();
    let (mantissa, exponent) = match (bits >> 52, bits & ((1 << 52) - 1)) {
        (0, fraction) => (fraction, -1074),
        (biased, fraction) => (fraction | 1 << 52, i32::try_from(biased).unwrap_or(0) - 1075),
    };
    let shortest = spelled(format_args!("{value:e}"));
    let round = |digits: usize| spelled(format_args!("{:.*e}", digits - 1, value));
    // Only a power of two has its neighbours at two distances.
    let power = bits & ((1 << 52) - 1) == 0;
    let same = |decimal: &Decimal| decimal.to_string().parse() == Ok(value);
    write(&choose(shortest, &DOUBLE, (mantissa, exponent, power), &round, &same), &DOUBLE, out);
}

/// As `float4out`.
pub(super) fn single(value: f32, out: &mut Vec<u8>) {
    if special(value.into(), out) {
        return;
    }
    let value = value.abs();
    let bits = value.to_bits();
    let (mantissa, exponent) = match (bits >> 23, bits & ((1 << 23) - 1)) {
        (0, fraction) => (fraction, -149),
        (biased, fraction) => (fraction | 1 << 23, i32::try_from(biased).unwrap_or(0) - 150),
    };
    let shortest = spelled(format_args!("{value:e}"));
    let round = |digits: usize| spelled(format_args!("{:.*e}", digits - 1, value));
    let power = bits & ((1 << 23) - 1) == 0;
    let same = |decimal: &Decimal| decimal.to_string().parse() == Ok(value);
    write(&choose(shortest, &SINGLE, (mantissa.into(), exponent, power), &round, &same), &SINGLE, out);
}

/// What is not a number other than zero, and the sign.
fn special(value: f64, out: &mut Vec<u8>) -> bool {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
        return true;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_infinite() {
        out.extend_from_slice(b"Infinity");
    } else if value == 0.0 {
        out.push(b'0');
    }
    value.is_infinite() || value == 0.0
}

/// The digits of the scientific notation, without trailing zeros.
fn spelled(text: std::fmt::Arguments<'_>) -> Decimal {
    let mut buffer = [0u8; 40];
    let mut rest = &mut buffer[..];
    drop(rest.write_fmt(text));
    let mut decimal = Decimal { digits: [0; MAX_DIGITS], len: 0, exponent: 0 };
    let mut bytes = buffer.iter().copied().take_while(|&byte| byte != 0);
    for byte in bytes.by_ref() {
        match byte {
            b'e' => break,
            b'0'..=b'9' => {
                if let Some(place) = decimal.digits.get_mut(decimal.len) {
                    *place = byte - b'0';
                    decimal.len += 1;
                }
            }
            _ => {}
        }
    }
    let mut negative = false;
    for byte in bytes {
        match byte {
            b'-' => negative = true,
            _ => decimal.exponent = decimal.exponent * 10 + i32::from(byte - b'0'),
        }
    }
    if negative {
        decimal.exponent = -decimal.exponent;
    }
    while decimal.len > 1 && decimal.digits[decimal.len - 1] == 0 {
        decimal.len -= 1;
    }
    decimal
}

/// The server's digits. `number` is the value as `mantissa * 2^exponent`, and whether it is a power of two; `round`
/// gives the nearest decimal of so many digits, `same` says whether one stands for the value.
fn choose(
    shortest: Decimal,
    width: &Width,
    number: (u64, i32, bool),
    round: &dyn Fn(usize) -> Decimal,
    same: &dyn Fn(&Decimal) -> bool,
) -> Decimal {
    if between(&shortest, number) {
        let mut longer = (shortest.len + 1..=width.most).map(round);
        return longer.find(|d| !between(d, number) && same(d)).unwrap_or(shortest);
    }
    // As short are others only where a decimal of this length need not survive the way there and back. Of them
    // the nearest is taken, and of two as near the even one.
    if shortest.len > width.safe {
        let nearest = round(shortest.len);
        if nearest.digits() != shortest.digits() && !between(&nearest, number) && same(&nearest) {
            return nearest;
        }
    }
    shortest
}

/// Whether a decimal lies exactly in the middle between the number and one of its neighbours.
fn between(decimal: &Decimal, (mantissa, exponent, power): (u64, i32, bool)) -> bool {
    // digits * 10^ten; a middle has more bits than a decimal with digits after the point has left over.
    let ten = decimal.exponent + 1 - i32::try_from(decimal.len).unwrap_or(0);
    let Ok(ten @ 0..=27) = u32::try_from(ten) else { return false };
    let digits = decimal.digits().iter().fold(0u128, |n, &d| n * 10 + u128::from(d));
    let product = digits * 5u128.pow(ten);
    let (twos, odd) = (product.trailing_zeros(), product >> product.trailing_zeros().min(127));
    let two = i32::try_from(twos + ten).unwrap_or(0);
    let mantissa = u128::from(mantissa);
    (two == exponent - 1 && (odd == 2 * mantissa + 1 || odd + 1 == 2 * mantissa))
        || (power && two == exponent - 2 && odd + 1 == 4 * mantissa)
}

fn write(decimal: &Decimal, width: &Width, out: &mut Vec<u8>) {
    let (len, exponent) = (decimal.len, decimal.exponent);
    let digits = decimal.digits().iter().map(|digit| b'0' + digit);
    let zeros = |n: i32| std::iter::repeat_n(b'0', usize::try_from(n).unwrap_or(0));
    if !(-4..width.scientific).contains(&exponent) {
        let mut digits = digits;
        out.extend(digits.next());
        if len > 1 {
            out.push(b'.');
            out.extend(digits);
        }
        super::number(out, format_args!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()));
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(zeros(-exponent - 1));
        out.extend(digits);
    } else {
        let whole = usize::try_from(exponent).unwrap_or(0) + 1;
        let fraction = digits.clone().skip(whole);
        out.extend(digits.take(whole));
        out.extend(zeros(i32::try_from(whole.saturating_sub(len)).unwrap_or(0)));
        if len > whole {
            out.push(b'.');
            out.extend(fraction);
        }
    }
}
