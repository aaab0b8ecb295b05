//! Ends a restore, and makes what it replaced an undo: the function `restore-finalize`.

use firebackup_bootstrap::roles::Ends;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Ends, _, _, _>(firebackup_function_restore_finalize::handle).await
}
