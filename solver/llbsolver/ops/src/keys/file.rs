use std::collections::BTreeSet;

use buildkit_solver_pb as pb;
use buildkit_util_gojson::{Base64, Object, to_string};
use buildkit_util_system::path;
use pb::file_action::Action;
use pb::user_opt::User;

use super::{InputKey, KeyMap, Selector, Selectors, cache_type, select};
use crate::spec::{FileInput, FileSpec};

pub(super) fn key(spec: &FileSpec, inputs: usize) -> KeyMap {
    let mut selectors = Selectors::new();
    // An input that an action changes is part of the result as a whole.
    let mut whole = BTreeSet::new();
    let mut actions = Vec::with_capacity(spec.actions.len());
    for action in &spec.actions {
        if let FileInput::Input(input) = action.input {
            whole.insert(input);
        }
        actions.push(match &action.action {
            Action::Mkdir(mkdir) => {
                select_owner(mkdir.owner.as_ref(), &mut selectors);
                to_string(mkdir)
            }
            Action::Mkfile(mkfile) => {
                select_owner(mkfile.owner.as_ref(), &mut selectors);
                to_string(mkfile)
            }
            Action::Symlink(link) => to_string(link),
            Action::Rm(rm) => to_string(rm),
            Action::Copy(copy) => {
                select_owner(copy.owner.as_ref(), &mut selectors);
                match action.secondary {
                    FileInput::Input(input) => {
                        selectors.entry(input).or_default().push(copied(copy));
                        // Where the source is found does not matter when its content decides.
                        let src = path::base(&copy.src).to_owned();
                        to_string(&pb::FileActionCopy { src, ..copy.clone() })
                    }
                    _ => to_string(copy),
                }
            }
        });
    }
    let indexes: Vec<[i64; 3]> = spec.actions.iter().map(|action| action.indexes).collect();
    let mut text = String::new();
    {
        let mut object = Object::new(&mut text);
        object.field("Type", &cache_type("file")).array("Actions", |list| {
            for action in &actions {
                list.item(&Base64(action.as_bytes()));
            }
        });
        if !is_default(&indexes) {
            object.array("indexes", |list| {
                for indexes in &indexes {
                    list.item(&indexes[..]);
                }
            });
        }
    }
    let mut input_keys = vec![InputKey { prepare: true, ..InputKey::default() }; inputs];
    for (input, selectors) in selectors {
        let Some(key) = input_keys.get_mut(input) else { continue };
        if whole.contains(&input) {
            continue;
        }
        let mut paths: Vec<&str> = selectors.iter().map(|selector| selector.path.as_str()).collect();
        // Descending, as in keys of existing caches.
        paths.sort_unstable_by(|a, b| b.cmp(a));
        key.selector = Some(select::digest(paths));
        key.content = Some(select::dedupe(&selectors));
    }
    KeyMap::new(text, input_keys)
}

fn copied(copy: &pb::FileActionCopy) -> Selector {
    Selector {
        path: copy.src.clone(),
        wildcard: copy.allow_wildcard && has_wildcard(&copy.src),
        follow_links: copy.follow_symlink,
        include: copy.include_patterns.clone(),
        exclude: copy.exclude_patterns.clone(),
        required: copy.required_paths.clone(),
    }
}

fn has_wildcard(pattern: &str) -> bool {
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Names are looked up in the files of an input.
fn select_owner(owner: Option<&pb::ChownOpt>, selectors: &mut Selectors) {
    let Some(owner) = owner else { return };
    for (who, file) in [(&owner.user, "/etc/passwd"), (&owner.group, "/etc/group")] {
        let Some(User::ByName(named)) = who.as_ref().and_then(|who| who.user.as_ref()) else {
            continue;
        };
        let Ok(input) = usize::try_from(named.input) else { continue };
        selectors.entry(input).or_default().push(Selector {
            path: file.to_owned(),
            follow_links: true,
            ..Selector::default()
        });
    }
}

/// Whether the indexes are those of a chain of actions with one result. Old daemons left all indexes
/// out; for the commonest ones that still holds.
fn is_default(indexes: &[[i64; 3]]) -> bool {
    let count = indexes.len();
    indexes.iter().enumerate().all(|(at, &[input, secondary, output])| {
        // The number of actions stands where that of inputs should; keys of existing caches have it.
        let previous = if at == 0 { 0 } else { (count + at - 1) as i64 };
        let expected_output = if at + 1 == count { 0 } else { -1 };
        input == previous && matches!(secondary, -1 | 1) && output == expected_output
    })
}
