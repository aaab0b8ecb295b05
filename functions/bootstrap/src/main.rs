//! All functions in one program: which one it is says `_HANDLER`, as Lambda sets it.

use firebackup_bootstrap::aws::run;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let name = std::env::var("_HANDLER").unwrap_or_default();
    match name.as_str() {
        "api" => firebackup_function_api::serve().await,
        "backup-chunk" => run(firebackup_function_backup_chunk::handle).await,
        "backup-finalize" => run(firebackup_function_backup_finalize::handle).await,
        "backup-plan" => run(firebackup_function_backup_plan::handle).await,
        "job-start" => run(firebackup_function_job_start::handle).await,
        "maintenance" => run(firebackup_function_maintenance::handle).await,
        "restore-chunk" => run(firebackup_function_restore_chunk::handle).await,
        "restore-finalize" => run(firebackup_function_restore_finalize::handle).await,
        "restore-plan" => run(firebackup_function_restore_plan::handle).await,
        "schedule-trigger" => run(firebackup_function_schedule_trigger::handle).await,
        _ => Err(format!("_HANDLER names no function of ours: `{name}`").into()),
    }
}
