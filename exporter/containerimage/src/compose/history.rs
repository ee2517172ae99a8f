use buildkit_cache::LayerInfo;
use buildkit_exporter_util_epoch::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::ComposeError;

/// Marks what the exporter added.
const COMMENT: &str = "buildkit.exporter.image.v0";
/// Stands where nobody said what made a layer.
const NO_DESCRIPTION: &str = "created by buildkit";

/// How one layer came to be, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// By which instruction.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub created_by: String,
    /// By whom.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub author: String,
    /// By which program, mostly.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub comment: String,
    /// It made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub empty_layer: bool,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The history in a configuration; `None` if it has none, which is written otherwise than an empty one.
pub(super) fn read(config: &[u8]) -> Result<Option<Vec<History>>, serde_json::Error> {
    #[derive(Default, Deserialize)]
    struct Part {
        #[serde(default)]
        history: Option<Vec<Option<History>>>,
    }
    let part: Option<Part> = serde_json::from_slice(config)?;
    let history = part.unwrap_or_default().history;
    Ok(history.map(|entries| entries.into_iter().map(Option::unwrap_or_default).collect()))
}

/// Makes a history tell of each of `layers` layers, with a time for every entry. `infos` are those of the
/// topmost layers.
pub(super) fn normalize(
    history: Option<Vec<History>>,
    layers: usize,
    infos: &[LayerInfo],
) -> Option<Vec<History>> {
    let info = |layer: usize| infos.get((layer + infos.len()).checked_sub(layers)?);
    let made_layer = |entries: &[History]| entries.iter().filter(|entry| !entry.empty_layer).count();
    let mut entries = history;
    let told = made_layer(entries.as_deref().unwrap_or_default());
    if told > layers {
        tracing::warn!(told, layers, "history of an image tells of more layers than it has");
        let mut seen = 0;
        for entry in entries.iter_mut().flatten() {
            entry.empty_layer |= seen >= layers;
            seen += usize::from(!entry.empty_layer);
        }
    }
    for layer in told..layers {
        entries.get_or_insert_default().push(History {
            created: info(layer).map(|info| info.created_at.into()),
            created_by: info(layer).map_or_else(String::new, |info| match info.description.as_str() {
                "" => NO_DESCRIPTION.to_owned(),
                description => description.to_owned(),
            }),
            comment: COMMENT.to_owned(),
            ..History::default()
        });
    }
    let list = entries.as_deref_mut().unwrap_or_default();
    for (layer, entry) in list.iter_mut().filter(|entry| !entry.empty_layer).enumerate() {
        entry.created = entry.created.or_else(|| info(layer).map(|info| info.created_at.into()));
    }
    fill_times(list);
    entries
}

/// Entries without a time get that of the entry before them, and those before the first new layer get the
/// time of that: it is not the base image that they came with.
fn fill_times(entries: &mut [History]) {
    let mut time = None;
    let mut has_gap = false;
    for entry in entries.iter() {
        if entry.created.is_none() {
            has_gap = true;
            continue;
        }
        time = entry.created;
        if has_gap {
            break;
        }
    }
    let mut has_gap = false;
    for entry in entries {
        match entry.created {
            Some(_) if has_gap => time = entry.created,
            Some(_) => {}
            None => {
                has_gap = true;
                entry.created = time;
            }
        }
    }
}

/// Brings times down to the epoch, but for the entries that the base image has as well.
pub(super) fn clamp(entries: &mut [History], base: &[History], epoch: Timestamp) {
    let of_base = entries.iter().zip(base).take_while(|(entry, base)| entry == base).count();
    for entry in &mut entries[of_base..] {
        if entry.created.is_none_or(|created| created > epoch) {
            entry.created = Some(epoch);
        }
    }
}

/// The history of a base image.
pub(super) fn of_base(config: &[u8]) -> Result<Vec<History>, ComposeError> {
    let history = read(config).map_err(ComposeError::json("failed to unmarshal base image config"))?;
    Ok(history.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn entries(text: &str) -> Vec<History> {
        // `+` made a layer, `-` did not; a digit is the time.
        text.split_whitespace()
            .map(|word| {
                let (kind, time) = word.split_at(1);
                let created = time.parse().ok().map(|seconds| Timestamp::from_seconds(seconds).unwrap());
                History { created, empty_layer: kind == "-", ..History::default() }
            })
            .collect()
    }

    fn infos(times: &[u64]) -> Vec<LayerInfo> {
        times
            .iter()
            .map(|&time| LayerInfo {
                created_at: UNIX_EPOCH + Duration::from_secs(time),
                description: if time == 9 { String::new() } else { format!("step {time}") },
            })
            .collect()
    }

    fn text(history: &[History]) -> String {
        let words = history.iter().map(|entry| {
            let kind = if entry.empty_layer { "-" } else { "+" };
            let time = entry.created.map(|time| time.seconds().to_string()).unwrap_or_default();
            format!("{kind}{time}")
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_layer_and_time_is_told() {
        for (history, layer_times, expect) in [
            ("+ - +", &[5, 6][..], "+5 -6 +6"),
            // The base is from 3; what has no layer is as old as the first new layer.
            ("+3 - + -", &[1, 7], "+3 -7 +7 -7"),
            ("+3 - -", &[1], "+3 -3 -3"),
            ("- +3", &[1], "-3 +3"),
            ("+3", &[1, 8], "+3 +8"),
            // More than there are.
            ("+1 +2 +3", &[1, 2], "+1 +2 -3"),
            ("+1 -2", &[], "-1 -2"),
            ("- -", &[], "- -"),
        ] {
            let found = normalize(Some(entries(history)), layer_times.len(), &infos(layer_times)).unwrap();
            assert_eq!(text(&found), expect, "{history}");
        }
        let found = normalize(Some(entries("+1")), 3, &infos(&[2, 9])).unwrap();
        let added: Vec<_> = found.iter().map(|entry| (&*entry.created_by, &*entry.comment)).collect();
        assert_eq!(added, [("", ""), ("step 2", COMMENT), (NO_DESCRIPTION, COMMENT)]);
    }

    #[test]
    fn no_history_and_an_empty_one_differ() {
        assert_eq!(normalize(None, 0, &[]), None);
        assert_eq!(normalize(Some(Vec::new()), 0, &[]), Some(Vec::new()));
        assert_eq!(normalize(None, 1, &infos(&[4])).map(|found| text(&found)).as_deref(), Some("+4"));
        // Layers of scratch, of which nothing is known.
        assert_eq!(normalize(None, 1, &[]).map(|found| text(&found)).as_deref(), Some("+"));
    }

    #[test]
    fn times_of_the_base_stay() {
        let epoch = Timestamp::from_seconds(5).unwrap();
        for (base, history, expect) in [
            ("", "+9 +3 -", "+5 +3 -5"),
            ("+9 +8", "+9 +8 +9 +1", "+9 +8 +5 +1"),
            ("+9 +8", "+9 +7 +8", "+9 +5 +5"),
            ("+9 +8 +7", "+9", "+9"),
        ] {
            let mut found = entries(history);
            clamp(&mut found, &entries(base), epoch);
            assert_eq!(text(&found), expect, "{base} / {history}");
        }
    }
}
