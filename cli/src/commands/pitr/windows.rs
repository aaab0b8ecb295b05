//! `firebackup pitr windows`: which moments can be put back.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use firebackup_engine::{Moments, Window};
use firebackup_model::segment::Gap;
use firebackup_model::{DatabaseName, Timestamp};
use serde::Serialize;

use super::check_project;
use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::table::table;
use crate::units::{count, of, seconds};

/// How much of it.
#[derive(Debug, Args)]
pub(super) struct WindowsArgs {
    /// List each moment too, newest first
    #[arg(long)]
    moments: bool,
    /// How many of them at most
    #[arg(long, value_name = "N", default_value_t = 100, requires = "moments")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: usize,
}

#[derive(Serialize)]
struct Told {
    database: DatabaseName,
    /// Within each of them any time is known, as of the newest moment before it.
    windows: Vec<Window>,
    gaps: Vec<Gap>,
    /// How many moments there are.
    moments: u64,
    /// The moments, newest first, as far as they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<Vec<Timestamp>>,
}

/// Lists the windows.
///
/// # Errors
/// When the repository cannot be read.
pub(super) async fn run(context: &Context, args: WindowsArgs) -> Result<Exit> {
    let repository = context.repository().await?;
    let database = context.database_in(&repository).await?;
    let moments = Moments::read(&repository, &database).await?;
    if moments.windows().is_empty() {
        check_project(context, &repository, &database).await?;
    }
    let mut newest: Vec<Timestamp> = moments.points().collect();
    let number = newest.len() as u64;
    newest.reverse();
    newest.truncate(args.limit);
    let told = Told {
        database,
        windows: moments.windows(),
        gaps: moments.gaps(),
        moments: number,
        newest: args.moments.then_some(newest),
    };
    context.output.result(&told, &text(&told))?;
    Ok(Exit::Done)
}

fn text(told: &Told) -> String {
    if told.windows.is_empty() {
        return format!(
            "Nothing of the whole of {} can be put back yet: make a backup with `firebackup backup`.",
            told.database
        );
    }
    let row = |window: &Window| {
        let length = match window.start == window.end {
            true => "one moment".to_owned(),
            false => seconds(window.end.seconds_since(window.start)),
        };
        vec![window.start.to_string(), window.end.to_string(), length, count(window.moments)]
    };
    let windows = table(&["FROM", "TO", "LENGTH", "MOMENTS"], &["MOMENTS"], told.windows.iter().map(row));
    let mut text = format!("{}: {}\n\n{windows}", told.database, of(told.moments, "moment"));
    if !told.gaps.is_empty() {
        let row =
            |gap: &Gap| vec![gap.after.to_string(), gap.until.to_string(), seconds(gap.until.seconds_since(gap.after))];
        let gaps = table(&["NOTHING IS KNOWN BETWEEN", "AND", "LENGTH"], &[], told.gaps.iter().map(row));
        text.push_str(&format!("\n\n{gaps}"));
    }
    for moment in told.newest.iter().flatten() {
        text.push_str(&format!("\n{moment}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;

    #[test]
    fn of_moments_at_least_one_is_asked_for() {
        let parse = |line: &str| Cli::arguments::<WindowsArgs>("pitr windows", line);
        assert_eq!((parse("").unwrap().limit, parse("--moments --limit 1").unwrap().limit), (100, 1));
        assert!(parse("--moments --limit 0").is_err());
    }
}
