//! Shows how far a verb is: a bar on a terminal, a line every few seconds elsewhere.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebackup_engine::{Counter, Meter};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle as BarStyle};
use tokio::task::JoinHandle;

use crate::output::{BarSlot, Output, ProgressStyle};
use crate::units::{bytes, count, rate, seconds};

const BAR_INTERVAL: Duration = Duration::from_millis(120);
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Rates are of the last seconds, not of the whole time: a ramp shows.
const WINDOW: Duration = Duration::from_secs(10);

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Documents come from a database, and their blocks go into the repository.
    Backup,
    /// Documents go into a database.
    Restore,
    /// Documents are read from a repository.
    Read,
}

/// Progress that is being shown; it ends when this is dropped.
pub(crate) struct Progress {
    task: Option<JoinHandle<()>>,
    bar: BarSlot,
}

impl Progress {
    /// Begins to show what `meter` counts.
    pub(crate) fn show(output: &Output, activity: Activity, meter: &Arc<Meter>) -> Self {
        let style = output.progress_style();
        let bar = (style == ProgressStyle::Bar)
            .then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(bar_style(false)));
        output.bar().set(bar);
        let task = (style != ProgressStyle::Silent).then(|| {
            let watch = Watch { activity, meter: Arc::clone(meter), window: Window::new(Instant::now()) };
            tokio::spawn(watch.run(output.clone(), style))
        });
        Self { task, bar: output.bar().clone() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.bar.set(None);
    }
}

/// What is told is cut at the edge of the terminal: a line that went on below would leave pieces of itself behind.
fn bar_style(knows_its_end: bool) -> BarStyle {
    let template = if knows_its_end {
        "{spinner:.green} [{bar:10.green}] {wide_msg}"
    } else {
        "{spinner:.green} {elapsed} {wide_msg}"
    };
    let style = BarStyle::with_template(template).unwrap_or_else(|_| BarStyle::default_bar());
    style.progress_chars("━╸─").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

struct Watch {
    activity: Activity,
    meter: Arc<Meter>,
    window: Window,
}

impl Watch {
    async fn run(mut self, output: Output, style: ProgressStyle) {
        let every = if style == ProgressStyle::Bar { BAR_INTERVAL } else { LINE_INTERVAL };
        let mut ticks = tokio::time::interval(every);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let text = self.text(Instant::now());
            if style == ProgressStyle::Lines {
                output.note(&text);
                continue;
            }
            if !output.bar().with(|bar| self.draw(bar, text)) {
                return;
            }
        }
    }

    fn draw(&self, bar: &ProgressBar, text: String) {
        let (done, expected) = (self.meter.documents.get(), self.meter.expected.get());
        if expected > 0 {
            if bar.length() != Some(expected) {
                bar.set_style(bar_style(true));
                bar.set_length(expected);
            }
            bar.set_position(done.min(expected));
        }
        bar.set_message(text);
        bar.tick();
    }

    fn text(&mut self, now: Instant) -> String {
        let meter = &self.meter;
        let moved = match self.activity {
            Activity::Read => meter.stored.get(),
            Activity::Backup | Activity::Restore => meter.bytes.get(),
        };
        let (documents, expected) = (meter.documents.get(), meter.expected.get());
        let (documents_rate, bytes_rate) = self.window.rates(now, documents, moved);
        let mut text = if expected > 0 {
            let percent = (documents.min(expected) as f64 / expected as f64 * 100.0) as u64;
            format!("{} of {} documents ({percent} %)", count(documents), count(expected.max(documents)))
        } else {
            format!("{} documents", count(documents))
        };
        // what a narrow terminal cuts off is what comes last; writing into a string cannot fail
        let left = expected.saturating_sub(documents);
        if left > 0 && documents_rate > 0.0 {
            let _ = write!(text, ", {} left", seconds(left as f64 / documents_rate));
        }
        let _ = write!(text, ", {}, {}/s", rate(documents_rate), bytes(bytes_rate as u64));
        self.add_details(&mut text);
        text
    }

    fn add_details(&self, text: &mut String) {
        let meter = &self.meter;
        let mut add = |counter: &Counter, before: &str, behind: &str| {
            if counter.get() > 0 {
                let _ = write!(text, ", {before}{}{behind}", count(counter.get()));
            }
        };
        match self.activity {
            Activity::Backup => add(&meter.level, "level ", ""),
            Activity::Restore => {
                add(&meter.failed, "", " failed");
                add(&meter.rate, "limit ", "/s");
            }
            Activity::Read => {}
        }
        add(&meter.retries, "", " retries");
    }
}

