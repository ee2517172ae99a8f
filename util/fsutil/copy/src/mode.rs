use std::str::FromStr;

use crate::Error;

/// A change of permissions in the symbolic form of chmod(1), such as `u=rwX,go-w`, or octal. Who is
/// left out is everybody: the umask does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeChange {
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// Bits that the step is about.
    who: u32,
    operator: char,
    bits: u32,
    /// Execute bits, for directories and what somebody may execute.
    if_executable: bool,
    /// User, group or others, whose bits are taken.
    copy: Option<char>,
}

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;

impl ModeChange {
    /// The permissions (`07777`) that come of `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut mode = mode & 0o7777;
        // Execute bits count as they were in the beginning.
        let executable = is_dir || mode & 0o111 != 0;
        for step in &self.steps {
            let mut bits = step.bits;
            if step.if_executable && executable {
                bits |= 0o111;
            }
            if let Some(from) = step.copy {
                let shift = match from {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                };
                bits |= ((mode >> shift) & 0o7) * 0o111;
            }
            bits &= step.who;
            match step.operator {
                '+' => mode |= bits,
                '-' => mode &= !bits,
                _ => mode = (mode & !step.who) | bits,
            }
        }
        mode
    }
}

impl FromStr for ModeChange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = || Error::Mode(text.chars().take(100).collect());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).map_err(|_| fail())?;
            if bits > 0o7777 {
                return Err(fail());
            }
            let step = Step { who: 0o7777, operator: '=', bits, if_executable: false, copy: None };
            return Ok(Self { steps: vec![step] });
        }
        let mut steps = Vec::new();
        for clause in text.split(',') {
            let mut chars = clause.chars().peekable();
            let mut who = 0;
            while let Some(c) = chars.next_if(|c| "ugoa".contains(*c)) {
                who |= match c {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o0007,
                    _ => 0o6777,
                };
            }
            let others_only = who == 0o0007;
            let everybody = who == 0;
            if everybody {
                who = 0o6777;
            }
            let before = steps.len();
            while let Some(operator) = chars.next_if(|c| "+-=".contains(*c)) {
                let mut step = Step { who, operator, bits: 0, if_executable: false, copy: None };
                if let Some(from) = chars.next_if(|c| "ugo".contains(*c)) {
                    step.copy = Some(from);
                } else {
                    while let Some(c) = chars.next_if(|c| "rwxXst".contains(*c)) {
                        match c {
                            'r' => step.bits |= 0o444,
                            'w' => step.bits |= 0o222,
                            'x' => step.bits |= 0o111,
                            'X' => step.if_executable = true,
                            // Set-id bits belong to users and groups.
                            's' if !others_only => step.bits |= SET_IDS,
                            't' if !others_only => {
                                step.who |= STICKY;
                                step.bits |= STICKY;
                            }
                            _ => {}
                        }
                    }
                }
                steps.push(step);
            }
            if chars.next().is_some() || steps.len() == before {
                return Err(fail());
            }
        }
        Ok(Self { steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        for (text, mode, is_dir, expect) in [
            ("0644", 0o755, false, 0o644),
            ("4755", 0o644, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("a=rX", 0o755, false, 0o555),
            ("a=rX", 0o644, false, 0o444),
            ("a=rX", 0o600, true, 0o555),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rw,g=u,o=g", 0o000, false, 0o666),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, false, 0o2755),
            ("o+s", 0o755, false, 0o755),
            ("+t", 0o755, true, 0o1755),
            ("a-s", 0o6755, false, 0o755),
            ("u=rwx", 0o4000, false, 0o700),
            ("u+rw-x", 0o111, false, 0o611),
            ("=", 0o777, false, 0),
        ] {
            let change: ModeChange = text.parse().expect("well formed");
            assert_eq!(change.apply(mode, is_dir), expect, "{text} on {mode:o}");
        }
        for bad in ["", "u", "x", "u+q", "u+x,", ",", "99", "77777", "u++é", "+x "] {
            assert!(bad.parse::<ModeChange>().is_err(), "{bad:?}");
        }
    }
}
