//! Decides what a backup reads: the function `backup-plan`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_backup_plan::handle).await
}
