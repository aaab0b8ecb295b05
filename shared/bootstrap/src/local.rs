//! One machine: every port on SQLite, tokio and a key file.
