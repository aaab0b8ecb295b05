//! `backup --plan`: what a backup would read and cost, before it runs.

use clap::Args;
use firebackup_engine::{Estimate, estimate, nothing_fits};
use firebackup_model::Selection;
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::selection_args::describe;
use crate::table::pairs;
use crate::units::{bytes, count, dollars, of, parse_count, seconds};

/// Stored bytes a byte of documents: what brotli and zstd make of ordinary text at middle levels.
const STORED_SHARE: f64 = 0.42;

/// What an estimate rests on.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Say what the backup would read, cost and weigh, and do nothing
    #[arg(long)]
    pub(super) plan: bool,
    /// US dollars for 100,000 document reads, for --plan; prices differ by region
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.03, value_parser = price, help_heading = "With --plan")]
    price_per_100k_reads: f64,
    /// Documents a second of one stream, for the time that --plan says
    #[arg(long, value_name = "N", default_value = "3,000", value_parser = speed, help_heading = "With --plan")]
    documents_per_second: u64,
}

#[derive(Serialize)]
struct Planned {
    database: String,
    #[serde(flatten)]
    estimate: Estimate,
    /// Left out where it is not known how many documents there are.
    #[serde(flatten)]
    bill: Option<Bill>,
    plan_reads: u64,
    max_reads: Option<u64>,
}

/// What so many documents come to.
#[derive(Serialize)]
struct Bill {
    billed_reads: u64,
    price_dollars: f64,
    estimated_bytes: u64,
    estimated_stored_bytes: u64,
    estimated_seconds: f64,
    /// Whether the backup would stop at `max_reads` before its end.
    stops_at_max_reads: bool,
}

/// Counts and says so.
///
/// # Errors
/// When the database cannot be read.
pub(super) async fn run(
    context: &Context,
    args: &PlanArgs,
    selection: &Selection,
    streams: usize,
    max_reads: Option<u64>,
) -> Result<Exit> {
    let database = context.settings.database()?;
    let source = context.source(&database).await?;
    let estimate = estimate(&*source, selection).await?;
    if estimate.documents == Some(0) && !selection.is_everything() {
        return Err(nothing_fits(selection, &database.to_string()).into());
    }
    context.warn_unmatched(&estimate.unmatched);
    let planned = planned(database.to_string(), estimate, args, streams, max_reads);
    context.output.result(&planned, &text(&planned, args, selection, streams))?;
    Ok(Exit::Done)
}

fn planned(database: String, estimate: Estimate, args: &PlanArgs, streams: usize, max_reads: Option<u64>) -> Planned {
    let mean = mean_bytes(&estimate);
    Planned {
        database,
        bill: estimate.documents.map(|documents| bill(documents, mean, args, streams, max_reads)),
        plan_reads: estimate.count_reads + estimate.sampled_documents,
        max_reads,
        estimate,
    }
}

fn bill(documents: u64, mean: f64, args: &PlanArgs, streams: usize, max_reads: Option<u64>) -> Bill {
    let estimated = mean * documents as f64;
    Bill {
        billed_reads: documents,
        price_dollars: documents as f64 / 100_000.0 * args.price_per_100k_reads,
        estimated_bytes: estimated as u64,
        estimated_stored_bytes: (estimated * STORED_SHARE) as u64,
        estimated_seconds: documents as f64 / (args.documents_per_second * streams as u64) as f64,
        // it takes one more to see that there are no more
        stops_at_max_reads: max_reads.is_some_and(|max| documents >= max),
    }
}

fn mean_bytes(estimate: &Estimate) -> f64 {
    estimate.sampled_bytes as f64 / estimate.sampled_documents.max(1) as f64
}

fn text(planned: &Planned, args: &PlanArgs, selection: &Selection, streams: usize) -> String {
    let mut lines = vec![("database", planned.database.clone()), ("selection", describe(selection))];
    match &planned.bill {
        Some(bill) => lines.extend(reckoned(bill, &planned.estimate, args, streams)),
        None => lines.extend(uncounted(&planned.estimate, args)),
    }
    lines.push(("this plan", format!("{} billed", of(planned.plan_reads, "read"))));
    lines.extend(planned.max_reads.map(|max| ("--max-reads", budget(planned.bill.as_ref(), max))));
    pairs(lines)
}

