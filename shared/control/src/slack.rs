//! Events in plain words, as Slack's incoming webhooks take them.

use firebackup_model::port::DomainEvent;
use serde_json::{Value, json};

/// The hosts of Slack's incoming webhooks.
pub(crate) const HOSTS: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];

/// What tells one thing from others, in the order in which it is shown.
const SHOWN: [(&str, &str); 9] = [
    ("name", "Name"),
    ("id", "Id"),
    ("projectId", "Project"),
    ("scheduleId", "Schedule"),
    ("jobId", "Backup"),
    ("storageDestinationId", "Destination"),
    ("url", "URL"),
    ("role", "Role"),
    ("reason", "Reason"),
];

/// The body for Slack.
pub(crate) fn body(event: &DomainEvent) -> String {
    let said = sentence(&event.kind);
    let mut lines = vec![format!("*{said}*")];
    lines.extend(SHOWN.iter().filter_map(|(field, label)| line(label, &event.data[*field])));
    lines.extend(line("Documents", &event.data["result"]["documents"]));
    lines.extend(line("Error", &event.data["error"]["code"]));
    let section = json!({ "type": "section", "text": { "type": "mrkdwn", "text": lines.join("\n") } });
    let time = format!("{} at {}", event.id, event.timestamp);
    let context = json!({ "type": "context", "elements": [{ "type": "plain_text", "text": time }] });
    json!({ "text": said, "blocks": [section, context] }).to_string()
}

/// `backup.completed` is `Backup completed`.
fn sentence(kind: &str) -> String {
    let words = kind.replace(['.', '_'], " ");
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn line(label: &str, value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(format!("{label}: {}", escaped(&text)))
}

/// As Slack wants it: else a name could mention everybody, or be a link that says something else.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_said_in_words_and_mentions_nobody() {
        let event = DomainEvent {
            id: "evt_1".to_owned(),
            kind: "backup.failed".to_owned(),
            timestamp: "2026-01-31T14:03:00Z".parse().unwrap(),
            organization: "org_1".to_owned(),
            data: json!({ "id": "bkp_1", "name": "<!channel> & co", "error": { "code": "GOOGLE_FAILED" } }),
        };
        let body: Value = serde_json::from_str(&body(&event)).unwrap();
        assert_eq!(body["text"], "Backup failed");
        let expected = "*Backup failed*\nName: &lt;!channel&gt; &amp; co\nId: bkp_1\nError: GOOGLE_FAILED";
        assert_eq!(body["blocks"][0]["text"]["text"], expected);
        assert_eq!(body["blocks"][1]["elements"][0]["text"], "evt_1 at 2026-01-31T14:03:00Z");
    }
}
