//! Where words go: results to standard output, everything that is told on the way to standard error.
//!
//! With `--json` standard output gets exactly one JSON document, whatever happens: a result, or `{"error": …}`; only
//! that it cannot be written is told on standard error. What tells events for as long as it runs ([`Output::stream`])
//! writes such a document a line.
//!
//! While a progress bar is shown, standard error is written around it: nothing is glued to it or erased with it.
//!
//! What came from a user or a database is told without control characters: errors are made so where they are reported
//! ([`CliError::report`]), the rest here.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Parser;
use clap::error::ErrorKind as ClapKind;
use indicatif::ProgressBar;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, GlobalArgs};
use crate::environment::Environment;
use crate::error::{CliError, ErrorReport, Result};
use crate::exit::Exit;
use crate::table::{printable, printable_lines};

/// How a process talks to whoever started it.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    verbosity: u8,
    stdout_has_colors: bool,
    stderr_is_terminal: bool,
    stderr_has_colors: bool,
    bar: BarSlot,
    /// Whether the one JSON document was begun.
    has_document: Arc<AtomicBool>,
    /// Whether documents are events, a line each.
    is_stream: Arc<AtomicBool>,
}

/// The progress bar that is shown, if one is. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct BarSlot(Arc<Mutex<Option<ProgressBar>>>);

impl BarSlot {
    /// Shows another bar, or none: the one before is cleared away.
    pub(crate) fn set(&self, bar: Option<ProgressBar>) {
        let before = std::mem::replace(&mut *self.lock(), bar);
        if let Some(before) = before {
            before.finish_and_clear();
        }
    }

    /// Does something with the bar, and says whether there is one.
    pub(crate) fn with(&self, act: impl FnOnce(&ProgressBar)) -> bool {
        let bar = self.lock();
        bar.as_ref().map(act).is_some()
    }

    /// Runs what writes to standard error, with the bar out of the way.
    fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &*self.lock() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standard error beside the bar, for logs.
struct BesideBar(BarSlot);

impl Write for BesideBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.aside(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressStyle {
    /// Not at all.
    Silent,
    /// A line every few seconds.
    Lines,
    /// A bar that moves.
    Bar,
}

impl Output {
    /// As the arguments, the terminal and `NO_COLOR` say.
    pub(crate) fn new(global: &GlobalArgs, environment: &Environment) -> Self {
        let colors = environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb");
        let stderr_is_terminal = io::stderr().is_terminal();
        Self {
            json: global.json,
            quiet: global.quiet,
            verbosity: global.verbose,
            stdout_has_colors: colors && io::stdout().is_terminal(),
            stderr_is_terminal,
            stderr_has_colors: colors && stderr_is_terminal,
            bar: BarSlot::default(),
            has_document: Arc::default(),
            is_stream: Arc::default(),
        }
    }

    /// Sends logs to standard error: our own warnings and all errors, with `-v` more, with `--quiet` errors alone; or
    /// what `RUST_LOG` says.
    pub(crate) fn start_logging(&self, environment: &Environment) {
        let level = log_levels(self.quiet, self.verbosity);
        let filter = EnvFilter::new(environment.get("RUST_LOG").unwrap_or(level));
        let bar = self.bar.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || BesideBar(bar.clone()))
            .with_ansi(self.stderr_has_colors);
        if let Err(error) = subscriber.try_init() {
            self.warn(&format!("logs cannot be shown: {error}"));
        }
    }

    /// Whether the one result is a JSON document.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether somebody can be asked on the terminal.
    pub(crate) fn can_ask(&self) -> bool {
        self.stderr_is_terminal && io::stdin().is_terminal()
    }

    /// Where the progress bar is while there is one.
    pub(crate) const fn bar(&self) -> &BarSlot {
        &self.bar
    }

    /// How progress is shown.
    pub(crate) const fn progress_style(&self) -> ProgressStyle {
        match (self.quiet, self.json, self.stderr_is_terminal) {
            (true, _, _) => ProgressStyle::Silent,
            (false, true, _) if self.verbosity == 0 => ProgressStyle::Silent,
            (false, false, true) => ProgressStyle::Bar,
            (false, _, _) => ProgressStyle::Lines,
        }
    }

    /// Writes the result: `value` with `--json`, else `text`.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: &str) -> Result<()> {
        let line = if self.json {
            self.has_document.store(true, Ordering::SeqCst);
            serde_json::to_string_pretty(value).map_err(|error| CliError::Output(error.into()))?
        } else {
            text.trim_end().to_owned()
        };
        self.line(&line)
    }

