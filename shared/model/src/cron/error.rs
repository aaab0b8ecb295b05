//! Why a schedule is refused; the texts are for whoever typed it.

/// Why an expression or a time zone is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// There are more or fewer than five fields; none when the expression is empty.
    #[error("expected five fields (minute, hour, day of month, month, day of week), found {found}")]
    FieldCount {
        /// Fields found.
        found: usize,
    },
    /// A word stands for the whole expression.
    #[error("`{text}` stands for a whole expression: write its five fields")]
    Shorthand {
        /// The word, such as `@daily`.
        text: String,
    },
    /// A field cannot be read, or holds a value it cannot have.
    #[error("the {field} `{text}` is wrong: {reason}")]
    Field {
        /// The field's name, such as `day of week`.
        field: &'static str,
        /// The field as it was typed.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Every field is right, and the parser refuses them together.
    #[error("`{expression}` is not a cron expression: {reason}")]
    Unreadable {
        /// The expression as it was typed.
        expression: String,
        /// What the parser said.
        reason: String,
    },
    /// No date fits, such as 30 February.
    #[error("`{expression}` never fires: no month of it has such a day")]
    NeverFires {
        /// The expression as it was typed.
        expression: String,
    },
    /// The time zone database has no such zone.
    #[error("`{name}` is not a time zone: expected an IANA name such as Europe/Berlin")]
    UnknownTimeZone {
        /// The name as it was typed.
        name: String,
    },
    /// A day of month and a day of week: either is enough in cron, and EventBridge Scheduler takes only one of them.
    #[error("a day of month together with a day of week cannot be scheduled on AWS: leave one of them `*`")]
    BothDays,
}
