//! Records of builds, through the clients and through the calls that other clients use.

use std::collections::BTreeMap;
use std::time::Duration;

use buildkit_api_services_control::control_client::ControlClient;
use buildkit_api_services_control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, SolveRequest,
    StatusRequest, UpdateBuildHistoryRequest,
};
use buildkit_client::Client;
use buildkit_client_llb::{mkfile, scratch};
use buildkit_solver_errdefs::ParsedDetail;
use buildkit_solver_pb::Definition;
use buildkit_util_grpcerrors::{RemoteError, rpc};
use buildkit_util_testutil::{DaemonOptions, Run, wait_for};
use prost::Message as _;
use rustix::process::Signal;
use tonic::transport::Channel;

use crate::client::{DEADLINE, build_id, connect, solve_request};
use crate::sandbox::{Sandbox, base, marshal, shell, to_directory};

/// What happens to builds that are listened to.
async fn listen(channel: &Channel, request: BuildHistoryRequest) -> Vec<BuildHistoryEvent> {
    let request = BuildHistoryRequest { early_exit: true, ..request };
    let answer = ControlClient::new(channel.clone()).listen_build_history(request).await.expect("answers");
    assert!(answer.metadata().contains_key("buildkit-current-timestamp"));
    let mut events = answer.into_inner();
    let mut found = Vec::new();
    while let Some(event) = events.message().await.expect("an event") {
        found.push(event);
    }
    found
}

