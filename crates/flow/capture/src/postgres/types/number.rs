//! Integers and numerics, from text and from the binary form of `numeric_send`.

use super::CellFault;

const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;
const NEGATIVE: u16 = 0x4000;

const UNFIT_NAN: CellFault = CellFault::Unfit("NaN");
const UNFIT_INFINITY: CellFault = CellFault::Unfit("infinity");
const UNFIT_DIGITS: CellFault = CellFault::Unfit("a number of more digits than the type declares");
const NO_NUMERIC: CellFault = CellFault::Malformed("it is not a numeric");

/// Digits that fit a `u64` without a check.
const U64_DIGITS: usize = 19;

/// Digits of base 10,000 that do.
const U64_GROUPS: usize = 4;

/// Ten to the power of the index: as many as `i128` holds.
const POWERS_OF_TEN: [i128; 39] = {
    let mut powers = [1; 39];
    let mut power = 1;
    while power < powers.len() {
        powers[power] = powers[power - 1] * 10;
        power += 1;
    }
    powers
};

/// An integer as Postgres prints it.
#[inline]
pub(crate) fn integer_from_text(text: &[u8]) -> Result<i64, CellFault> {
    const NO_INTEGER: CellFault = CellFault::Malformed("it is not an integer");
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > U64_DIGITS {
        return Err(NO_INTEGER);
    }
    let mut magnitude = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(NO_INTEGER);
        }
        magnitude = magnitude * 10 + u64::from(digit);
    }
    let value = if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
    value.ok_or(NO_INTEGER)
}

/// A numeric as Postgres prints it, times ten to the power of `scale`; exact or unfit.
pub(crate) fn decimal_from_text(text: &[u8], precision: u8, scale: i8) -> Result<i128, CellFault> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    match unsigned {
        b"NaN" => return Err(UNFIT_NAN),
        b"Infinity" => return Err(UNFIT_INFINITY),
        _ => {}
    }
    let point = unsigned.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&unsigned[..at], &unsigned[at + 1..]),
        None => (unsigned, &unsigned[..0]),
    };
    if whole.is_empty() || (point.is_some() && fraction.is_empty()) {
        return Err(NO_NUMERIC);
    }
    let wanted = usize::from(scale.unsigned_abs());
    let (kept, beyond) = fraction.split_at(fraction.len().min(wanted));
    if beyond.iter().any(|byte| !byte.is_ascii_digit()) {
        return Err(NO_NUMERIC);
    }
    if beyond.iter().any(|byte| *byte != b'0') {
        return Err(UNFIT_DIGITS);
    }
    let magnitude = digits_of(digits_of(0, whole)?, kept)?;
    let magnitude = shifted(magnitude, wanted - kept.len()).ok_or(UNFIT_DIGITS)?;
    signed_within(magnitude, negative, precision)
}

fn digits_of(start: i128, digits: &[u8]) -> Result<i128, CellFault> {
    let mut total = start;
    for part in digits.chunks(U64_DIGITS) {
        let mut value = 0_u64;
        for byte in part {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(NO_NUMERIC);
            }
            value = value * 10 + u64::from(digit);
        }
        // Most values are one part that starts from zero: no multiplication of 128 bits then.
        total = if total == 0 {
            i128::from(value)
        } else {
            shifted(total, part.len()).and_then(|total| total.checked_add(i128::from(value))).ok_or(UNFIT_DIGITS)?
        };
    }
    Ok(total)
}

fn shifted(magnitude: i128, digits: usize) -> Option<i128> {
    if digits == 0 || magnitude == 0 {
        return Some(magnitude);
    }
    magnitude.checked_mul(*POWERS_OF_TEN.get(digits)?)
}

fn signed_within(magnitude: i128, negative: bool, precision: u8) -> Result<i128, CellFault> {
    // `precision` is at most 38.
    if POWERS_OF_TEN.get(usize::from(precision)).is_none_or(|bound| magnitude >= *bound) {
        return Err(UNFIT_DIGITS);
    }
    Ok(if negative { -magnitude } else { magnitude })
}

/// A numeric in binary form: digits of base 10,000, the first worth 10,000 to the power of `weight`.
struct BinaryNumeric<'a> {
    weight: i32,
    sign: u16,
    /// Digits behind the point that are printed.
    printed_scale: usize,
    /// Two bytes each, below 10,000.
    digits: &'a [[u8; 2]],
}

