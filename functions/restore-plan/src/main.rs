//! Decides how a restore is cut: the function `restore-plan`.

use firebackup_bootstrap::roles::Ends;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Ends, _, _, _>(firebackup_function_restore_plan::handle).await
}
