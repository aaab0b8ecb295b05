//! The stack's own bucket: what a state machine reads, which is no part of a backup.

use std::fmt::Write;

use aws_sdk_s3::primitives::ByteStream;
use firebackup_model::{ErrorKind, PortError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::AwsClients;
use crate::error::port_error;

const PUT: &str = "store the list of chunks";
const DELETE: &str = "delete the list of chunks";

/// Where a list of chunks lies: what the state machine's map reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkList {
    /// The bucket.
    pub bucket: String,
    /// The object's key.
    pub key: String,
}

/// A bucket whose objects are gone after some days.
#[derive(Debug, Clone)]
pub struct WorkBucket {
    client: aws_sdk_s3::Client,
    bucket: String,
}

impl WorkBucket {
    /// The bucket of this name.
    #[must_use]
    pub fn new(clients: &AwsClients, bucket: impl Into<String>) -> Self {
        Self { client: clients.s3(), bucket: bucket.into() }
    }

    /// Stores the list of the chunks 0 to `chunks` (excluded) of a job, a line each. Storing it again replaces it by
    /// the same.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when `job` has other characters than letters, digits, `-` and
    /// `_`; otherwise what S3 says.
    pub async fn put_chunks(&self, job: &str, organization: &str, chunks: u32) -> Result<ChunkList, PortError> {
        let key = key_of(PUT, job)?;
        let body = ByteStream::from(chunk_lines(job, organization, chunks).into_bytes());
        let request = self.client.put_object().bucket(&self.bucket).key(&key).content_type("application/jsonl");
        request.body(body).send().await.map_err(|error| port_error(PUT, error))?;
        Ok(ChunkList { bucket: self.bucket.clone(), key })
    }

    /// Deletes the list of a job's chunks. One that is gone already is no error.
    ///
    /// # Errors
    /// As [`Self::put_chunks`].
    pub async fn delete_chunks(&self, job: &str) -> Result<(), PortError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key_of(DELETE, job)?);
        request.send().await.map(drop).map_err(|error| port_error(DELETE, error))
    }
}

fn key_of(operation: &str, job: &str) -> Result<String, PortError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if job.is_empty() || !job.bytes().all(allowed) {
        let message = "a job's id has letters, digits, `-` and `_`";
        return Err(PortError::new(ErrorKind::InvalidArgument, operation, message));
    }
    Ok(format!("jobs/{job}/chunks.jsonl"))
}

/// The list: each line is what the first step of a chunk takes.
fn chunk_lines(job: &str, organization: &str, chunks: u32) -> String {
    let mut lines = String::new();
    for chunk in 0..chunks {
        let line = json!({"job": job, "organization": organization, "chunk": chunk, "sequence": 0});
        // writing into a text cannot fail
        let _ = writeln!(lines, "{line}");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_a_line() {
        let golden = "{\"chunk\":0,\"job\":\"bkp_1\",\"organization\":\"org_1\",\"sequence\":0}\n\
                      {\"chunk\":1,\"job\":\"bkp_1\",\"organization\":\"org_1\",\"sequence\":0}\n";
        assert_eq!(chunk_lines("bkp_1", "org_1", 2), golden);
        assert_eq!(chunk_lines("bkp_1", "org_1", 0), "");
    }

    #[test]
    fn a_list_lies_below_its_job() {
        assert_eq!(key_of("test", "bkp_01ARZ3").unwrap(), "jobs/bkp_01ARZ3/chunks.jsonl");
        for job in ["", "../x", "a/b", "a b"] {
            assert_eq!(key_of("test", job).unwrap_err().kind, ErrorKind::InvalidArgument, "{job}");
        }
    }
}
