//! Ops in protobuf's JSON, as details of errors carry them.
//!
//! The JSON of [`buildkit_solver_pb`] is Go's, which differs where a message has a oneof: there the
//! protobuf form has the member itself. Readers of the protobuf form take numbers for 64-bit fields
//! and enums, and the names of the definition for fields.

use buildkit_solver_pb::{self as pb, file_action::Action, user_opt::User};
use buildkit_util_gojson::{Array, Object, to_string};

/// Larger ops are left out, in bytes: error details travel in headers.
const MAX_SIZE: usize = 1 << 20;

/// The op in protobuf's JSON, unless it is large.
pub(crate) fn op_json(op: &pb::Op) -> Option<String> {
    use pb::op::Op;
    let mut out = String::new();
    {
        let mut object = Object::new(&mut out);
        if !op.inputs.is_empty() {
            object.field("inputs", &op.inputs);
        }
        match op.op.as_ref()? {
            Op::Exec(op) => object.field("exec", op),
            Op::Source(op) => object.field("source", op),
            Op::File(op) => object.object("file", |object| {
                object.array("actions", |list| op.actions.iter().for_each(|action| add(list, action)));
            }),
            Op::Build(op) => object.field("build", op),
            Op::Merge(op) => object.field("merge", op),
            Op::Diff(op) => object.field("diff", op),
            Op::Passthrough(op) => object.field("passthrough", op),
        };
        if let Some(platform) = &op.platform {
            object.field("platform", platform);
        }
    }
    (out.len() <= MAX_SIZE).then_some(out)
}

fn add(list: &mut Array<'_>, action: &pb::FileAction) {
    list.object(|object| {
        object
            .omit_empty("input", &action.input)
            .omit_empty("secondaryInput", &action.secondary_input)
            .omit_empty("output", &action.output);
        let (name, mut json, owner) = match &action.action {
            Some(Action::Copy(copy)) => {
                let plain = pb::FileActionCopy { owner: None, ..copy.clone() };
                ("copy", to_string(&plain), copy.owner.as_ref())
            }
            Some(Action::Mkfile(mkfile)) => {
                let plain = pb::FileActionMkFile { owner: None, ..mkfile.clone() };
                ("mkfile", to_string(&plain), mkfile.owner.as_ref())
            }
            Some(Action::Mkdir(mkdir)) => {
                let plain = pb::FileActionMkDir { owner: None, ..mkdir.clone() };
                ("mkdir", to_string(&plain), mkdir.owner.as_ref())
            }
            Some(Action::Symlink(link)) => {
                let plain = pb::FileActionSymlink { owner: None, ..link.clone() };
                ("symlink", to_string(&plain), link.owner.as_ref())
            }
            Some(Action::Rm(rm)) => ("rm", to_string(rm), None),
            None => return,
        };
        if let Some(owner) = owner {
            // In the place of the closing brace.
            json.pop();
            if json.len() > 1 {
                json.push(',');
            }
            json.push_str("\"owner\":");
            write_owner(&mut json, owner);
            json.push('}');
        }
        object.field_with(name, |out| out.push_str(&json));
    });
}

fn write_owner(out: &mut String, owner: &pb::ChownOpt) {
    let mut object = Object::new(out);
    for (name, who) in [("user", &owner.user), ("group", &owner.group)] {
        let Some(who) = who else { continue };
        object.object(name, |object| {
            match &who.user {
                Some(User::ByName(named)) => object.field("byName", named),
                Some(User::ById(id)) => object.field("byID", id),
                None => object,
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oneofs_are_members() {
        let user = |user| Some(pb::UserOpt { user: Some(user) });
        let owner = pb::ChownOpt {
            user: user(User::ByName(pb::NamedUserOpt { name: "u<".to_owned(), input: 1 })),
            group: user(User::ById(0)),
        };
        let mkdir = pb::FileActionMkDir { path: "/d".to_owned(), owner: Some(owner), ..Default::default() };
        let link = pb::FileActionSymlink { newpath: "/n".to_owned(), ..Default::default() };
        let empty =
            pb::FileActionCopy { owner: Some(pb::ChownOpt::default()), ..pb::FileActionCopy::default() };
        let action =
            |input, action| pb::FileAction { input, output: -1, action: Some(action), ..Default::default() };
        let op = pb::Op {
            inputs: vec![pb::Input { digest: "sha256:x".to_owned(), index: 2 }],
            platform: Some(pb::Platform::new("linux", "amd64")),
            op: Some(pb::op::Op::File(pb::FileOp {
                actions: vec![
                    action(0, Action::Mkdir(mkdir)),
                    action(1, Action::Symlink(link)),
                    action(2, Action::Copy(empty)),
                ],
            })),
            ..pb::Op::default()
        };
        let json = op_json(&op).expect("small");
        assert_eq!(
            json,
            "{\"inputs\":[{\"digest\":\"sha256:x\",\"index\":2}],\"file\":{\"actions\":[\
             {\"output\":-1,\"mkdir\":{\"path\":\"/d\",\"owner\":{\"user\":{\"byName\":\
             {\"name\":\"u\\u003c\",\"input\":1}},\"group\":{\"byID\":0}}}},\
             {\"input\":1,\"output\":-1,\"symlink\":{\"newpath\":\"/n\"}},\
             {\"input\":2,\"output\":-1,\"copy\":{\"owner\":{}}}]},\
             \"platform\":{\"Architecture\":\"amd64\",\"OS\":\"linux\"}}"
        );
        serde_json::from_str::<serde_json::Value>(&json).expect("JSON");
    }

    #[test]
    fn large_ops_are_left_out() {
        let data = vec![0; MAX_SIZE].into();
        let mkfile = Action::Mkfile(pb::FileActionMkFile { data, ..Default::default() });
        let actions = vec![pb::FileAction { action: Some(mkfile), ..Default::default() }];
        let op = pb::Op { op: Some(pb::op::Op::File(pb::FileOp { actions })), ..pb::Op::default() };
        assert_eq!(op_json(&op), None);
        assert_eq!(op_json(&pb::Op::default()), None);
    }
}
