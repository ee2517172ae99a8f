use std::cmp::Ordering;
use std::time::SystemTime;

use buildkit_api_services_control::BuildHistoryRecord;
use buildkit_util_gitutil::GitUrl;
use buildkit_util_gotext::{csv_fields, parse_duration};
use prost_types::Timestamp;

use crate::Error;

/// Most bytes of all filters of one request.
const LONGEST: usize = 8 << 10;

/// What the error of a build says that was given up.
const CANCELED: &str = "context canceled";

/// Chooses records: one of several filters must match, and of one filter, all parts between its commas.
///
/// A part is `startedAt`, `completedAt` or `duration`, one of `>`, `>=`, `<` and `<=`, and a value: an age such as
/// `24h` or a time of RFC 3339, for the last one a duration. Or it is a selector of `ref`, `status` (`running`,
/// `completed`, `error`, `canceled`) or `repository` in containerd's filter grammar.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// None matches everything.
    any: Vec<Filter>,
}

#[derive(Debug)]
struct Filter {
    times: Vec<TimeTest>,
    fields: buildkit_cache::Filter,
}

/// Whether a value that compares so with the bound is wanted.
type IsMet = fn(Ordering) -> bool;

#[derive(Debug)]
struct TimeTest {
    field: TimeField,
    is_met: IsMet,
    /// Seconds since 1970, or nanoseconds of a duration.
    bound: i64,
}

#[derive(Clone, Copy, Debug)]
enum TimeField {
    StartedAt,
    CompletedAt,
    Duration,
}

impl Filters {
    /// Reads filters as of a moment.
    ///
    /// # Errors
    /// When one of them has not the form, or they are longer than makes sense.
    pub(crate) fn parse(filters: &[String], now: SystemTime) -> Result<Self, Error> {
        if filters.iter().map(String::len).sum::<usize>() > LONGEST {
            return Err(Error::Invalid(format!("History filters have more than {LONGEST} bytes")));
        }
        let any = filters.iter().map(|filter| Filter::parse(filter, now)).collect::<Result<_, _>>()?;
        Ok(Self { any })
    }

    /// Whether a record is wanted.
    pub(crate) fn match_record(&self, record: &BuildHistoryRecord) -> bool {
        self.any.is_empty() || self.any.iter().any(|filter| filter.matches(record))
    }
}

impl Filter {
    fn parse(text: &str, now: SystemTime) -> Result<Self, Error> {
        let (mut times, mut fields) = (Vec::new(), Vec::new());
        // Nothing is no line, but a filter that chooses everything.
        let parts = if text.is_empty() { Ok(Vec::new()) } else { csv_fields(text) };
        for part in parts.map_err(|error| Error::Invalid(error.to_string()))? {
            match TimeTest::parse(&part, now)? {
                Some(test) => times.push(test),
                None => fields.push(part),
            }
        }
        let fields = buildkit_cache::Filter::parse(&[fields.join(",")])
            .map_err(|source| Error::Filter { filter: text.to_owned(), source })?;
        Ok(Self { times, fields })
    }

    fn matches(&self, record: &BuildHistoryRecord) -> bool {
        self.times.iter().all(|test| test.matches(record))
            && self.fields.matches(&|path: &[&str]| match path.first() {
                Some(&"ref") => Some(record.r#ref.clone()),
                Some(&"status") => Some(status(record).to_owned()),
                Some(&"repository") => repository(record),
                _ => None,
            })
    }
}

impl TimeTest {
    /// `None` for a part that is about no time.
    fn parse(part: &str, now: SystemTime) -> Result<Option<Self>, Error> {
        const OPERATORS: [(&str, IsMet); 4] = [
            (">=", Ordering::is_ge),
            ("<=", Ordering::is_le),
            (">", Ordering::is_gt),
            ("<", Ordering::is_lt),
        ];
        let found = OPERATORS.iter().find_map(|(sign, is_met)| Some((part.split_once(sign)?, *is_met)));
        let Some(((name, value), is_met)) = found else { return Ok(None) };
        let field = match name {
            "startedAt" => TimeField::StartedAt,
            "completedAt" => TimeField::CompletedAt,
            "duration" => TimeField::Duration,
            _ => return Ok(None),
        };
        let bound = match field {
            TimeField::Duration => {
                parse_duration(value).map_err(|_| Error::Invalid(format!("invalid duration {value}")))?
            }
            _ => match parse_duration(value) {
                Ok(age) => {
                    let now = i128::from(nanos(&now.into()));
                    i64::try_from((now - i128::from(age)).div_euclid(1_000_000_000)).unwrap_or(i64::MIN)
                }
                Err(_) => {
                    let time = value.parse::<Timestamp>();
                    time.map_err(|_| Error::Invalid(format!("invalid time {value}")))?.seconds
                }
            },
        };
        Ok(Some(Self { field, is_met, bound }))
    }

