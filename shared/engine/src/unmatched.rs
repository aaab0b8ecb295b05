//! What is said of a selection that fits no document: a mistake in writing must not pass for work done.

use firebackup_model::Selection;

use crate::error::EngineError;

/// The error for a selection of which `place` holds nothing.
#[must_use]
pub fn nothing_fits(selection: &Selection, place: &str) -> EngineError {
    let listed = |patterns: &[String]| patterns.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>();
    let mut wanted = listed(&selection.include);
    wanted.extend(listed(&selection.paths));
    let mut text = match wanted.is_empty() {
        true => format!("no document of {place} is selected"),
        false => format!("no document of {place} fits {}", wanted.join(" or ")),
    };
    if !selection.exclude.is_empty() {
        text.push_str(&format!(" without {}", listed(&selection.exclude).join(" and ")));
    }
    EngineError::NotFound(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_what_was_asked_for() {
        let selection = Selection {
            include: vec!["ordrs".to_owned()],
            paths: vec!["users/*".to_owned()],
            exclude: vec!["logs".to_owned()],
            ..Selection::default()
        };
        let text = nothing_fits(&selection, "bkp_1").to_string();
        assert_eq!(text, "no document of bkp_1 fits `ordrs` or `users/*` without `logs`");
        let all_excluded = Selection { exclude: vec!["a".to_owned()], ..Selection::default() };
        assert_eq!(
            nothing_fits(&all_excluded, "p/(default)").to_string(),
            "no document of p/(default) is selected without `a`"
        );
    }
}
