//! A registry in memory whose answers can be tampered with, and clients of it.

mod cutting;
mod http;
mod mock;
mod tls;
mod users;

use std::time::Duration;

use buildkit_session::{SessionGroup, SessionManager};
use buildkit_util_ocispec::{Descriptor, media_type};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Limits, Registries, RegistryOptions, Repository};

pub use cutting::Cutting;
pub use http::{End, Reply, Request};
pub use mock::{Mock, NO_SCRIPT};
pub use tls::{Certificates, Front};
pub use users::{Session, Users, open};

/// Rounds of each kind of fault: 5, and 100 in a soak.
pub fn rounds() -> usize {
    usize::try_from(buildkit_util_testutil::rounds(5)).expect("a small number")
}

/// Many tries, short waits. What is to come has long enough on a slow machine.
pub fn limits() -> Limits {
    Limits {
        tries: 5,
        connect: Duration::from_secs(10),
        answer: Duration::from_secs(10),
        stall: Duration::from_secs(10),
        total: Duration::from_secs(60),
        backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(20),
    }
}

/// Such as notice soon that nothing comes.
pub fn impatient() -> Limits {
    let short = Duration::from_millis(300);
    Limits { answer: short, stall: short, ..limits() }
}

pub fn options(sessions: SessionManager, limits: Limits) -> RegistryOptions {
    RegistryOptions { limits, ..RegistryOptions::new(sessions, "test/1") }
}

/// Without sessions.
pub fn registries(limits: Limits) -> Registries {
    Registries::new(options(SessionManager::new(), limits))
}

pub fn repository(registries: &Registries, name: &str, access: Access) -> Repository {
    let name = Reference::parse(name).expect("a name");
    registries.repository(&name, &SessionGroup::default(), access, false)
}

pub fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER_GZIP, bytes)
}

/// Bytes that look random and are not.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub fn manifest() -> Vec<u8> {
    let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
    let config = serde_json::to_value(config).expect("JSON");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [],
    });
    serde_json::to_vec(&manifest).expect("JSON")
}
