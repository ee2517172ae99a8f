//! Containers with each runtime. Needs root, runc and busybox-static.

#[path = "common/alike.rs"]
mod alike;
mod common;

mod own {
    const RUNTIME: crate::common::Runtime = crate::common::Runtime::Own;
    include!("common/suite.rs");
}

mod runc {
    const RUNTIME: crate::common::Runtime = crate::common::Runtime::Runc;
    include!("common/suite.rs");
}
