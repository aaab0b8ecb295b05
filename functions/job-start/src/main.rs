//! Starts the jobs that wait in the queue: the function `job-start`.

use firebackup_bootstrap::roles::Start;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Start, _, _, _>(firebackup_function_job_start::handle).await
}