impl<'a> BinaryNumeric<'a> {
    #[inline]
    fn read(bytes: &'a [u8]) -> Result<Self, CellFault> {
        let (header, rest) = bytes.split_first_chunk::<8>().ok_or(NO_NUMERIC)?;
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (digits, left_over) = rest.as_chunks::<2>();
        if !left_over.is_empty() || digits.len() != usize::from(field(0)) {
            return Err(NO_NUMERIC);
        }
        if digits.iter().any(|digit| u16::from_be_bytes(*digit) >= 10_000) {
            return Err(NO_NUMERIC);
        }
        let (sign, scale) = (field(4), field(6));
        if !matches!(sign, 0 | NEGATIVE | NAN | INFINITY | NEGATIVE_INFINITY) || scale > 0x3fff {
            return Err(NO_NUMERIC);
        }
        let weight = i32::from(i16::from_be_bytes([header[2], header[3]]));
        Ok(Self { weight, sign, printed_scale: usize::from(scale), digits })
    }

    /// The value without its sign, times ten to the power of `scale`, of [`U64_GROUPS`] digits at most.
    #[inline]
    fn short_magnitude(&self, scale: i8) -> Result<i128, CellFault> {
        let value = self.digits.iter().fold(0, |value, digit| value * 10_000 + u64::from(u16::from_be_bytes(*digit)));
        // What the last digit is worth, as a power of ten of the scaled value.
        let power = 4 * (self.weight + 1 - self.digits.len() as i32) + i32::from(scale);
        let digits = power.unsigned_abs() as usize;
        if power >= 0 {
            return shifted(i128::from(value), digits).ok_or(UNFIT_DIGITS);
        }
        match POWERS_OF_TEN.get(digits).and_then(|cut| u64::try_from(*cut).ok()) {
            Some(cut) if value % cut == 0 => Ok(i128::from(value / cut)),
            None if value == 0 => Ok(0),
            _ => Err(UNFIT_DIGITS),
        }
    }

    /// As [`Self::short_magnitude`], of any number of digits.
    fn magnitude(&self, scale: i8) -> Result<i128, CellFault> {
        let mut magnitude = 0_i128;
        // What the next digit is worth, as a power of ten of the scaled value.
        let mut power = 4 * self.weight + i32::from(scale);
        for digit in self.digits {
            let digit = i128::from(u16::from_be_bytes(*digit));
            magnitude = match power {
                0.. => magnitude.checked_mul(10_000).and_then(|value| value.checked_add(digit)),
                -3..=-1 => {
                    let cut = 10_i128.pow(power.unsigned_abs());
                    if digit % cut != 0 {
                        return Err(UNFIT_DIGITS);
                    }
                    magnitude.checked_mul(10_000 / cut).and_then(|value| value.checked_add(digit / cut))
                }
                _ if digit == 0 => Some(magnitude),
                _ => None,
            }
            .ok_or(UNFIT_DIGITS)?;
            power -= 4;
        }
        // The last digit taken was worth 10 to the power of `power + 4`.
        let missing = usize::try_from(power + 4).unwrap_or(0);
        shifted(magnitude, missing).ok_or(UNFIT_DIGITS)
    }

    fn digit(&self, index: usize) -> u16 {
        self.digits.get(index).map_or(0, |digit| u16::from_be_bytes(*digit))
    }
}

/// A numeric in binary form, times ten to the power of `scale`; exact or unfit.
pub(crate) fn decimal_from_binary(bytes: &[u8], precision: u8, scale: i8) -> Result<i128, CellFault> {
    let numeric = BinaryNumeric::read(bytes)?;
    match numeric.sign {
        NAN => return Err(UNFIT_NAN),
        INFINITY | NEGATIVE_INFINITY => return Err(UNFIT_INFINITY),
        _ => {}
    }
    let magnitude = match numeric.digits.len() {
        ..=U64_GROUPS => numeric.short_magnitude(scale),
        _ => numeric.magnitude(scale),
    };
    signed_within(magnitude?, numeric.sign == NEGATIVE, precision)
}

