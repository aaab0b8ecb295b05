//! Makes the backup of a due time: the function `schedule-trigger`.

use firebackup_bootstrap::roles::Trigger;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_bootstrap::aws::run::<Trigger, _, _, _>(firebackup_function_schedule_trigger::handle).await
}
