//! Commits a backup, or ends one that failed: the function `backup-finalize`.

use firebackup_bootstrap::roles::Ends;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Ends, _, _, _>(firebackup_function_backup_finalize::handle).await
}
