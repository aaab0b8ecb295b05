//! Requests of API Gateway, answered by the same router as those of one machine.

/// Answers requests until the runtime ends.
///
/// # Errors
/// When the app cannot be built, or the runtime of Lambda fails.
pub async fn serve() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run_http().await
}

#[cfg(test)]
mod tests {
    use lambda_http::request::LambdaRequest;

    #[test]
    fn every_sample_event_is_read() {
        firebackup_testkit::events::each("api", &[], |text| serde_json::from_str::<LambdaRequest>(text).map(drop));
    }
}
