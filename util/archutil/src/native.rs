//! What this machine runs without an emulator.

/// The architecture of this process in the words of image platforms.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "mips64" if cfg!(target_endian = "little") => "mips64le",
        other => other,
    }
}

/// Architectures beside its own whose programs this kernel starts by itself.
pub(crate) fn related(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "amd64" if has_32_bit_x86() => &["386"],
        "arm64" if has_32_bit_arm() => &["arm"],
        _ => &[],
    }
}

/// Only kernels that start programs of 32 bits have this switch for them.
fn has_32_bit_x86() -> bool {
    fs_err::metadata("/proc/sys/abi/vsyscall32").is_ok()
}

/// Kernels of arm64 list the features of their 32-bit mode only if they have one.
fn has_32_bit_arm() -> bool {
    fs_err::metadata("/proc/sys/abi/cp15_barrier").is_ok() || fs_err::metadata("/proc/sys/abi/setend").is_ok()
}

/// Levels of x86-64 (`v2` to `v4`) whose features this processor has, ascending. As psABI defines
/// them.
#[cfg(target_arch = "x86_64")]
pub(crate) fn amd64_levels() -> Vec<&'static str> {
    let has_v2 = is_x86_feature_detected!("sse3")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("cmpxchg16b")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("popcnt");
    let has_v3 = has_v2
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("movbe")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt");
    let has_v4 = has_v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    let levels = [("v2", has_v2), ("v3", has_v3), ("v4", has_v4)];
    levels.into_iter().filter(|(_, has)| *has).map(|(level, _)| level).collect()
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn amd64_levels() -> Vec<&'static str> {
    Vec::new()
}
