//! Tells webhooks of what happened: the function `notify`.

use firebackup_bootstrap::roles::Notify;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Notify, _, _, _>(firebackup_function_notify::handle).await
}
