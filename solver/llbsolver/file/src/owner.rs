use buildkit_solver_pb::{ChownOpt, UserOpt, user_opt::User};
use buildkit_util_system::{Root, UserError, lookup_group, lookup_user};

use crate::{Error, Owner, Result};

/// The owner that an action asks for. Names are looked up in `users` and `groups`; who is not in
/// there is root.
///
/// # Errors
/// When a name is to be looked up and there is no tree to do so in, or the files there are not fit.
pub fn resolve_owner(
    chown: Option<&ChownOpt>,
    users: Option<&Root>,
    groups: Option<&Root>,
) -> Result<Option<Owner>> {
    let Some(chown) = chown else { return Ok(None) };
    let mut owner = Owner { uid: 0, gid: 0 };
    let of = |user: &Option<UserOpt>| user.as_ref().and_then(|user| user.user.clone());
    match of(&chown.user) {
        Some(User::ById(id)) => owner = Owner { uid: id, gid: id },
        Some(User::ByName(named)) => {
            let root = users.ok_or_else(|| Error::Invalid("invalid missing user mount".to_owned()))?;
            // A colon would ask for a group as well, and nobody has one in the name.
            if !named.name.is_empty() && !named.name.contains(':') {
                match lookup_user(root, &named.name) {
                    Ok(user) => owner = Owner { uid: user.uid, gid: user.gid },
                    Err(UserError::UnknownUser(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        None => {}
    }
    match of(&chown.group) {
        Some(User::ById(id)) => owner.gid = id,
        Some(User::ByName(named)) => {
            let root = groups.ok_or_else(|| Error::Invalid("invalid missing group mount".to_owned()))?;
            match lookup_group(root, &named.name) {
                Ok(gid) => owner.gid = gid,
                Err(UserError::UnknownGroup(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        None => {}
    }
    Ok(Some(owner))
}