    /// From now on events are told, and an error is one of them.
    pub(crate) fn stream(&self) {
        self.is_stream.store(true, Ordering::SeqCst);
    }

    /// Writes an event: `value` in one line with `--json`, else `text`, and with `--quiet` nothing.
    pub(crate) fn event<T: Serialize>(&self, value: &T, text: &str) -> Result<()> {
        if self.quiet && !self.json {
            return Ok(());
        }
        let json = || serde_json::to_string(value).map_err(|error| CliError::Output(error.into()));
        self.line(&if self.json { json()? } else { printable(text).into_owned() })
    }

    /// Writes a line of a result for people; nothing with `--json`.
    pub(crate) fn say(&self, line: &str) -> Result<()> {
        if self.json { Ok(()) } else { self.line(line) }
    }

    fn line(&self, line: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        ended_by_reader(writeln!(stdout, "{line}").and_then(|()| stdout.flush()))
    }

    /// Tells something on the way; nothing with `--quiet`, and with `--json` only with `-v`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && (!self.json || self.verbosity > 0) {
            self.stderr_line(text);
        }
    }

    /// Tells something that must not be missed, in one line.
    pub(crate) fn warn(&self, text: &str) {
        let label = paint(self.stderr_has_colors, "33", "warning:");
        self.stderr_line(&format!("{label} {}", printable(text)));
    }

    /// Tells why the command failed, and how the process ends.
    pub(crate) fn fail(&self, error: &CliError) -> Exit {
        let report = error.report();
        // where a result was begun, all or half of it may stand: a second document would make it no better
        let is_first = !self.has_document.swap(true, Ordering::SeqCst);
        let is_stream = self.is_stream.load(Ordering::SeqCst);
        let is_told = self.json && (is_first || is_stream) && print_error(&report, is_stream).is_ok();
        if !is_told {
            self.stderr_line(&render(&report, self.stderr_has_colors));
        }
        error.exit()
    }

    /// Asks on standard error, without ending the line.
    pub(crate) fn ask(&self, question: &str) {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{} ", printable_lines(question)).and_then(|()| stderr.flush());
    }

    /// Ends the line of a question that got no answer.
    pub(crate) fn end_question(&self) {
        self.stderr_line("");
    }

    fn stderr_line(&self, text: &str) {
        // where standard error is closed there is nobody to tell
        let _ = self.bar.aside(|| writeln!(io::stderr().lock(), "{text}"));
    }

    /// Bold, for standard output.
    pub(crate) fn bold(&self, text: &str) -> String {
        paint(self.stdout_has_colors, "1", text)
    }

    /// Dim, for standard output.
    pub(crate) fn dim(&self, text: &str) -> String {
        paint(self.stdout_has_colors, "2", text)
    }

    /// Green, for standard output: all is well.
    pub(crate) fn good(&self, text: &str) -> String {
        paint(self.stdout_has_colors, "1;32", text)
    }

    /// Red, for standard output: something is not.
    pub(crate) fn bad(&self, text: &str) -> String {
        paint(self.stdout_has_colors, "1;31", text)
    }
}

/// What is logged. A target stands for all that begin with it, so that `firebackup` is each crate of ours.
const fn log_levels(quiet: bool, verbosity: u8) -> &'static str {
    match (quiet, verbosity) {
        (true, 0) => "error",
        (false, 0) => "error,firebackup=warn",
        (_, 1) => "warn,firebackup=info,firebackup_engine=info,firebackup_google=info,firebackup_storage=info",
        (_, 2) => "info,firebackup=debug,firebackup_engine=debug,firebackup_google=debug,firebackup_storage=debug",
        _ => "debug,h2=info,hyper=info,hyper_util=info,rustls=info",
    }
}

