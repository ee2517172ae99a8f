use buildkit_util_ocispec::History;

use crate::Result;
use crate::budget::size_of_texts;
use crate::convert::Converter;
use crate::epoch;
use crate::stage::StageId;

const COMMENT: &str = "buildkit.dockerfile.v0";

impl Converter<'_> {
    /// Tells the image how it came to be: by an instruction that makes no layer.
    pub(super) fn note(&mut self, id: StageId, text: String) -> Result<()> {
        self.push_history(id, text, false)
    }

    /// The same of an instruction that makes one.
    pub(super) fn note_layer(&mut self, id: StageId, text: String) -> Result<()> {
        self.push_history(id, text, true)
    }

    fn push_history(&mut self, id: StageId, created_by: String, has_layer: bool) -> Result<()> {
        // What is told of an instruction is about what it adds to the image.
        self.options.budget.take(2 * size_of_texts([created_by.as_str()]))?;
        self.stages[id].image.history.push(History {
            created: self.epoch.map(epoch::rfc3339),
            created_by,
            author: String::new(),
            comment: COMMENT.to_owned(),
            empty_layer: !has_layer,
        });
        Ok(())
    }
}