async fn records(channel: &Channel, request: BuildHistoryRequest) -> BTreeMap<String, BuildHistoryRecord> {
    let events = listen(channel, request).await.into_iter();
    let completed = events.filter(|event| event.r#type() == BuildHistoryEventType::Complete);
    completed.filter_map(|event| event.record).map(|record| (record.r#ref.clone(), record)).collect()
}

fn definition(content: &str) -> Definition {
    let state = scratch().file(mkfile("/file", 0o644, content.to_owned()));
    Definition::decode(&marshal(&state)[..]).expect("a definition")
}

/// A build without a session.
fn request(content: &str) -> SolveRequest {
    SolveRequest { r#ref: build_id(), definition: Some(definition(content)), ..SolveRequest::default() }
}

/// A blob that the daemon serves.
async fn blob(sandbox: &Sandbox, digest: &str) -> Vec<u8> {
    let address = sandbox.daemon.address().parse().expect("an address");
    let client = Client::connect(&address, None).await.expect("a connection");
    let mut bytes = Vec::new();
    client.read_blob(&digest.parse().expect("a digest"), &mut bytes).await.expect("a blob");
    bytes
}

#[test]
fn people_look_at_builds_that_are_over() {
    let mut sandbox = Sandbox::new();
    let mut monitor = sandbox.daemon.buildctl(["debug", "monitor"]).start();
    let reference = |name: &str| sandbox.path(name).display().to_string();
    let good = shell(&base(), "echo marker-$((40+2)); echo > /out/result");
    let bad = shell(&base(), "echo broken-$((40+2)); exit 7");
    sandbox
        .build(&good)
        .args(["--ref-file", &reference("good")])
        .args(to_directory(&sandbox.path("out")))
        .run()
        .assert_ok();
    sandbox.build(&bad).args(["--ref-file", &reference("bad")]).run().assert_fails();
    let read = |name: &str| fs_err::read_to_string(sandbox.path(name)).expect("an id");
    let (good, bad) = (read("good"), read("bad"));
    for id in [&good, &bad] {
        monitor.wait_for_text(&format!("event: STARTED ref:{id}\n"));
        monitor.wait_for_text(&format!("event: COMPLETE ref:{id}\n"));
    }
    monitor.signal(Signal::KILL);
    monitor.wait();

    for restart in [false, true] {
        if restart {
            sandbox.daemon.restart();
        }
        let list = sandbox.daemon.buildctl(["debug", "histories"]).run().assert_ok().stdout;
        let rows: Vec<&str> = list.lines().collect();
        assert!(rows[0].starts_with("TYPE") && rows[0].ends_with("PINNED"), "{list}");
        assert_eq!(rows.len(), 3, "{list}");
        for id in [&good, &bad] {
            assert!(
                rows.iter().any(|row| row.starts_with("COMPLETE") && row.contains(id.as_str())),
                "{list}"
            );
        }
        for (id, marker) in [(&good, "marker-42"), (&bad, "broken-42")] {
            let logs =
                sandbox.daemon.buildctl(["debug", "logs", "--progress", "plain", id]).run().assert_ok();
            assert!(logs.stdout.contains(marker), "restart {restart}: {}", logs.text());
        }
        let trace = sandbox.daemon.buildctl(["debug", "logs", "--trace", &bad]).run().assert_ok();
        let spans: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&trace.stdout)
            .into_iter()
            .collect::<Result<_, _>>()
            .expect("spans");
        assert_eq!(spans[0]["Name"], "build");
        let failed = spans[1..].iter().filter(|span| span["Status"]["Code"] == "Error");
        assert_eq!(failed.count(), 1, "{}", trace.stdout);
    }

    let nobody = sandbox.daemon.buildctl(["debug", "logs", "--trace", "nobody"]).run().assert_fails();
    assert!(nobody.text().contains("ref nobody not found"), "{}", nobody.text());
    sandbox.daemon.buildctl(["debug", "ctl", "--pin", &good]).run().assert_ok();
    let pruned = sandbox.daemon.buildctl(["prune-histories"]).run().assert_ok().stdout;
    assert!(pruned.contains(&bad) && !pruned.contains(&good), "{pruned}");
    sandbox.daemon.buildctl(["debug", "ctl", "--unpin", &good]).run().assert_ok();
    let format = "{{.Record.Ref}} {{.Record.Generation}}";
    let pruned = sandbox.daemon.buildctl(["prune-histories", "--format", format]).run().assert_ok().stdout;
    assert_eq!(pruned, format!("{good} 2\n"));
    let content = sandbox.daemon.root().join("history/content/blobs/sha256");
    wait_for("blobs to go with their records", DEADLINE, || {
        fs_err::read_dir(&content).expect("a directory").next().is_none().then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn records_tell_how_builds_ended() {
    let sandbox = Sandbox::new();
    let channel = connect(&sandbox).await;
    let mut control = ControlClient::new(channel.clone());

    let good = request("good");
    solve_request(&channel, good.clone()).await.expect("builds");
    let internal = SolveRequest { internal: true, ..request("internal") };
    solve_request(&channel, internal.clone()).await.expect("builds");
    let image = SolveRequest {
        exporters: vec![buildkit_api_services_control::Exporter {
            r#type: "image".to_owned(),
            attrs: BTreeMap::new(),
        }],
        ..request("image")
    };
    let response = solve_request(&channel, image.clone()).await.expect("builds").exporter_response;
    let run = shell(&scratch(), "exit 1");
    let bad = SolveRequest {
        definition: Some(Definition::decode(&marshal(&run)[..]).expect("a definition")),
        ..request("bad")
    };
    let error = RemoteError::from_status(&solve_request(&channel, bad.clone()).await.expect_err("no shell"));

    // Whoever asks right after the end of a build finds it.
    let all = records(&channel, BuildHistoryRequest::default()).await;
    let names: Vec<_> = all.keys().cloned().collect();
    let mut expected = vec![good.r#ref.clone(), image.r#ref.clone(), bad.r#ref.clone()];
    expected.sort();
    assert_eq!(names, expected, "and not the internal one");

    let record = &all[&good.r#ref];
    assert_eq!((record.num_total_steps, record.num_completed_steps), (1, 1));
    assert!(record.error.is_none() && record.trace.is_some() && record.completed_at.is_some());

    let record = &all[&image.r#ref];
    assert_eq!(record.exporter_response, response);
    let result = record.result.as_ref().expect("an image");
    assert_eq!(result.results[&0].digest, response["containerimage.digest"]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&blob(&sandbox, &result.results[&0].digest).await).expect("a manifest");
    assert_eq!(manifest["schemaVersion"], 2);

    let record = &all[&bad.r#ref];
    let recorded = record.error.as_ref().expect("an error");
    assert_eq!((recorded.code, &recorded.message), (error.kind.code(), &error.message));
    assert!(recorded.details.is_empty());
    let external = record.external_error.as_ref().expect("details");
    let status = rpc::Status::decode(&blob(&sandbox, &external.digest).await[..]).expect("a status");
    let whole = RemoteError::from_rpc(status);
    let has_vertex = whole
        .details
        .iter()
        .any(|detail| matches!(buildkit_solver_errdefs::parse(detail), Some(ParsedDetail::Vertex(_))));
    assert!(has_vertex, "{whole:?}");

    for (filter, count) in
        [("status==error", 1), ("status!=error", 2), ("duration>1h", 0), ("startedAt>1h", 3)]
    {
        let request = BuildHistoryRequest { filter: vec![filter.to_owned()], ..Default::default() };
        assert_eq!(records(&channel, request).await.len(), count, "{filter}");
    }
    let newest = records(&channel, BuildHistoryRequest { limit: 1, ..Default::default() }).await;
    assert!(newest.contains_key(&bad.r#ref), "{newest:?}");
    assert!(
        records(&channel, BuildHistoryRequest { active_only: true, ..Default::default() }).await.is_empty()
    );
    let nonsense = BuildHistoryRequest { filter: vec!["startedAt>soon".to_owned()], ..Default::default() };
    let error = control.listen_build_history(nonsense).await.expect_err("is refused");
    assert!(error.message().contains("invalid time soon"), "{error}");

    // Progress comes from the record.
    let status = StatusRequest { r#ref: bad.r#ref.clone() };
    let mut progress = control.status(status).await.expect("answers").into_inner();
    let mut errors = Vec::new();
    while let Some(message) = progress.message().await.expect("a message") {
        errors.extend(
            message.vertexes.into_iter().map(|vertex| vertex.error).filter(|error| !error.is_empty()),
        );
    }
    assert_eq!(errors.len(), 1, "{errors:?}");

    let update = |reference: &str, pinned, delete, finalize| UpdateBuildHistoryRequest {
        r#ref: reference.to_owned(),
        pinned,
        delete,
        finalize,
    };
    control.update_build_history(update(&good.r#ref, false, false, true)).await.expect("is whole");
    control.update_build_history(update(&good.r#ref, true, true, true)).await.expect("deletes");
    assert_eq!(records(&channel, BuildHistoryRequest::default()).await.len(), 2);
    let error =
        control.update_build_history(update(&good.r#ref, true, false, false)).await.expect_err("is gone");
    assert!(error.message().contains("file does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_listened_to_while_they_run() {
    let sandbox = Sandbox::new();
    let channel = connect(&sandbox).await;
    let mut control = ControlClient::new(channel.clone()).max_decoding_message_size(16 << 20);
    let listener = control.listen_build_history(BuildHistoryRequest::default()).await.expect("answers");
    let mut events = listener.into_inner();
    let mut next = async || {
        let event =
            tokio::time::timeout(DEADLINE, events.message()).await.expect("in time").expect("an event");
        event.map(|event| (event.r#type(), event.record.expect("a record")))
    };
    let running = {
        let state = shell(&base(), "echo running; sleep 1000");
        let mut client = sandbox.build(&state).start();
        client.wait_for_text("running\n");
        client
    };
    let (kind, record) = next().await.expect("an event");
    assert_eq!(kind, BuildHistoryEventType::Started);
    let active = listen(&channel, BuildHistoryRequest { active_only: true, ..Default::default() }).await;
    assert_eq!(active.len(), 1);
    let delete =
        UpdateBuildHistoryRequest { r#ref: record.r#ref.clone(), delete: true, ..Default::default() };
    let error = control.update_build_history(delete).await.expect_err("it runs");
    assert!(error.message().contains("still runs"), "{error}");

    let mut running = running;
    running.signal(Signal::KILL);
    running.wait();
    let (kind, canceled) = next().await.expect("an event");
    assert_eq!((kind, &canceled.r#ref), (BuildHistoryEventType::Complete, &record.r#ref));
    let error = canceled.error.expect("an error");
    assert_eq!((error.code, error.message.as_str()), (1, "context canceled"));
}

/// Many at a time, and none is lost; what they ran in does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn all_of_many_builds_are_recorded() {
    let sandbox = Sandbox::new();
    let channel = connect(&sandbox).await;
    let requests: Vec<_> = (0..60).map(|number| request(&format!("{number}"))).collect();
    let builds = requests.iter().map(|request| solve_request(&channel, request.clone()));
    for result in futures::future::join_all(builds).await {
        result.expect("builds");
    }
    let all = records(&channel, BuildHistoryRequest::default()).await;
    assert_eq!(all.len(), requests.len(), "more than are kept, but young");
    for request in &requests {
        assert!(all[&request.r#ref].logs.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b_02_a_killed_daemon_leaves_no_build_running() {
    let mut sandbox =
        Sandbox::with(DaemonOptions::new().config("[history]\nmaxEntries = 1\nmaxAge = \"1s\"\n"));
    let state = shell(&base(), "echo running; sleep 1000");
    let mut client = sandbox.build(&state).start();
    client.wait_for_text("running\n");
    // The database writes behind.
    tokio::time::sleep(Duration::from_secs(2)).await;
    sandbox.daemon.kill();
    client.wait();
    sandbox.daemon.launch();
    let channel = connect(&sandbox).await;
    let events = listen(&channel, BuildHistoryRequest::default()).await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event.r#type(), BuildHistoryEventType::Complete);
    let error = event.record.as_ref().and_then(|record| record.error.as_ref()).expect("an error");
    assert_eq!(error.message, "the daemon ended before the build did");
    sandbox.assert_serves("after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_04_records_have_no_secrets() {
    let mut sandbox = Sandbox::new();
    let canary = "5f0a1c4b-history-canary-7d9e";
    {
        let channel = connect(&sandbox).await;
        let attrs = [
            ("context", format!("https://user:{canary}@localhost/r.git")),
            ("build-arg:API_TOKEN", canary.to_owned()),
            ("cache-imports", format!(r#"[{{"Type":"s3","Attrs":{{"secret_access_key":"{canary}"}}}}]"#)),
        ];
        let request = SolveRequest {
            frontend_attrs: attrs.map(|(key, value)| (key.to_owned(), value)).into(),
            ..request("secret")
        };
        solve_request(&channel, request.clone()).await.expect("builds");
        let all = records(&channel, BuildHistoryRequest::default()).await;
        assert_eq!(all[&request.r#ref].frontend_attrs.len(), 3);
        assert!(!format!("{all:?}").contains(canary), "{all:?}");
    }
    sandbox.daemon.stop();
    let found = Run::new("grep").args(["-r", "-l", canary]).arg(sandbox.daemon.dir()).run();
    assert_eq!(found.stdout, "", "the secret is on disk");
}
