//! Decides how a restore is cut: the function `restore-plan`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_restore_plan::handle).await
}
