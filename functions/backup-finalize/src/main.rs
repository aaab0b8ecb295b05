//! Commits a backup, or ends one that failed: the function `backup-finalize`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_backup_finalize::handle).await
}
