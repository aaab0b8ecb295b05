//! Looks after jobs, retention and what nothing refers to: the function `maintenance`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_maintenance::handle).await
}
