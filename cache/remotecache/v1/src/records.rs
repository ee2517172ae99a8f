use buildkit_exporter_util_epoch::Timestamp;
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::Descriptor;

/// Keys and the layers that they lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// All layers. Those that are to be unpacked say in an annotation what they were before they were
    /// compressed.
    pub layers: Vec<Descriptor>,
    /// Keys; each stands after those that lead to it.
    pub records: Vec<Record>,
}

impl Records {
    /// Forgets the results that need a layer which is not to be had. Keys stay: they lead to others.
    pub fn retain_layers(&mut self, is_there: impl Fn(&Descriptor) -> bool) {
        let is_there: Vec<bool> = self.layers.iter().map(is_there).collect();
        for record in &mut self.records {
            record.results.retain(|result| {
                result.layers.iter().all(|&place| is_there.get(place).copied().unwrap_or_default())
            });
        }
    }
}

/// A key with its results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Digest of the key, with the index of the output folded in.
    pub digest: Digest,
    /// Per input the records that lead here.
    pub inputs: Vec<Vec<Link>>,
    /// Its results.
    pub results: Vec<RecordResult>,
}

/// A record that leads to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Place of the record.
    pub record: usize,
    /// What is used of it, if not all.
    pub selector: Option<Digest>,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordResult {
    /// Places of its layers, lowest first.
    pub layers: Vec<usize>,
    /// When it was made.
    pub created_at: Timestamp,
}
