//! Waits for what comes about by itself, with a bound.

use std::time::{Duration, Instant};

const BETWEEN_PROBES: Duration = Duration::from_millis(20);

/// Probes until there is something, and returns it.
///
/// # Panics
/// When there is nothing after `bound`.
pub async fn eventually<T>(what: &str, bound: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(begun.elapsed() < bound, "{what}: not within {bound:?}");
        tokio::time::sleep(BETWEEN_PROBES).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn probes_until_there_is_something() {
        let mut probes = 0;
        let found = eventually("the third", Duration::from_secs(10), async || {
            probes += 1;
            (probes == 3).then_some(probes)
        });
        assert_eq!(found.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "what never comes: not within")]
    async fn gives_up() {
        eventually("what never comes", Duration::from_millis(50), async || None::<()>).await;
    }
}
