use serde::Deserialize;

use crate::Error;

/// Arguments that a call has at most.
const ARGUMENTS: u32 = 6;

/// Largest number of an error that a call can fail with: the kernel takes larger ones for this.
const MAX_ERRNO: u32 = 4095;

/// The default number of an error, `EPERM`.
const EPERM: u16 = 1;

/// `linux.seccomp` of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Profile {
    pub default_action: String,
    pub default_errno_ret: Option<u32>,
    #[serde(default)]
    pub architectures: Vec<String>,
    #[serde(default)]
    pub syscalls: Vec<Rule>,
    /// None is supported.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// What happens to calls of these names whose arguments match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Rule {
    pub names: Vec<String>,
    pub action: String,
    pub errno_ret: Option<u32>,
    #[serde(default)]
    pub args: Vec<Argument>,
}

/// A condition on an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Argument {
    pub index: u32,
    pub value: u64,
    #[serde(default)]
    pub value_two: u64,
    pub op: String,
}

/// What happens to a call, as the kernel has it: `SECCOMP_RET_*`, with data in the lower half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action(pub u32);

impl Action {
    pub(crate) const KILL_THREAD: Self = Self(0);
    const KILL_PROCESS: Self = Self(0x8000_0000);
    const TRAP: Self = Self(0x0003_0000);
    const ERRNO: u32 = 0x0005_0000;
    const TRACE: u32 = 0x7ff0_0000;
    const LOG: Self = Self(0x7ffc_0000);
    const ALLOW: Self = Self(0x7fff_0000);

    pub(crate) fn errno(number: u16) -> Self {
        Self(Self::ERRNO | u32::from(number))
    }

    /// By the names of the specification.
    pub(crate) fn parse(name: &str, errno: Option<u32>) -> Result<Self, Error> {
        let data = errno.map_or(u32::from(EPERM), |errno| errno.min(MAX_ERRNO));
        Ok(match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KILL_THREAD,
            "SCMP_ACT_KILL_PROCESS" => Self::KILL_PROCESS,
            "SCMP_ACT_TRAP" => Self::TRAP,
            "SCMP_ACT_ERRNO" => Self(Self::ERRNO | data),
            "SCMP_ACT_TRACE" => Self(Self::TRACE | data),
            "SCMP_ACT_ALLOW" => Self::ALLOW,
            "SCMP_ACT_LOG" => Self::LOG,
            // SCMP_ACT_NOTIFY would need somebody to ask.
            _ => return Err(Error::Unknown("action", name.to_owned())),
        })
    }

    /// Whether calls that nobody has thought of go on: a tracer is expected to know what to do with them.
    pub(crate) fn lets_pass(self) -> bool {
        self == Self::ALLOW || self == Self::LOG || self.0 & 0xffff_0000 == Self::TRACE
    }
}

/// How an argument compares with a value, both without sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Of the bits in a mask.
    MaskedEqual(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub argument: u32,
    pub comparison: Comparison,
    pub value: u64,
}

impl Argument {
    fn condition(&self) -> Result<Condition, Error> {
        if self.index >= ARGUMENTS {
            return Err(Error::Argument(self.index));
        }
        let comparison = match self.op.as_str() {
            "SCMP_CMP_NE" => Comparison::NotEqual,
            "SCMP_CMP_LT" => Comparison::Less,
            "SCMP_CMP_LE" => Comparison::LessOrEqual,
            "SCMP_CMP_EQ" => Comparison::Equal,
            "SCMP_CMP_GE" => Comparison::GreaterOrEqual,
            "SCMP_CMP_GT" => Comparison::Greater,
            "SCMP_CMP_MASKED_EQ" => Comparison::MaskedEqual(self.value),
            op => return Err(Error::Unknown("comparison", op.to_owned())),
        };
        let value =
            if matches!(comparison, Comparison::MaskedEqual(_)) { self.value_two } else { self.value };
        Ok(Condition { argument: self.index, comparison, value })
    }
}

impl Rule {
    /// Sets of conditions, one of which must hold as a whole; none when there is no condition.
    pub(crate) fn alternatives(&self) -> Result<Vec<Vec<Condition>>, Error> {
        let conditions = self.args.iter().map(Argument::condition).collect::<Result<Vec<_>, _>>()?;
        let twice = |condition: &Condition| {
            conditions.iter().filter(|other| other.argument == condition.argument).count() > 1
        };
        Ok(if conditions.iter().any(twice) {
            conditions.into_iter().map(|condition| vec![condition]).collect()
        } else if conditions.is_empty() {
            Vec::new()
        } else {
            vec![conditions]
        })
    }
}
