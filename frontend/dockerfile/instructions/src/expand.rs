use crate::{Error, Instruction, KeyValue, Mount, Run, SourcesAndDest};

/// Replaces the variables in a word. The error is the caller's own.
pub type Expander<'a, E = Error> = dyn FnMut(&str) -> Result<String, E> + 'a;

impl Instruction {
    /// Replaces the variables in all words that may hold some. Of a `RUN` those are the mounts, whose options
    /// are checked now; of an `EXPOSE` none, because one word may become several ports.
    ///
    /// # Errors
    /// The first error of `expander`, or options of a mount that do not go together.
    pub fn expand<E: From<Error>>(&mut self, expander: &mut Expander<'_, E>) -> Result<(), E> {
        match self {
            Self::Add(it) => {
                words([&mut it.chown, &mut it.chmod, &mut it.checksum], expander)?;
                it.paths.expand(expander)
            }
            Self::Copy(it) => {
                words([&mut it.chown, &mut it.chmod], expander)?;
                it.paths.expand(expander)
            }
            Self::Arg(it) => it.args.iter_mut().try_for_each(|definition| {
                word(&mut definition.key, expander)?;
                definition.value.as_mut().map_or(Ok(()), |value| word(value, expander))
            }),
            Self::Env(it) => pairs(&mut it.env, expander),
            Self::Label(it) if !it.literal => pairs(&mut it.labels, expander),
            Self::Run(it) => it.expand(expander),
            Self::StopSignal(it) => word(&mut it.signal, expander),
            Self::User(it) => word(&mut it.user, expander),
            Self::Volume(it) => words(&mut it.volumes, expander),
            Self::Workdir(it) => word(&mut it.path, expander),
            Self::Cmd(_) | Self::Entrypoint(_) | Self::Expose(_) | Self::Healthcheck(_) | Self::Label(_) => {
                Ok(())
            }
            Self::Maintainer(_) | Self::Onbuild(_) | Self::Shell(_) => Ok(()),
        }
    }

    /// Replaces the variables in the here-documents of a `COPY` or `ADD` that are not quoted. In them quotes
    /// have no meaning: `expander` is to leave them.
    ///
    /// # Errors
    /// The first error of `expander`.
    pub fn expand_raw<E>(&mut self, expander: &mut Expander<'_, E>) -> Result<(), E> {
        let paths = match self {
            Self::Add(it) => &mut it.paths,
            Self::Copy(it) => &mut it.paths,
            _ => return Ok(()),
        };
        let mut documents = paths.source_contents.iter_mut().filter(|content| content.expand);
        documents.try_for_each(|content| word(&mut content.data, expander))
    }
}

impl Run {
    /// Reads the mounts again, with their variables replaced.
    fn expand<E: From<Error>>(&mut self, expander: &mut Expander<'_, E>) -> Result<(), E> {
        let mounts = self.mount_flags.iter().map(|flag| Mount::parse(flag, Some(&mut *expander)));
        self.mounts = mounts.collect::<Result<_, E>>()?;
        Ok(())
    }
}

impl SourcesAndDest {
    fn expand<E>(&mut self, expander: &mut Expander<'_, E>) -> Result<(), E> {
        words(&mut self.source_paths, expander)?;
        word(&mut self.dest_path, expander)
    }
}

fn word<E>(word: &mut String, expander: &mut Expander<'_, E>) -> Result<(), E> {
    *word = expander(word)?;
    Ok(())
}

fn words<'w, E>(
    words: impl IntoIterator<Item = &'w mut String>,
    expander: &mut Expander<'_, E>,
) -> Result<(), E> {
    words.into_iter().try_for_each(|it| word(it, expander))
}

fn pairs<E>(pairs: &mut [KeyValue], expander: &mut Expander<'_, E>) -> Result<(), E> {
    pairs.iter_mut().try_for_each(|pair| {
        word(&mut pair.key, expander)?;
        word(&mut pair.value, expander)
    })
}
