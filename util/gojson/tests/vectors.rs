//! Compares with output recorded from Go (see `vectors/README.md`).

use buildkit_util_gojson::{Float, NotFinite, to_string, write_bytes};
use serde::Deserialize;

#[derive(Deserialize)]
struct Text {
    input: String,
    escaped: String,
}

#[derive(Deserialize)]
struct Number {
    bits: String,
    output: Option<String>,
    error: Option<String>,
}

#[test]
fn strings_are_those_of_go() {
    let cases: Vec<Text> = serde_json::from_str(include_str!("vectors/strings.json")).expect("vectors");
    assert!(!cases.is_empty());
    for case in cases {
        let input = hex::decode(&case.input).expect("hex");
        let mut out = String::new();
        write_bytes(&mut out, &input);
        assert_eq!(out, case.escaped, "{}", case.input);
    }
}

fn check(case: &Number, number: Result<Float, NotFinite>) {
    match (&case.output, &case.error) {
        (Some(output), None) => {
            assert_eq!(&to_string(&number.expect("finite")), output, "{}", case.bits);
        }
        (output, Some(_)) if output.as_deref().is_none_or(str::is_empty) => {
            assert!(number.is_err(), "{}", case.bits);
        }
        _ => panic!("vector {} has neither output nor error", case.bits),
    }
}

#[test]
fn numbers_are_those_of_go() {
    let cases: Vec<Number> = serde_json::from_str(include_str!("vectors/float64.json")).expect("vectors");
    assert!(!cases.is_empty());
    for case in cases {
        let bits = u64::from_str_radix(&case.bits, 16).expect("hex");
        check(&case, Float::f64(f64::from_bits(bits)));
    }
    let cases: Vec<Number> = serde_json::from_str(include_str!("vectors/float32.json")).expect("vectors");
    assert!(!cases.is_empty());
    for case in cases {
        let bits = u32::from_str_radix(&case.bits, 16).expect("hex");
        check(&case, Float::f32(f32::from_bits(bits)));
    }
}
