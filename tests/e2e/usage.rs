//! What the cache holds, and what is taken from it.

use std::time::Duration;

use buildkit_api_services_control::PruneRequest;
use buildkit_api_services_control::control_client::ControlClient;
use buildkit_util_testutil::{Output, wait_for};
use tonic::transport::Endpoint;

use crate::sandbox::{Sandbox, base, shell, to_directory};

/// The records of a list with all that is known.
fn ids(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.strip_prefix("ID:")).map(|id| id.trim().to_owned()).collect()
}

fn du(sandbox: &Sandbox, filters: &[&str]) -> Vec<String> {
    let run = sandbox.daemon.buildctl(["du", "--verbose"]);
    let output = filters.iter().fold(run, |run, filter| run.args(["--filter", filter])).run().assert_ok();
    let mut ids = ids(&output.stdout);
    ids.sort();
    ids
}

fn prune(sandbox: &Sandbox, args: &[&str]) -> Output {
    sandbox.daemon.buildctl(["prune"]).args(args).run().assert_ok()
}

#[test]
fn records_are_chosen_by_filters() {
    let mut sandbox = Sandbox::new();
    sandbox.export(&shell(&base(), "head -c 3000000 /dev/urandom > /out/one"));
    sandbox.export(&shell(&base(), "echo two > /out/two"));
    let all = du(&sandbox, &[]);
    assert!(all.len() >= 4, "{all:?}");
    let local = du(&sandbox, &["type==source.local"]);
    assert_eq!(local.len(), 1, "one directory of the client");
    assert_eq!(du(&sandbox, &["type!=source.local"]).len(), all.len() - 1);
    // Any of several; all of one.
    assert_eq!(du(&sandbox, &["type==source.local", "type!=source.local"]), all);
    assert_eq!(
        du(&sandbox, &[&format!("id=={},type==source.local", all[0])]).len(),
        usize::from(all[0] == local[0])
    );
    assert!(du(&sandbox, &["id==nothing"]).is_empty());
    sandbox.daemon.buildctl(["du", "--filter", "type=="]).run().assert_fails();

    // The records of one step go, the others stay.
    let step = du(&sandbox, &["description~=\"head -c\""]);
    let output = prune(&sandbox, &["--filter", "description~=\"head -c\""]);
    assert!(!step.is_empty() && step.len() < all.len() - 2, "{step:?}");
    assert!(step.iter().all(|id| output.stdout.contains(id)), "{}", output.stdout);
    let left = du(&sandbox, &[]);
    assert_eq!(left, all.iter().filter(|id| !step.contains(id)).cloned().collect::<Vec<_>>());
    // What is too young, or fits, stays.
    prune(&sandbox, &["--keep-duration", "1h"]);
    prune(&sandbox, &["--keep-storage", "1000"]);
    assert_eq!(du(&sandbox, &[]), left);
    prune(&sandbox, &["--all"]);
    assert!(du(&sandbox, &[]).is_empty());
    sandbox.assert_serves("after pruning");
}

/// More records than any buffer holds, and a client that reads none of them until all are gone: not one is
/// missing from the list.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_a_prune_see_every_record() {
    let sandbox = Sandbox::new();
    let make = |n: usize| {
        buildkit_client_llb::scratch().file(buildkit_client_llb::FileActions::from(
            buildkit_client_llb::mkfile("/f", 0o644, format!("{n}")),
        ))
    };
    let states: Vec<_> = (0..400).map(make).collect();
    let all = tokio::task::block_in_place(|| {
        for part in states.chunks(100) {
            let all = crate::sandbox::together(part);
            sandbox.build(&all).args(to_directory(&sandbox.path("out"))).run().assert_ok();
        }
        du(&sandbox, &[])
    });
    assert!(all.len() > 400, "{}", all.len());
    // The connection takes a few records only.
    let channel = Endpoint::from_shared(sandbox.daemon.address())
        .unwrap()
        .initial_stream_window_size(1024)
        .initial_connection_window_size(1024)
        .connect()
        .await
        .unwrap();
    let request = PruneRequest { all: true, ..PruneRequest::default() };
    let mut records = ControlClient::new(channel).prune(request).await.unwrap().into_inner();
    tokio::task::block_in_place(|| {
        wait_for("the end of the prune", Duration::from_secs(60), || {
            du(&sandbox, &[]).is_empty().then_some(())
        });
    });
    let mut seen = Vec::new();
    while let Some(record) = records.message().await.unwrap() {
        seen.push(record.id);
    }
    seen.sort();
    assert_eq!(seen.len(), all.len(), "records that were removed and not told");
    assert_eq!(seen, all);
}
