//! Ends a restore, and makes what it replaced an undo: the function `restore-finalize`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_restore_finalize::handle).await
}
