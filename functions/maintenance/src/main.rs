//! Looks after jobs, retention and what nothing refers to: the function `maintenance`.

use firebackup_bootstrap::roles::Care;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Care, _, _, _>(firebackup_function_maintenance::handle).await
}
