//! Does one step of a chunk of a backup: the function `backup-chunk`.

use firebackup_bootstrap::roles::Chunk;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Chunk, _, _, _>(firebackup_function_backup_chunk::handle).await
}
