//! Requests of API Gateway, answered by the same router as those of one machine.

/// Answers requests until the runtime ends.
///
/// # Errors
/// When the app cannot be built, or the runtime of Lambda fails.
pub async fn serve() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run_http().await
}