fn reckoned(bill: &Bill, estimate: &Estimate, args: &PlanArgs, streams: usize) -> [(&'static str, String); 5] {
    let price = format!("{} at ${} for 100,000 reads", dollars(bill.price_dollars), args.price_per_100k_reads);
    let size = format!(
        "about {} ({} were sampled), about {} stored",
        bytes(bill.estimated_bytes),
        of(estimate.sampled_documents, "document"),
        bytes(bill.estimated_stored_bytes)
    );
    let time = format!(
        "about {} with {} of {} documents a second",
        seconds(bill.estimated_seconds),
        of(streams as u64, "stream"),
        count(args.documents_per_second)
    );
    [
        ("documents", format!("{} as of {}", count(bill.billed_reads), estimate.read_time)),
        ("billed reads", format!("{} (one a document, filtered ones too)", count(bill.billed_reads))),
        ("price", price),
        ("size", size),
        ("time", time),
    ]
}

/// What can be said where the server does not count.
fn uncounted(estimate: &Estimate, args: &PlanArgs) -> [(&'static str, String); 4] {
    let documents = format!(
        "cannot be counted: the server refuses to count all collections, or takes too long; {} or more as of {}",
        count(estimate.sampled_documents),
        estimate.read_time
    );
    let size = format!(
        "about {} a document ({} were sampled)",
        bytes(mean_bytes(estimate) as u64),
        of(estimate.sampled_documents, "document")
    );
    [
        ("documents", documents),
        ("billed reads", "one a document, filtered ones too".to_owned()),
        ("price", format!("${} for 100,000 reads", args.price_per_100k_reads)),
        ("size", size),
    ]
}

fn budget(bill: Option<&Bill>, max: u64) -> String {
    let max = count(max);
    match bill {
        Some(bill) if bill.stops_at_max_reads => {
            let enough = bill.billed_reads.saturating_add(1);
            format!("{max}: the backup would stop there, before its end; {} are enough", count(enough))
        }
        Some(_) => format!("{max}: enough for all of it"),
        None => format!("{max}: whether that is enough is not known"),
    }
}

fn price(text: &str) -> Result<f64, String> {
    let price: Option<f64> = text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| "expected US dollars, such as 0.03".to_owned())
}

fn speed(text: &str) -> Result<u64, String> {
    match parse_count(text)? {
        0 => Err("expected more than nothing".to_owned()),
        speed => Ok(speed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_multiplies_out() {
        let estimate = Estimate {
            read_time: firebackup_model::Timestamp::new(0, 0),
            documents: Some(1_000_000),
            unmatched: Vec::new(),
            count_reads: 1000,
            sampled_documents: 100,
            sampled_bytes: 100_000,
        };
        let args = PlanArgs { plan: true, price_per_100k_reads: 0.03, documents_per_second: 2500 };
        let planned = planned("p/(default)".to_owned(), estimate, &args, 4, None);
        let json = serde_json::to_value(&planned).unwrap();
        assert_eq!((json["documents"].as_u64(), json["billed_reads"].as_u64()), (Some(1_000_000), Some(1_000_000)));
        assert_eq!(planned.plan_reads, 1100);
        let bill = planned.bill.unwrap();
        assert!((bill.price_dollars - 0.30).abs() < 1e-9);
        assert_eq!(bill.estimated_bytes, 1_000_000_000);
        assert_eq!(bill.estimated_stored_bytes, 420_000_000);
        assert!((bill.estimated_seconds - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_read_budget_that_is_too_small_is_told() {
        let estimate = Estimate {
            read_time: firebackup_model::Timestamp::new(0, 0),
            documents: Some(1000),
            unmatched: Vec::new(),
            count_reads: 1,
            sampled_documents: 1,
            sampled_bytes: 1,
        };
        let args = PlanArgs { plan: true, price_per_100k_reads: 0.03, documents_per_second: 3000 };
        let check = |max: Option<u64>, stops: bool, says: &str| {
            let planned = planned(String::new(), estimate.clone(), &args, 1, max);
            let bill = planned.bill.as_ref().unwrap();
            assert_eq!((planned.max_reads, bill.stops_at_max_reads), (max, stops));
            let text = text(&planned, &args, &Selection::default(), 1);
            assert!(text.contains(says), "{text}");
            assert_eq!(text.contains("--max-reads"), max.is_some(), "{text}");
        };
        check(None, false, "1,000 as of");
        check(Some(999), true, "999: the backup would stop there, before its end; 1,001 are enough");
        check(Some(1000), true, "1,001 are enough");
        check(Some(1001), false, "1,001: enough for all of it");
    }

    #[test]
    fn an_empty_database_costs_nothing() {
        let estimate = Estimate {
            read_time: firebackup_model::Timestamp::new(0, 0),
            documents: Some(0),
            unmatched: Vec::new(),
            count_reads: 1,
            sampled_documents: 0,
            sampled_bytes: 0,
        };
        let args = PlanArgs { plan: true, price_per_100k_reads: 0.03, documents_per_second: 3000 };
        let bill = planned(String::new(), estimate, &args, 1, None).bill.unwrap();
        assert_eq!((bill.estimated_bytes, bill.billed_reads), (0, 0));
        assert!(bill.price_dollars.abs() < f64::EPSILON && bill.estimated_seconds.abs() < f64::EPSILON);
    }

    #[test]
    fn what_cannot_be_counted_has_no_bill() {
        let estimate = Estimate {
            read_time: firebackup_model::Timestamp::new(0, 0),
            documents: None,
            unmatched: Vec::new(),
            count_reads: 0,
            sampled_documents: 100,
            sampled_bytes: 204_800,
        };
        let args = PlanArgs { plan: true, price_per_100k_reads: 0.03, documents_per_second: 3000 };
        let planned = planned(String::new(), estimate, &args, 1, Some(50));
        let json = serde_json::to_value(&planned).unwrap();
        assert!(json.get("documents").is_some_and(serde_json::Value::is_null) && json["plan_reads"] == 100, "{json:#}");
        for part in ["billed_reads", "price_dollars", "estimated_bytes", "estimated_seconds", "stops_at_max_reads"] {
            assert!(json.get(part).is_none(), "{part}: {json:#}");
        }
        let text = text(&planned, &args, &Selection::default(), 1);
        for part in ["cannot be counted", "100 or more as of", "about 2.0 KiB a document", "50: whether that"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn prices_are_sums_of_money() {
        assert_eq!(price("0.03"), Ok(0.03));
        assert!(["", "-1", "NaN", "inf", "$3"].iter().all(|bad| price(bad).is_err()));
        assert!(speed("0").is_err());
    }
}
