//! Processes of platforms that the kernel does not run by itself.

use buildkit_errdefs::Kind;
use buildkit_executor::{ContainerMount, ExecMount};
use buildkit_solver_pb as pb;
use buildkit_util_archutil::{Platform, Support, support};

use crate::Result;
use crate::domain::failed;

/// Where the emulator is in the container.
const PLACE: &str = "/dev/.buildkit_qemu_emulator";

/// Puts an emulator before the process and into its container, if `platform` needs one.
pub(super) fn add(
    platform: &pb::Platform,
    args: &mut Vec<String>,
    mounts: &mut Vec<ExecMount>,
) -> Result<()> {
    let wanted = Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
    };
    match support(&wanted) {
        Support::Kernel => {}
        // The kernel may know better; if not, the process does not start and says so.
        Support::Unknown => {
            tracing::warn!(platform = %wanted, "no emulator is known for the platform of a step")
        }
        Support::Never { supported } => {
            let supported: Vec<String> = supported.iter().map(ToString::to_string).collect();
            return Err(failed(
                Kind::InvalidArgument,
                format!(
                    "no support for running processes with {wanted} platform, supported: {}",
                    supported.join(", ")
                ),
            ));
        }
        Support::Emulator(path) => {
            args.insert(0, PLACE.to_owned());
            let source = ContainerMount::Host { path };
            mounts.push(ExecMount { source, dest: PLACE.to_owned(), readonly: true });
        }
    }
    Ok(())
}
