//! Tells live clients what happens: the function `realtime`.

use firebackup_bootstrap::roles::Live;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Live, _, _, _>(firebackup_function_realtime::handle).await
}
