//! What an unfinished backup has read so far.

use firebackup_codec::object::ObjectType;
use firebackup_model::job::{Plan, Receipt, UsersReceipt};

use crate::error::Result;
use crate::layout;
use crate::repository::Repository;

/// Billed document reads of all receipts of a job.
///
/// # Errors
/// When the store fails or a receipt cannot be read.
pub(crate) async fn reads_so_far(repository: &Repository, plan: &Plan) -> Result<u64> {
    let mut reads = 0;
    for chunk in 0..plan.chunks.len() as u32 {
        for meta in repository.list(layout::chunk_receipts(&plan.job, chunk).as_ref()).await? {
            let found: Option<(Receipt, _)> = repository.get_sealed(ObjectType::Receipt, &meta.location).await?;
            reads += found.map_or(0, |(receipt, _)| receipt.reads);
        }
    }
    // not counted, but what cannot be read must be found as early
    repository.get_sealed::<UsersReceipt>(ObjectType::UsersReceipt, &layout::users_receipt(&plan.job)).await?;
    Ok(reads)
}
