//! Logs: JSON lines where machines read them.

use tracing_subscriber::EnvFilter;

/// Begins to log as JSON to standard output, at the level that `filter` says, or `info`. Once a process.
pub fn start_json(filter: Option<&str>) {
    let filter = filter.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_ansi(false).with_env_filter(filter);
    // somebody may have begun to log already
    drop(subscriber.try_init());
}
