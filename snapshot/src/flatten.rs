use std::io;
use std::path::PathBuf;

use buildkit_util_overlay::Stack;

use crate::Backend;
use crate::apply::Applier;
use crate::copy::set_times;
use crate::index::{Flat, Piece, Step};
use crate::layered::Inner;

/// Layers of a mount from which on some are put together: every mount and every look-up in it costs
/// time for each layer.
const DEEP: usize = 24;
/// Fewest layers worth putting together.
const RUN: usize = 12;
/// Most files that are put together.
const FILES: u64 = 2000;
/// The kernel takes 500 layers (OVL_MAX_STACK): from here on the number of files does not matter.
const TOO_DEEP: usize = 400;

impl<B: Backend> Inner<B> {
    /// Puts the upper layers of a committed snapshot together in one directory of hard links, if it
    /// has many and they are small. Mounts use the directory; comparisons go on using the layers,
    /// which stay. A failure costs only time.
    pub(crate) fn flatten_if_deep(&self, name: &str) {
        if !self.backend.is_stacked() {
            return;
        }
        let (pieces, count, id) = {
            let mut state = self.state.lock();
            let Ok(pieces) = state.index.pieces(Some(name)) else { return };
            let Some(count) = run(&pieces) else { return };
            let Some(record) = state.index.committed.get_mut(name) else { return };
            // Once is enough, for what is mounted must stay; others use the layers meanwhile.
            if record.flat.is_some() || std::mem::replace(&mut record.flattening, true) {
                return;
            }
            let id = state.index.next_id();
            (pieces, count, id)
        };
        let made = self.flatten(&pieces, count, id);
        let mut state = self.state.lock();
        let inodes = pieces[..count].iter().map(|piece| piece.inodes).sum();
        let below = pieces[count - 1].below.clone();
        let record = state.index.committed.get_mut(name);
        if let Some(record) = record {
            record.flattening = false;
            if made.is_ok() {
                record.flat = Some(Flat { id, below: below.clone(), inodes });
            }
        }
        if let Err(error) = made {
            tracing::warn!(%error, name, "layers of a snapshot not put together");
            drop(state);
            self.delete(id);
            return;
        }
        let step = Step::Flatten { name: name.to_owned(), id, below, inodes };
        if let Err(error) = self.journal(&mut state, &step) {
            tracing::warn!(%error, "flat directory of a snapshot not recorded");
        }
    }

    fn flatten(&self, pieces: &[Piece], count: usize, id: u64) -> io::Result<()> {
        let contents = |pieces: &[Piece]| -> Vec<PathBuf> {
            pieces.iter().map(|piece| self.backend.content(&self.dir(piece.id))).collect()
        };
        let upper = Stack::new(contents(pieces))?;
        let base = if count < pieces.len() { Some(Stack::new(contents(&pieces[count..]))?) } else { None };
        let dir = self.dir(id);
        fs_err::create_dir(&dir)?;
        let top = self.dir(pieces[0].id);
        self.backend.create(&dir, std::slice::from_ref(&top))?;
        let content = self.backend.content(&dir);
        let mut applier = Applier::new(content.clone(), base.clone(), self.backend.userxattr());
        applier.apply(base.as_ref(), Some(&upper), true)?;
        applier.finish()?;
        set_times(&content, &rustix::fs::lstat(self.backend.content(&top))?)
    }
}

/// How many of the upper layers to put together.
fn run(pieces: &[Piece]) -> Option<usize> {
    if pieces.len() < DEEP {
        return None;
    }
    if pieces.len() >= TOO_DEEP {
        return Some(pieces.len() / 2);
    }
    let mut files = 0;
    let count = pieces
        .iter()
        .take_while(|piece| {
            files += piece.inodes;
            files <= FILES
        })
        .count();
    (count >= RUN).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_upper_layers_are_put_together() {
        let check = |inodes: &[u64], expect: Option<usize>| {
            let piece = |inodes: &u64| Piece { id: 1, inodes: *inodes, below: None };
            assert_eq!(run(&inodes.iter().map(piece).collect::<Vec<_>>()), expect);
        };
        check(&[2; 23], None);
        check(&[2; 24], Some(24));
        check(&[100; 24], Some(20));
        check(&[500; 24], None);
        check(&[100_000; 400], Some(200));
        let mut mixed = vec![2; 15];
        mixed.extend([100_000; 15]);
        check(&mixed, Some(15));
    }
}
