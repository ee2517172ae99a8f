use std::fmt::Write as _;

use crate::Value;

/// JSON has no form for infinities and NaN; Go refuses them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Cannot write a number that is not finite as JSON")]
pub struct NotFinite;

/// A finite floating point number in Go's form: shortest digits that read back as the same number,
/// with an exponent only below 1e-6 and from 1e21.
#[derive(Debug, Clone, PartialEq)]
pub struct Float {
    text: String,
    zero: bool,
}

impl Float {
    /// A `float64`.
    ///
    /// # Errors
    /// When the number is not finite.
    pub fn f64(number: f64) -> Result<Self, NotFinite> {
        if !number.is_finite() {
            return Err(NotFinite);
        }
        let magnitude = number.abs();
        let exponential = magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude);
        let text = if exponential { format!("{number:e}") } else { number.to_string() };
        Ok(Self { text: with_plus(text, exponential), zero: number == 0.0 })
    }

    /// A `float32`, whose shortest digits and limits differ from those of the same `float64`.
    ///
    /// # Errors
    /// When the number is not finite.
    pub fn f32(number: f32) -> Result<Self, NotFinite> {
        if !number.is_finite() {
            return Err(NotFinite);
        }
        let magnitude = number.abs();
        let exponential = magnitude != 0.0 && !(1e-6f32..1e21f32).contains(&magnitude);
        let text = if exponential { format!("{number:e}") } else { number.to_string() };
        Ok(Self { text: with_plus(text, exponential), zero: number == 0.0 })
    }
}

// Go writes `1e+21` where Rust writes `1e21`; both write `1e-7`.
fn with_plus(text: String, exponential: bool) -> String {
    match text.find('e') {
        Some(at) if exponential && !text[at + 1..].starts_with('-') => {
            format!("{}e+{}", &text[..at], &text[at + 1..])
        }
        _ => text,
    }
}

impl Value for Float {
    fn write_json(&self, out: &mut String) {
        out.push_str(&self.text);
    }

    fn is_empty_value(&self) -> bool {
        self.zero
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn write_json(&self, out: &mut String) {
                // Writing to a string does not fail.
                let _ = write!(out, "{self}");
            }

            fn is_empty_value(&self) -> bool {
                *self == 0
            }
        }
    )*};
}
integers!(i16, i32, i64, u16, u32, u64, usize, isize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::to_string;

    // Expected forms are what Go 1.26 prints for json.Marshal of the number.
    #[test]
    fn floats_have_go_s_form() {
        let cases: &[(f64, &str)] = &[
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (9.9e-7, "9.9e-7"),
            (1e-7, "1e-7"),
            (1.5e-300, "1.5e-300"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.25e22, "-1.25e+22"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
        ];
        for (number, expected) in cases {
            assert_eq!(to_string(&Float::f64(*number).expect("finite")), *expected);
        }
        let cases: &[(f32, &str)] =
            &[(0.1, "0.1"), (16777216.0, "16777216"), (1e21, "1e+21"), (1e-7, "1e-7")];
        for (number, expected) in cases {
            assert_eq!(to_string(&Float::f32(*number).expect("finite")), *expected);
        }
        assert_eq!(Float::f64(f64::NAN), Err(NotFinite));
        assert_eq!(Float::f32(f32::INFINITY), Err(NotFinite));
    }

    #[test]
    fn integers_are_plain() {
        assert_eq!(to_string(&i64::MIN), "-9223372036854775808");
        assert_eq!(to_string(&u64::MAX), "18446744073709551615");
        assert!(0i32.is_empty_value() && !1i32.is_empty_value());
    }
}
