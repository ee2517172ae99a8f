use anyhow::Result;
use buildkit_client::PruneOptions;
use buildkit_util_tabwriter::{Fill, align};

use crate::cli::{Global, Prune};
use crate::connect::connect;
use crate::disk_usage::{HEADING, data, row, verbose};
use crate::size::size;
use crate::template::Template;

pub(crate) async fn run(global: &Global, args: &Prune) -> Result<()> {
    let format = args.records.format.format.as_deref().map(Template::parse).transpose()?;
    let client = connect(global).await?;
    #[expect(clippy::cast_possible_truncation, reason = "a limit that is out of range is the largest")]
    let bytes = |megabytes: f64| (megabytes * 1e6) as i64;
    let options = PruneOptions {
        filter: args.records.filter.clone(),
        all: args.all,
        keep_duration: args.keep_duration.unwrap_or_default(),
        reserved_space: bytes(args.keep_storage_min),
        max_used_space: bytes(args.keep_storage),
        min_free_space: bytes(args.free_storage),
    };
    let (mut total, mut is_first, mut problem) = (0i64, true, None);
    client
        .prune(options, |record| {
            total = total.saturating_add(record.size);
            if let Some(format) = &format {
                match format.render(&data(&record)) {
                    Ok(text) => println!("{text}"),
                    Err(error) => problem = Some(error),
                }
            } else if args.records.verbose {
                print!("{}", align(&verbose(&record), Fill::Tabs));
            } else {
                let heading = if std::mem::take(&mut is_first) { HEADING } else { "" };
                print!("{}", align(&format!("{heading}{}", row(&record)), Fill::Tabs));
            }
        })
        .await?;
    if let Some(problem) = problem {
        return Err(problem);
    }
    if format.is_none() {
        print!("{}", align(&format!("Total:\t{}\n", size(total)), Fill::Tabs));
    }
    Ok(())
}
