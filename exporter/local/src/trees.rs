use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use buildkit_cache::{ImmutableRef, LocalMount};
use buildkit_errdefs::Classify;
use buildkit_exporter::{Error, ExportResult};
use buildkit_exporter_containerimage_exptypes::{ResultPlatform, default_platform, key, parse_platforms};
use buildkit_solver_result::Refs;
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_fsutil::types::Stat;
use buildkit_util_fsutil::{
    Dir, DirFs, Error as FsError, FileSystem, FilterFs, FilterOptions, MapResult, StaticFs, SubDirFs, Walk,
    mode, walk_all,
};

use crate::TreeOptions;

/// The files of one platform of a result.
pub struct PlatformTree {
    /// Id of the platform, such as `linux/amd64`.
    pub id: String,
    /// The files. They stay mounted as long as this is held.
    pub fs: Arc<dyn FileSystem>,
    /// The time of all files, in seconds, if they do not have their own.
    pub epoch: Option<i64>,
}

/// Opens the trees of a result, in the order of its platforms; `true` if the result has several.
///
/// # Errors
/// When the result does not say which tree is for which platform, or one cannot be mounted.
pub async fn open_trees(
    result: &ExportResult,
    options: &TreeOptions,
) -> Result<(Vec<PlatformTree>, bool), Error> {
    let several = matches!(&result.refs, Refs::Many(refs) if !refs.is_empty());
    if several && !result.metadata.contains_key(key::PLATFORMS) {
        return Err(invalid("unable to export multiple refs, missing platforms mapping"));
    }
    let platforms = parse_platforms(&result.metadata, &default_platform())
        .map_err(|error| Error::Invalid(error.to_string()))?;
    if !several && platforms.len() > 1 {
        return Err(invalid("unable to export multiple platforms without map"));
    }
    let mut trees = Vec::new();
    for ResultPlatform { id, .. } in &platforms {
        let reference =
            result.find(id).ok_or_else(|| Error::Invalid(format!("failed to find ref for ID {id}")))?;
        trees.push(open_tree(result, options, id, reference).await?);
    }
    Ok((trees, several))
}

fn invalid(message: &str) -> Error {
    Error::Invalid(message.to_owned())
}

async fn open_tree(
    result: &ExportResult,
    options: &TreeOptions,
    id: &str,
    reference: Option<&ImmutableRef>,
) -> Result<PlatformTree, Error> {
    let epoch = options.epoch_of(result, id)?;
    let fs: Arc<dyn FileSystem> = match reference {
        None => Arc::new(StaticFs::new()),
        Some(reference) => {
            let mount = reference.mount_local().await.map_err(|source| Error::Other {
                action: "failed to mount the result".to_owned(),
                kind: source.kind(),
                source: source.into(),
            })?;
            let fs = DirFs::open(mount.path()).map_err(fs_error("failed to open the result"))?;
            Arc::new(Mounted { fs, _mount: mount })
        }
    };
    let Some(seconds) = epoch else { return Ok(PlatformTree { id: id.to_owned(), fs, epoch }) };
    let time = seconds.saturating_mul(1_000_000_000);
    let map = move |_: &str, stat: &mut Stat| {
        stat.mod_time = time;
        MapResult::Keep
    };
    let filter = FilterOptions { map: Some(Arc::new(map)), ..FilterOptions::default() };
    let fs = Arc::new(FilterFs::new(fs, &filter).map_err(fs_error("failed to open the result"))?);
    Ok(PlatformTree { id: id.to_owned(), fs, epoch })
}

pub(crate) fn fs_error(action: &str) -> impl Fn(FsError) -> Error + use<> {
    let action = action.to_owned();
    move |source| Error::Other { action: action.clone(), kind: source.kind(), source: source.into() }
}

/// Puts each tree into a directory with the name of its platform.
///
/// # Errors
/// When two platforms would have one directory.
pub fn in_directories(trees: &[PlatformTree]) -> Result<SubDirFs, Error> {
    let dirs = trees.iter().map(|tree| Dir {
        stat: Stat {
            path: tree.id.replace('/', "_"),
            mode: mode::DIR | 0o755,
            mod_time: tree.epoch.unwrap_or(0).saturating_mul(1_000_000_000),
            ..Stat::default()
        },
        fs: tree.fs.clone(),
    });
    SubDirFs::new(dirs.collect()).map_err(fs_error("failed to export platforms"))
}

/// Checks that no file is in two of the trees.
pub(crate) async fn check_disjoint(trees: &[PlatformTree]) -> Result<(), Error> {
    let trees: Vec<_> = trees.iter().map(|tree| (tree.id.clone(), tree.fs.clone())).collect();
    let check = move || {
        let mut owners: HashMap<String, usize> = HashMap::new();
        for (index, (id, fs)) in trees.iter().enumerate() {
            walk_all(fs.as_ref(), |stat| {
                if mode::is_dir(stat.mode) {
                    return Ok(());
                }
                match owners.entry(stat.path) {
                    std::collections::hash_map::Entry::Vacant(slot) => {
                        slot.insert(index);
                        Ok(())
                    }
                    std::collections::hash_map::Entry::Occupied(owner) => Err(FsError::Compose(format!(
                        "cannot overwrite {} from {} with {id} when split option is disabled",
                        owner.key(),
                        trees[*owner.get()].0
                    ))),
                }
            })?;
        }
        Ok(())
    };
    match spawn_blocking(check).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(FsError::Compose(message))) => Err(Error::Invalid(message)),
        Ok(Err(error)) => Err(fs_error("failed to compare platforms")(error)),
        Err(error) => Err(fs_error("failed to compare platforms")(FsError::Task(error))),
    }
}

/// A tree and what keeps it visible.
struct Mounted {
    fs: DirFs,
    _mount: LocalMount,
}

impl FileSystem for Mounted {
    fn walk(&self, target: &str) -> Result<Box<dyn Walk + '_>, FsError> {
        self.fs.walk(target)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, FsError> {
        self.fs.open(path)
    }
}
