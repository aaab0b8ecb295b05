//! Makes the backup of a due time: the function `schedule-trigger`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_schedule_trigger::handle).await
}