    fn matches(&self, record: &BuildHistoryRecord) -> bool {
        let created = record.created_at.unwrap_or_default();
        // What is not over ended in 1970 and took no time, for the original.
        let value = match (self.field, &record.completed_at) {
            (TimeField::StartedAt, _) => created.seconds,
            (TimeField::CompletedAt, Some(completed)) => completed.seconds,
            (TimeField::Duration, Some(completed)) => nanos(completed).saturating_sub(nanos(&created)),
            (_, None) => 0,
        };
        (self.is_met)(value.cmp(&self.bound))
    }
}

fn nanos(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

/// How a build stands.
fn status(record: &BuildHistoryRecord) -> &'static str {
    match (&record.completed_at, &record.error) {
        (None, _) => "running",
        (Some(_), None) => "completed",
        (Some(_), Some(error)) if error.message.contains(CANCELED) => "canceled",
        (Some(_), Some(_)) => "error",
    }
}

/// What was built.
fn repository(record: &BuildHistoryRecord) -> Option<String> {
    if let Some(source) = record.frontend_attrs.get("vcs:source") {
        return Some(source.clone());
    }
    GitUrl::parse(record.frontend_attrs.get("context")?).ok().map(|url| url.remote)
}

/// When a build started, in nanoseconds since 1970.
pub(crate) fn started(record: &BuildHistoryRecord) -> i64 {
    nanos(&record.created_at.unwrap_or_default())
}

/// At most `limit` records, the newest first; all of them in their order if it is 0. `started` tells when the build
/// of a record started.
///
/// # Errors
/// When it is negative.
pub(crate) fn limit<T>(
    mut records: Vec<T>,
    limit: i32,
    started: impl Fn(&T) -> i64,
) -> Result<Vec<T>, Error> {
    let count = usize::try_from(limit).map_err(|_| Error::Invalid(format!("invalid limit {limit}")))?;
    if count > 0 {
        records.sort_by_key(|record| std::cmp::Reverse(started(record)));
        records.truncate(count);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buildkit_util_grpcerrors::rpc;

    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;

    /// Three builds of a day ago: one of a minute, one an hour later that runs, one two hours later of ten minutes.
    fn records(now: SystemTime) -> Vec<BuildHistoryRecord> {
        let day_ago = now - Duration::from_secs(24 * HOUR);
        let record =
            |name: &str, start: u64, end: Option<u64>, attr: Option<(&str, &str)>| BuildHistoryRecord {
                r#ref: name.to_owned(),
                created_at: Some((day_ago + Duration::from_secs(start)).into()),
                completed_at: end.map(|end| (day_ago + Duration::from_secs(end)).into()),
                frontend_attrs: attr
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
                ..BuildHistoryRecord::default()
            };
        vec![
            record("a-first", 0, Some(MINUTE), None),
            record("b-second", HOUR, None, Some(("context", "https://example.org/u/r.git#0123abc"))),
            record("a-third", 2 * HOUR, Some(2 * HOUR + 10 * MINUTE), Some(("vcs:source", "some, where"))),
        ]
    }

    fn choose(filters: &[&str], count: i32) -> Result<Vec<String>, Error> {
        let now = SystemTime::now();
        let filters: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        let filters = Filters::parse(&filters, now)?;
        let chosen: Vec<_> = records(now).into_iter().filter(|record| filters.match_record(record)).collect();
        Ok(limit(chosen, count, started)?.into_iter().map(|record| record.r#ref).collect())
    }

    #[test]
    fn filters_choose() {
        let (first, second, third) = ("a-first", "b-second", "a-third");
        for (filters, count, expected) in [
            (&[][..], 0, &[first, second, third][..]),
            (&[], 2, &[third, second]),
            (&["ref==a"], 0, &[]),
            (&["ref~=^a-"], 2, &[third, first]),
            (&["ref!=x"], 1, &[third]),
            (&["repository!=some"], 2, &[third, second]),
            (&["repository==https://example.org/u/r.git"], 0, &[second]),
            (&["\"repository==\"\"some, where\"\"\""], 0, &[third]),
            (&["repository"], 0, &[second, third]),
            (&["status==running"], 0, &[second]),
            (&["status==completed,ref~=third"], 0, &[third]),
            (&["status==running", "ref==a-first"], 0, &[first, second]),
            (&["completedAt>23h"], 0, &[third]),
            (&["completedAt<23h"], 0, &[first, second]),
            (&["startedAt<23h"], 0, &[first]),
            (&["startedAt<=23h"], 0, &[first, second]),
            (&["startedAt>=23h", "completedAt>22h"], 0, &[second, third]),
            (&["startedAt>24h,ref~=^a"], 0, &[third]),
            (&["duration>5m"], 0, &[third]),
            (&["duration<=1m"], 0, &[first, second]),
            (&["startedAt>2000-01-02T03:04:05Z"], 1, &[third]),
            (&["nothing==x"], 0, &[]),
            (&[""], 0, &[first, second, third]),
        ] {
            assert_eq!(choose(filters, count).expect("valid"), expected, "{filters:?} {count}");
        }
    }

    #[test]
    fn errors_have_two_names() {
        let ended = |message: &str| BuildHistoryRecord {
            completed_at: Some(Timestamp::default()),
            error: Some(rpc::Status { message: message.to_owned(), ..rpc::Status::default() }),
            ..BuildHistoryRecord::default()
        };
        assert_eq!(status(&ended("failed to solve: context canceled")), "canceled");
        assert_eq!(status(&ended("no such file")), "error");
    }

    #[test]
    fn nonsense_is_refused() {
        for (filter, text) in [
            ("ref+x", "parse error"),
            (&"ref==x,".repeat(LONGEST), "more than 8192 bytes"),
            ("startedAt>soon", "invalid time soon"),
            ("duration<2000-01-02T03:04:05Z", "invalid duration 2000-01-02T03:04:05Z"),
            ("ref==\"x\"", "column 6: bare \" in non-quoted-field"),
            ("\"ref==x", "extraneous or missing \" in quoted-field"),
            ("\"ref==x\"y", "extraneous or missing \" in quoted-field"),
        ] {
            let error = choose(&[filter], 0).expect_err(filter).to_string();
            assert!(error.contains(text), "{filter}: {error}");
        }
        assert_eq!(choose(&[], -1).expect_err("negative").to_string(), "invalid limit -1");
    }
}
