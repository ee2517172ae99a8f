//! Graphs op by op, for those that no builder makes.

use buildkit_solver_pb::{
    Definition, ExecOp, FileAction, FileActionMkDir, FileOp, Input, Meta, Mount, Op, file_action::Action, op,
};
use bytes::Bytes;

/// Ops in the order of a definition.
#[derive(Default)]
pub struct Graph(pub Vec<Bytes>);

impl Graph {
    /// Adds an op and gives its digest.
    pub fn add(&mut self, op: &Op) -> String {
        let digest = op.digest().to_string();
        self.0.push(op.encode_deterministic().into());
        digest
    }

    /// Ends the graph with output 0 of `digest`.
    pub fn finish(mut self, digest: &str) -> Definition {
        self.add(&Op { inputs: vec![input(digest, 0)], ..Op::default() });
        Definition { def: self.0, ..Definition::default() }
    }
}

/// An input: output `index` of the op of this digest.
pub fn input(digest: &str, index: i64) -> Input {
    Input { digest: digest.to_owned(), index }
}

/// An op with inputs.
pub fn of(inputs: Vec<Input>, op: op::Op) -> Op {
    Op { inputs, op: Some(op), ..Op::default() }
}

/// A file op.
pub fn file(inputs: Vec<Input>, actions: Vec<FileAction>) -> Op {
    of(inputs, op::Op::File(FileOp { actions }))
}

/// An action that makes `/d`.
pub fn mkdir(input: i64, output: i64) -> FileAction {
    let action = Action::Mkdir(FileActionMkDir {
        path: "/d".into(),
        mode: 0o755,
        timestamp: -1,
        ..Default::default()
    });
    FileAction { input, secondary_input: -1, output, action: Some(action) }
}

/// A definition whose last op is `op` with one good input.
pub fn with_input(op: impl FnOnce(String) -> Op) -> Definition {
    let mut graph = Graph::default();
    let good = graph.add(&file(vec![], vec![mkdir(-1, 0)]));
    let last = graph.add(&op(good));
    graph.finish(&last)
}

/// An exec op that does nothing.
pub fn exec(mounts: Vec<Mount>) -> ExecOp {
    let meta = Meta { args: vec!["/bin/true".into()], cwd: "/".into(), ..Meta::default() };
    ExecOp { meta: Some(meta), mounts, ..ExecOp::default() }
}

/// The mount at `/`.
pub fn root_mount(input: i64, output: i64) -> Mount {
    Mount { input, output, dest: "/".into(), ..Mount::default() }
}