/// Appends what `numeric_out` prints for a numeric in binary form.
pub(crate) fn numeric_to_text(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CellFault> {
    let numeric = BinaryNumeric::read(bytes)?;
    match numeric.sign {
        NAN => out.extend_from_slice(b"NaN"),
        INFINITY => out.extend_from_slice(b"Infinity"),
        NEGATIVE_INFINITY => out.extend_from_slice(b"-Infinity"),
        sign => {
            if sign == NEGATIVE {
                out.push(b'-');
            }
            push_finite(&numeric, out);
        }
    }
    Ok(())
}

fn push_finite(numeric: &BinaryNumeric<'_>, out: &mut Vec<u8>) {
    let group = |digit: u16| {
        [digit / 1000, digit / 100 % 10, digit / 10 % 10, digit % 10]
            .map(|value| b'0' + u8::try_from(value).unwrap_or(0))
    };
    // The index of the first digit behind the point; at or below zero when the number is below one.
    let first_fraction = i64::from(numeric.weight) + 1;
    let whole = usize::try_from(first_fraction).unwrap_or(0);
    let start = out.len();
    for index in 0..whole {
        out.extend_from_slice(&group(numeric.digit(index)));
    }
    let leading = out[start..].iter().take_while(|byte| **byte == b'0').count();
    out.drain(start..start + leading);
    if out.len() == start {
        out.push(b'0');
    }
    if numeric.printed_scale == 0 {
        return;
    }
    out.push(b'.');
    let end = out.len() + numeric.printed_scale;
    let mut index = first_fraction;
    while out.len() < end {
        let digit = usize::try_from(index).map_or(0, |index| numeric.digit(index));
        out.extend_from_slice(&group(digit));
        index += 1;
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_to_their_ends_and_nothing_else_is() {
        for value in [0, 7, -1, i64::MAX, i64::MIN] {
            assert_eq!(integer_from_text(value.to_string().as_bytes()), Ok(value));
        }
        for wrong in ["", "-", "9223372036854775808", "-9223372036854775809", "1.0", " 1", "+1", "99999999999999999999"]
        {
            assert!(integer_from_text(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_decimal_is_exact_or_unfit() {
        assert_eq!(decimal_from_text(b"-12.34", 5, 2), Ok(-1234));
        assert_eq!(decimal_from_text(b"12", 5, 2), Ok(1200));
        assert_eq!(decimal_from_text(b"12.3400", 5, 2), Ok(1234));
        assert_eq!(decimal_from_text(&[b'9'; 38], 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(decimal_from_text(b"1000.00", 5, 2), Err(UNFIT_DIGITS));
        assert_eq!(decimal_from_text(b"0.001", 5, 2), Err(UNFIT_DIGITS));
        assert_eq!(decimal_from_text(&[b'9'; 60], 38, 0), Err(UNFIT_DIGITS));
        assert_eq!(decimal_from_text(b"NaN", 5, 2), Err(UNFIT_NAN));
        assert_eq!(decimal_from_text(b"-Infinity", 5, 2), Err(UNFIT_INFINITY));
        for wrong in ["", "-", ".", "1.", ".5", "1e5", "1.0x", "--1"] {
            assert_eq!(decimal_from_text(wrong.as_bytes(), 38, 1), Err(NO_NUMERIC), "{wrong}");
        }
    }

    #[test]
    fn malformed_binary_numerics_are_refused() {
        let wrong: [&[u8]; 5] = [
            b"",
            &[0, 1, 0, 0, 0, 0, 0, 0],
            &[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10],
            &[0, 0, 0, 0, 0x12, 0x34, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0xff, 0xff],
        ];
        for bytes in wrong {
            assert_eq!(decimal_from_binary(bytes, 38, 0), Err(NO_NUMERIC));
            assert_eq!(numeric_to_text(bytes, &mut Vec::new()), Err(NO_NUMERIC));
        }
    }

    #[test]
    fn short_numerics_are_read_as_long_ones_are() {
        let digits = [0, 1, 10, 100, 500, 1200, 1234, 9999].map(u16::to_be_bytes);
        for length in 0..=U64_GROUPS {
            for choice in 0..digits.len().pow(length as u32) {
                let chosen: Vec<[u8; 2]> =
                    (0..length as u32).map(|at| digits[choice / digits.len().pow(at) % digits.len()]).collect();
                for weight in [-9, -6, -2, -1, 0, 1, 2, 5, 9] {
                    let numeric = BinaryNumeric { weight, sign: 0, printed_scale: 0, digits: &chosen };
                    for scale in [0, 2, 5, 30] {
                        let (short, long) = (numeric.short_magnitude(scale), numeric.magnitude(scale));
                        assert_eq!(short, long, "{chosen:?} {weight} {scale}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_huge_weight_is_unfit_for_a_decimal() {
        assert_eq!(decimal_from_binary(&[0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1], 38, 0), Err(UNFIT_DIGITS));
        assert_eq!(decimal_from_binary(&[0, 1, 0x80, 0x00, 0, 0, 0, 0, 0, 1], 38, 0), Err(UNFIT_DIGITS));
        assert_eq!(decimal_from_binary(&[0, 0, 0x7f, 0xff, 0, 0, 0, 0], 38, 0), Ok(0));
    }
}
