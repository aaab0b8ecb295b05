//! Decides what a backup reads: the function `backup-plan`.

use firebackup_bootstrap::roles::Ends;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Ends, _, _, _>(firebackup_function_backup_plan::handle).await
}
