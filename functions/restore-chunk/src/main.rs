//! Does one step of a part of a restore: the function `restore-chunk`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_restore_chunk::handle).await
}
