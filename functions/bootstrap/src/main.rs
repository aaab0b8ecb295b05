//! All functions in one program: which one it is says `_HANDLER`, as Lambda sets it.

use firebackup_bootstrap::aws::run;
use firebackup_bootstrap::roles::{Capture, Care, Chunk, Ends, Live, Notify, Start, Trigger};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let name = std::env::var("_HANDLER").unwrap_or_default();
    match name.as_str() {
        "api" => firebackup_function_api::serve().await,
        "backup-chunk" => run::<Chunk, _, _, _>(firebackup_function_backup_chunk::handle).await,
        "backup-finalize" => run::<Ends, _, _, _>(firebackup_function_backup_finalize::handle).await,
        "backup-plan" => run::<Ends, _, _, _>(firebackup_function_backup_plan::handle).await,
        "job-start" => run::<Start, _, _, _>(firebackup_function_job_start::handle).await,
        "maintenance" => run::<Care, _, _, _>(firebackup_function_maintenance::handle).await,
        "notify" => run::<Notify, _, _, _>(firebackup_function_notify::handle).await,
        "pitr-ingest" => run::<Capture, _, _, _>(firebackup_function_pitr_ingest::handle).await,
        "realtime" => run::<Live, _, _, _>(firebackup_function_realtime::handle).await,
        "restore-chunk" => run::<Chunk, _, _, _>(firebackup_function_restore_chunk::handle).await,
        "restore-finalize" => run::<Ends, _, _, _>(firebackup_function_restore_finalize::handle).await,
        "restore-plan" => run::<Ends, _, _, _>(firebackup_function_restore_plan::handle).await,
        "schedule-trigger" => run::<Trigger, _, _, _>(firebackup_function_schedule_trigger::handle).await,
        _ => Err(format!("_HANDLER names no function of ours: `{name}`").into()),
    }
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::event::sqs::SqsEvent;
    use firebackup_bootstrap::{ChunkInput, Due, FinalizeInput, JobInput, LiveInput, MaintenanceTask};
    use lambda_http::request::LambdaRequest;

    fn each<T: serde::de::DeserializeOwned>(function: &str, refused: &[&str]) {
        firebackup_testkit::events::each(function, refused, |text| serde_json::from_str::<T>(text).map(drop));
    }

    #[test]
    fn api_reads_its_sample_events() {
        each::<LambdaRequest>("api", &[]);
    }

    #[test]
    fn backup_chunk_reads_its_sample_events() {
        each::<ChunkInput>("backup-chunk", &["negative"]);
    }

    #[test]
    fn backup_finalize_reads_its_sample_events() {
        each::<FinalizeInput>("backup-finalize", &[]);
    }

    #[test]
    fn backup_plan_reads_its_sample_events() {
        each::<JobInput>("backup-plan", &["no-job"]);
    }

    #[test]
    fn job_start_reads_its_sample_events() {
        each::<SqsEvent>("job-start", &[]);
    }

    #[test]
    fn maintenance_reads_its_sample_events() {
        each::<MaintenanceTask>("maintenance", &["unknown"]);
    }

    #[test]
    fn notify_reads_its_sample_events() {
        each::<SqsEvent>("notify", &[]);
    }

    #[test]
    fn pitr_ingest_reads_its_sample_events() {
        each::<SqsEvent>("pitr-ingest", &[]);
    }

    #[test]
    fn realtime_reads_its_sample_events() {
        each::<LiveInput>("realtime", &["unknown"]);
    }

    #[test]
    fn restore_chunk_reads_its_sample_events() {
        each::<ChunkInput>("restore-chunk", &["negative"]);
    }

    #[test]
    fn restore_finalize_reads_its_sample_events() {
        each::<FinalizeInput>("restore-finalize", &[]);
    }

    #[test]
    fn restore_plan_reads_its_sample_events() {
        each::<JobInput>("restore-plan", &["no-job"]);
    }

    #[test]
    fn schedule_trigger_reads_its_sample_events() {
        each::<Due>("schedule-trigger", &["empty"]);
    }
}
