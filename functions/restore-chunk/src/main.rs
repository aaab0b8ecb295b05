//! Does one step of a part of a restore: the function `restore-chunk`.

use firebackup_bootstrap::roles::Chunk;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Chunk, _, _, _>(firebackup_function_restore_chunk::handle).await
}
