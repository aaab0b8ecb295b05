//! Does one step of a chunk of a backup: the function `backup-chunk`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_backup_chunk::handle).await
}
