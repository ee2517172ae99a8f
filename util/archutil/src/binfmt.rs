//! Emulators of the kernel's `binfmt_misc`.

use std::path::Path;

use fs_err as fs;

/// Where the kernel lists what it runs through interpreters.
pub(crate) const REGISTRY: &str = "/proc/sys/fs/binfmt_misc";

/// A header of an ELF file of one architecture.
pub(crate) struct Target {
    pub architecture: &'static str,
    /// `e_machine`, from the ELF specification and its supplements.
    machine: u16,
    bits64: bool,
    little: bool,
}

const fn target(architecture: &'static str, machine: u16, bits64: bool, little: bool) -> Target {
    Target { architecture, machine, bits64, little }
}

/// Architectures that emulators exist for, in the order in which they are reported.
pub(crate) const TARGETS: [Target; 11] = [
    target("amd64", 62, true, true),
    target("arm64", 183, true, true),
    target("riscv64", 243, true, true),
    target("ppc64", 21, true, false),
    target("ppc64le", 21, true, true),
    target("s390x", 22, true, false),
    target("386", 3, false, true),
    target("mips64le", 8, true, true),
    target("mips64", 8, true, false),
    target("loong64", 258, true, true),
    target("arm", 40, false, true),
];

impl Target {
    /// The first bytes of an executable.
    fn header(&self) -> [u8; 20] {
        let mut header = [0; 20];
        header[..4].copy_from_slice(b"\x7fELF");
        header[4] = if self.bits64 { 2 } else { 1 };
        header[5] = if self.little { 1 } else { 2 };
        header[6] = 1;
        let half = |value: u16| if self.little { value.to_le_bytes() } else { value.to_be_bytes() };
        header[16..18].copy_from_slice(&half(2));
        header[18..].copy_from_slice(&half(self.machine));
        header
    }
}

/// A registered interpreter.
struct Emulator {
    magic: Vec<u8>,
    mask: Vec<u8>,
    offset: usize,
}

impl Emulator {
    /// Reads an entry of the registry. `None` for those that are off, that go by name, or that a
    /// container would not see: only with the flag `F` is the interpreter opened beforehand.
    fn parse(entry: &str) -> Option<Self> {
        let value = |key: &str| entry.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let hex = |text: &str| -> Option<Vec<u8>> {
            let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
            (0..text.len()).step_by(2).map(digit).collect()
        };
        if entry.lines().next()? != "enabled" || !value("flags:")?.contains('F') {
            return None;
        }
        let magic = hex(value("magic ")?)?;
        let mask = value("mask ").and_then(hex).unwrap_or_else(|| vec![0xff; magic.len()]);
        let offset = value("offset ").and_then(|offset| offset.parse().ok()).unwrap_or(0);
        (mask.len() == magic.len()).then_some(Self { magic, mask, offset })
    }

    fn runs(&self, target: &Target) -> bool {
        let header = target.header();
        let Some(bytes) = header.get(self.offset..self.offset + self.magic.len()) else { return false };
        bytes.iter().zip(&self.magic).zip(&self.mask).all(|((byte, magic), mask)| byte & mask == magic & mask)
    }
}

/// Architectures that the emulators of a registry run.
pub(crate) fn emulated(registry: &Path) -> Vec<&'static str> {
    let Ok(entries) = fs::read_dir(registry) else { return Vec::new() };
    let names =
        entries.flatten().filter(|entry| !matches!(entry.file_name().to_str(), Some("register" | "status")));
    let read = names.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let emulators: Vec<Emulator> = read.filter_map(|text| Emulator::parse(&text)).collect();
    let runs = |target: &&Target| emulators.iter().any(|emulator| emulator.runs(target));
    TARGETS.iter().filter(runs).map(|target| target.architecture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn entries() {
        let runs = |entry: &str| -> Vec<&str> {
            let Some(emulator) = Emulator::parse(entry) else { return vec![] };
            TARGETS.iter().filter(|target| emulator.runs(target)).map(|target| target.architecture).collect()
        };
        assert_eq!(runs(ARM64), ["arm64"]);
        assert_eq!(runs(&ARM64.replace("POCF", "POC")), [""; 0], "containers do not see the interpreter");
        assert_eq!(runs(&ARM64.replace("enabled", "disabled")), [""; 0]);
        assert_eq!(runs("enabled\ninterpreter /x\nflags: F\nextension .exe\n"), [""; 0]);
        assert_eq!(runs("enabled\nflags: F\noffset 0\nmagic 7f454c4\n"), [""; 0], "half a byte");
        assert_eq!(runs("enabled\nflags: F\noffset 18\nmagic 0016\n"), ["s390x"]);
        assert_eq!(runs("enabled\nflags: F\noffset 99\nmagic 0016\n"), [""; 0]);
    }

    #[test]
    fn no_registry_is_no_emulator() {
        assert_eq!(emulated(Path::new("/nonexistent")), [""; 0]);
    }
}
