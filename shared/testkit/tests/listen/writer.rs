//! Somebody who writes, in every way there is.

use std::time::Duration;

use firebackup_model::DatabaseName;
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::{
    BatchWriteRequest, BeginTransactionRequest, CommitRequest, CreateDocumentRequest, DeleteDocumentRequest, Document,
    GetDocumentRequest, UpdateDocumentRequest, Value, Write, get_document_request, value::ValueType, write::Operation,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::ears::{GROUPS, client, owner};

pub struct Writer {
    client: FirestoreClient<Channel>,
    database: DatabaseName,
    random: StdRng,
}

impl Writer {
    pub fn new(host: &str, database: &DatabaseName, seed: u64) -> Self {
        Self { client: client(host), database: database.clone(), random: StdRng::seed_from_u64(seed) }
    }

    pub fn with_seed(&self, seed: u64) -> Self {
        let (client, database) = (self.client.clone(), self.database.clone());
        Self { client, database, random: StdRng::seed_from_u64(seed) }
    }

    pub async fn put(&mut self, path: &str, number: i64) {
        self.try_put(path, number).await.unwrap();
    }

    pub async fn try_put(&mut self, path: &str, number: i64) -> Result<(), Status> {
        self.commit(vec![self.put_of(path, number)], Vec::new()).await
    }

    /// Puts documents of about a megabyte in one `BatchWrite`, which the proxy hands on in parts when it is too large.
    pub async fn put_large(&mut self, paths: &[&str]) -> Result<(), Status> {
        let large = Value { value_type: Some(ValueType::BytesValue(vec![7; 900_000])) };
        let put = |path: &&str| {
            let fields = [("f".to_owned(), large.clone())].into();
            let document = Document { fields, ..self.document(path, 0) };
            Write { operation: Some(Operation::Update(document)), ..Write::default() }
        };
        let writes = paths.iter().map(put).collect();
        let request = BatchWriteRequest { database: self.database.resource(), writes, ..Default::default() };
        self.client.batch_write(owner(request)).await.map(drop)
    }

    pub async fn delete(&mut self, path: &str) {
        let request = DeleteDocumentRequest { name: self.database.document_name(path), ..Default::default() };
        self.client.delete_document(owner(request)).await.unwrap();
    }

    /// Stops waiting for the answer after `patience`.
    pub async fn put_and_give_up(&mut self, path: &str, number: i64, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.put(path, number)).await;
    }

    /// So many writes, one after the other.
    pub async fn write_at_random(mut self, writes: usize) {
        for _ in 0..writes {
            let done = match self.random.random_range(0..5) {
                0 => self.transaction().await,
                1 => self.batch().await,
                2 => self.create().await,
                3 => self.update().await,
                _ => {
                    let path = self.path();
                    self.delete(&path).await;
                    Ok(())
                }
            };
            if let Err(status) = done {
                assert_eq!(status.code(), Code::Aborted, "{status}");
            }
        }
    }

    /// Reads a document, and changes it and others together.
    async fn transaction(&mut self) -> Result<(), Status> {
        let begin = BeginTransactionRequest { database: self.database.resource(), ..Default::default() };
        let transaction = self.client.begin_transaction(owner(begin)).await?.into_inner().transaction;
        let path = self.path();
        let get = GetDocumentRequest {
            name: self.database.document_name(&path),
            consistency_selector: Some(get_document_request::ConsistencySelector::Transaction(transaction.clone())),
            ..Default::default()
        };
        match self.client.get_document(owner(get)).await {
            Err(status) if status.code() != Code::NotFound => return Err(status),
            _ => {}
        }
        let number = self.random.random();
        let mut writes = vec![self.put_of(&path, number)];
        writes.extend((0..3).map(|_| self.any_write()));
        self.commit(writes, transaction).await
    }

    async fn batch(&mut self) -> Result<(), Status> {
        let mut writes: Vec<(String, Write)> = Vec::new();
        for _ in 0..6 {
            let path = self.path();
            if writes.iter().all(|(other, _)| *other != path) {
                let write = self.write_of(&path);
                writes.push((path, write));
            }
        }
        let writes = writes.into_iter().map(|(_, write)| write).collect();
        let request = BatchWriteRequest { database: self.database.resource(), writes, ..Default::default() };
        self.client.batch_write(owner(request)).await.map(drop)
    }

    /// The server makes the id up.
    async fn create(&mut self) -> Result<(), Status> {
        let collection_id = self.group().to_owned();
        let document = Some(Document { name: String::new(), ..self.document("x/x", 1) });
        let parent = self.database.documents_root();
        let request = CreateDocumentRequest { parent, collection_id, document, ..Default::default() };
        self.client.create_document(owner(request)).await.map(drop)
    }

    async fn update(&mut self) -> Result<(), Status> {
        let (path, number) = (self.path(), self.random.random());
        let document = Some(self.document(&path, number));
        let request = UpdateDocumentRequest { document, ..Default::default() };
        self.client.update_document(owner(request)).await.map(drop)
    }

    async fn commit(&mut self, writes: Vec<Write>, transaction: Vec<u8>) -> Result<(), Status> {
        let request = CommitRequest { database: self.database.resource(), writes, transaction, ..Default::default() };
        self.client.commit(owner(request)).await.map(drop)
    }

    fn any_write(&mut self) -> Write {
        let path = self.path();
        self.write_of(&path)
    }

    fn write_of(&mut self, path: &str) -> Write {
        if self.random.random_ratio(1, 3) {
            let operation = Some(Operation::Delete(self.database.document_name(path)));
            return Write { operation, ..Write::default() };
        }
        let number = self.random.random();
        self.put_of(path, number)
    }

    fn put_of(&self, path: &str, number: i64) -> Write {
        Write { operation: Some(Operation::Update(self.document(path, number))), ..Write::default() }
    }

    /// Of several fields, so that their order shows.
    fn document(&self, path: &str, number: i64) -> Document {
        let value = |number| Value { value_type: Some(ValueType::IntegerValue(number)) };
        let fields = (0..6).map(|n| (format!("f{n}"), value(number.wrapping_add(n)))).collect();
        Document { name: self.database.document_name(path), fields, ..Document::default() }
    }

    fn group(&mut self) -> &'static str {
        GROUPS[self.random.random_range(0..GROUPS.len())]
    }

    fn path(&mut self) -> String {
        let (group, number) = (self.group(), self.random.random_range(0..8));
        let above = if self.random.random() { "" } else { "places/x/" };
        format!("{above}{group}/{number}")
    }
}
