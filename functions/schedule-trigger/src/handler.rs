//! A due time of a schedule becomes a backup, once however often it comes.

use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{Due, schedule_due};
use firebackup_model::id::JobId;
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Makes the backup of a due time; nothing where the schedule is disabled or gone.
///
/// # Errors
/// When it cannot be made: the scheduler tries again.
pub async fn handle(app: AwsApp, event: LambdaEvent<Due>) -> Result<Option<JobId>, StepError> {
    schedule_due(&app.control, &event.payload, app.now()).await
}
