//! Go's `fmt`, as far as values of templates go.

use std::borrow::Cow;

use buildkit_util_gotext::quoted;

use super::data::Data;

/// `fmt.Sprint`: a space between two values of which none is a text.
pub(super) fn print(args: &[Cow<'_, Data>]) -> String {
    let mut out = String::new();
    let mut was_text = true;
    for (number, arg) in args.iter().enumerate() {
        let is_text = matches!(**arg, Data::Text(_));
        if number > 0 && !is_text && !was_text {
            out.push(' ');
        }
        out.push_str(&arg.print());
        was_text = is_text;
    }
    out
}

/// What stands between `%` and the letter.
#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// `fmt.Sprintf`. What does not fit is said in the text, as there.
pub(super) fn printf(format: &str, args: &[Cow<'_, Data>]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = chars.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.next_if_eq(&'*').is_some() {
                return match args.next().map(|arg| &**arg) {
                    Some(Data::Int(width)) => usize::try_from(*width).unwrap_or(0),
                    _ => 0,
                };
            }
            let mut number = 0_usize;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                number = number.saturating_mul(10).saturating_add(digit as usize);
            }
            number
        };
        // A width is for a column, not for filling the memory.
        flags.width = number(&mut chars).min(10_000);
        if chars.next_if_eq(&'.').is_some() {
            flags.precision = Some(number(&mut chars).min(10_000));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(arg) => out.push_str(&one(arg, verb, &flags)),
            },
        }
    }
    let extra: Vec<String> = args.map(|arg| format!("{}={}", arg.kind(), arg.print())).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn one(arg: &Data, verb: char, flags: &Flags) -> String {
    if verb == 'T' {
        return pad(arg.kind().to_owned(), flags);
    }
    arg.each(flags.plus && verb == 'v', &mut |leaf| pad(leaf_text(leaf, verb, flags), flags))
}

fn leaf_text(leaf: &Data, verb: char, flags: &Flags) -> String {
    match (leaf, verb) {
        (Data::Text(text), 's' | 'v') => cut(text, flags).to_owned(),
        (Data::Text(text), 'q') => quoted(cut(text, flags)),
        (Data::Text(text), 'x' | 'X') => {
            let hex: String = cut(text, flags).bytes().map(|byte| format!("{byte:02x}")).collect();
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        (Data::Int(number), 'd' | 'v') => digits(*number, number.unsigned_abs().to_string(), "", flags),
        (Data::Int(number), 'x') => digits(*number, format!("{:x}", number.unsigned_abs()), "0x", flags),
        (Data::Int(number), 'X') => digits(*number, format!("{:X}", number.unsigned_abs()), "0X", flags),
        (Data::Int(number), 'o') => digits(*number, format!("{:o}", number.unsigned_abs()), "0", flags),
        (Data::Int(number), 'b') => digits(*number, format!("{:b}", number.unsigned_abs()), "0b", flags),
        (Data::Int(number), 'c') => character(*number).to_string(),
        (Data::Int(number), 'q') => format!("'{}'", character(*number)),
        (Data::Int(number), 'U') => format!("U+{number:04X}"),
        (Data::Bool(value), 't' | 'v') => value.to_string(),
        (Data::Null | Data::Missing, 'v') => "<nil>".to_owned(),
        (Data::Null | Data::Missing, _) => format!("%!{verb}(<nil>)"),
        _ => format!("%!{verb}({}={})", leaf.kind(), leaf.print()),
    }
}

fn character(number: i64) -> char {
    u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A number with its sign, prefix and zeros.
fn digits(number: i64, mut digits: String, prefix: &str, flags: &Flags) -> String {
    let sign = match number {
        ..0 => "-",
        _ if flags.plus => "+",
        _ if flags.space => " ",
        _ => "",
    };
    let prefix = if flags.sharp { prefix } else { "" };
    let least = match flags.precision {
        Some(precision) => precision,
        None if flags.zero && !flags.minus => flags.width.saturating_sub(sign.len()),
        None => 0,
    };
    if digits.len() < least {
        digits.insert_str(0, &"0".repeat(least - digits.len()));
    }
    format!("{sign}{prefix}{digits}")
}

/// The first characters, as many as the precision says.
fn cut<'a>(text: &'a str, flags: &Flags) -> &'a str {
    let end = flags.precision.and_then(|precision| text.char_indices().nth(precision));
    end.map_or(text, |(end, _)| &text[..end])
}

fn pad(text: String, flags: &Flags) -> String {
    let missing = flags.width.saturating_sub(text.chars().count());
    if flags.minus { text + &" ".repeat(missing) } else { " ".repeat(missing) + &text }
}