fn paint(colors: bool, code: &str, text: &str) -> String {
    if colors { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A reader that has gone (`| head`) is no failure.
fn ended_by_reader(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(CliError::Output),
    }
}

/// An error for people: message, causes, what to do.
fn render(report: &ErrorReport, colors: bool) -> String {
    let mut text = format!("{} {}", paint(colors, "1;31", "error:"), report.message);
    for cause in &report.causes {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    if let Some(hint) = &report.hint {
        text.push_str(&format!("\n  {} {hint}", paint(colors, "1", "what to do:")));
    }
    text
}

fn print_error(error: &ErrorReport, in_one_line: bool) -> io::Result<()> {
    #[derive(Serialize)]
    struct Failed<'e> {
        error: &'e ErrorReport,
    }
    let failed = Failed { error };
    let json = if in_one_line { serde_json::to_string(&failed)? } else { serde_json::to_string_pretty(&failed)? };
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{json}").and_then(|()| stdout.flush())
}

/// Shows help and version, or tells what is wrong with the arguments: as JSON when they ask for it.
pub(crate) fn refuse_arguments(refusal: &clap::Error, arguments: impl Iterator<Item = OsString>) -> Exit {
    let is_help = matches!(
        refusal.kind(),
        ClapKind::DisplayHelp | ClapKind::DisplayVersion | ClapKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let arguments: Vec<_> = arguments.collect();
    let wants_json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    let is_told = wants_json && !is_help && print_error(&usage_report(refusal), false).is_ok();
    if !is_told {
        print_refusal(refusal, &arguments);
    }
    arguments_exit(refusal)
}

fn usage_report(refusal: &clap::Error) -> ErrorReport {
    let text = refusal.render().to_string();
    let message = text.trim().trim_start_matches("error:").trim().to_owned();
    ErrorReport { message, causes: Vec::new(), kind: "usage", hint: None }
}

/// Prints a refusal, or help. A refusal quotes the arguments: those that a terminal would act on are read once more in
/// their printable form, and refused in that.
fn print_refusal(refusal: &clap::Error, arguments: &[OsString]) {
    let texts: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let shown: Vec<_> = texts.iter().map(|text| printable(text)).collect();
    let is_plain = shown.iter().all(|text| matches!(text, Cow::Borrowed(_)));
    let result = if is_plain {
        refusal.print()
    } else {
        match Cli::try_parse_from(shown.iter().map(|text| &**text)) {
            Err(refusal) => refusal.print(),
            Ok(_) => writeln!(io::stderr().lock(), "{}", printable_lines(&refusal.render().to_string())),
        }
    };
    // where standard error is closed there is nobody to tell
    let _ = result;
}

fn arguments_exit(refusal: &clap::Error) -> Exit {
    if refusal.exit_code() == 0 { Exit::Done } else { Exit::Usage }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_what_to_do() {
        let report = ErrorReport {
            message: "could not do it".into(),
            causes: vec!["this".into(), "that".into()],
            kind: "other",
            hint: Some("try again".into()),
        };
        let expected = "error: could not do it\n  caused by: this\n  caused by: that\n  what to do: try again";
        assert_eq!(render(&report, false), expected);
        assert!(render(&report, true).starts_with("\u{1b}[1;31merror:\u{1b}[0m could"));
    }

    #[test]
    fn warnings_of_our_own_are_told_unless_somebody_wants_quiet_and_those_of_others_are_not() {
        use tracing::Level;
        use tracing_subscriber::filter::Targets;
        let logs = |quiet, verbosity, target: &str, level: Level| {
            log_levels(quiet, verbosity).parse::<Targets>().unwrap().would_enable(target, &level)
        };
        for ours in ["firebackup", "firebackup::commands", "firebackup_engine::restore_plan", "firebackup_google"] {
            assert!(logs(false, 0, ours, Level::WARN) && !logs(false, 0, ours, Level::INFO), "{ours}");
            assert!(!logs(true, 0, ours, Level::WARN) && logs(true, 0, ours, Level::ERROR), "{ours}");
            assert!(logs(false, 1, ours, Level::INFO), "{ours}");
        }
        assert!(!logs(false, 0, "hyper::proto", Level::WARN) && logs(false, 0, "hyper::proto", Level::ERROR));
        assert!(logs(false, 1, "hyper::proto", Level::WARN));
    }

    #[test]
    fn of_two_bars_the_last_is_shown_and_none_in_the_end() {
        let slot = BarSlot::default();
        let bars = [ProgressBar::hidden(), ProgressBar::hidden()];
        assert!(!slot.with(|_| ()));
        for bar in &bars {
            slot.set(Some(bar.clone()));
        }
        assert!(bars[0].is_finished() && !bars[1].is_finished());
        assert!(slot.with(|bar| bar.set_position(7)));
        assert_eq!((bars[1].position(), slot.aside(|| "written")), (7, "written"));
        slot.set(None);
        assert!(bars[1].is_finished() && !slot.with(|_| ()));
    }

    #[test]
    fn bad_arguments_are_bad_usage_and_help_is_none() {
        use clap::CommandFactory;
        let exit = |arguments: &[&str]| arguments_exit(&Cli::command().try_get_matches_from(arguments).unwrap_err());
        assert_eq!(exit(&["firebackup", "backup", "--nonsense"]), Exit::Usage);
        assert_eq!(exit(&["firebackup", "--json", "nonsense"]), Exit::Usage);
        assert_eq!(exit(&["firebackup", "--version"]), Exit::Done);
        assert_eq!(exit(&["firebackup", "backup", "--help"]), Exit::Done);
    }
}
