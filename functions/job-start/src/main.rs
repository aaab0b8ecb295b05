//! Starts the jobs that wait in the queue: the function `job-start`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run(firebackup_function_job_start::handle).await
}
