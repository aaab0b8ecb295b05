//! Captures the changes of databases that are due: the function `pitr-ingest`.

use firebackup_bootstrap::roles::Capture;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Capture, _, _, _>(firebackup_function_pitr_ingest::handle).await
}