/// Counters of the last seconds.
struct Window(VecDeque<(Instant, u64, u64)>);

impl Window {
    fn new(start: Instant) -> Self {
        Self(VecDeque::from([(start, 0, 0)]))
    }

    /// Documents and bytes a second, now that so many are done.
    fn rates(&mut self, now: Instant, documents: u64, bytes: u64) -> (f64, f64) {
        self.0.push_back((now, documents, bytes));
        while self.0.len() > 2 && now.duration_since(self.0[1].0) >= WINDOW {
            self.0.pop_front();
        }
        let (since, old_documents, old_bytes) = self.0[0];
        let elapsed = now.duration_since(since).as_secs_f64().max(0.001);
        (documents.saturating_sub(old_documents) as f64 / elapsed, bytes.saturating_sub(old_bytes) as f64 / elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::Mutex;

    fn watch(activity: Activity, start: Instant) -> Watch {
        Watch { activity, meter: Arc::default(), window: Window::new(start) }
    }

    #[test]
    fn rates_forget_what_is_long_ago() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(start);
        assert_eq!(window.rates(at(1), 100, 1000), (100.0, 1000.0));
        for second in 2..=20 {
            window.rates(at(second), 100, 1000);
        }
        assert_eq!(window.rates(at(21), 200, 1000), (10.0, 0.0));
    }

    /// A terminal that keeps what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Narrow {
        width: u16,
        written: Arc<Mutex<Vec<String>>>,
    }

    impl TermLike for Narrow {
        fn width(&self) -> u16 {
            self.width
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.written.lock().unwrap().push(text.to_owned());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Columns that a line takes, without the escapes that colour it.
    fn columns(line: &str) -> usize {
        let mut parts = line.split('\u{1b}');
        let first = parts.next().unwrap_or_default().chars().count();
        let shown = parts.map(|part| part.split_once('m').map_or(0, |(_, shown)| shown.chars().count()));
        first + shown.sum::<usize>()
    }

    #[test]
    fn a_bar_is_never_wider_than_its_terminal() {
        for width in [20, 40, 79, 80, 200] {
            for expected in [0, 3_000_000] {
                let terminal = Narrow { width, ..Narrow::default() };
                let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
                let bar = ProgressBar::with_draw_target(None, target).with_style(bar_style(false));
                let mut watch = watch(Activity::Backup, Instant::now());
                watch.meter.documents.add(1_500_000);
                watch.meter.expected.set(expected);
                watch.meter.level.set(11);
                watch.meter.retries.add(12);
                let text = watch.text(Instant::now() + Duration::from_secs(60));
                assert!(text.len() > 50, "{text}");
                watch.draw(&bar, text);
                let written = terminal.written.lock().unwrap();
                assert!(written.iter().any(|line| line.contains("1,5")), "{width}: {written:?}");
                for line in written.iter() {
                    assert!(columns(line) <= usize::from(width), "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let start = Instant::now();
        let mut backup = watch(Activity::Backup, start);
        backup.meter.documents.add(1500);
        backup.meter.bytes.add(2048);
        backup.meter.level.set(5);
        assert_eq!(backup.text(start + Duration::from_secs(1)), "1,500 documents, 1,500/s, 2.0 KiB/s, level 5");
        backup.meter.expected.set(3000);
        assert_eq!(
            backup.text(start + Duration::from_secs(1)),
            "1,500 of 3,000 documents (50 %), 1.0 s left, 1,500/s, 2.0 KiB/s, level 5"
        );
        let mut restore = watch(Activity::Restore, start);
        restore.meter.documents.add(10);
        restore.meter.rate.set(500);
        restore.meter.failed.add(1);
        restore.meter.retries.add(2);
        assert_eq!(
            restore.text(start + Duration::from_secs(1)),
            "10 documents, 10/s, 0 B/s, 1 failed, limit 500/s, 2 retries"
        );
    }
}
