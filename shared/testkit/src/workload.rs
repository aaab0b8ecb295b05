//! Writers that keep an invariant while a backup runs.
//!
//! [`Transfers`] moves money between accounts in transactions: at every moment the balances have one and the same sum.
//! A backup that is not of one moment sees money twice, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firebackup_model::DatabaseName;
use firebackup_model::path::collection_group_of;
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BeginTransactionRequest, CommitRequest, Document, Value, Write,
    batch_get_documents_request, batch_get_documents_response, value::ValueType, write::Operation,
};
use prost::Message;
use rand::rngs::StdRng;
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// The collection that the accounts stand in.
pub const COLLECTION: &str = "accounts";
const BALANCE: &str = "balance";
const MOVES: &str = "moves";
const WRITERS: u64 = 4;
const WRITES_A_COMMIT: usize = 500;

type Client = FirestoreClient<InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>>;

/// Why a workload could not go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The host is none.
    #[error("could not connect the workload to {host}")]
    Host {
        /// What was given.
        host: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// A call failed, and not because of contention.
    #[error("could not {operation} for the workload")]
    Call {
        /// What was being done.
        operation: &'static str,
        /// What the server said.
        #[source]
        source: Status,
    },
    /// A writer panicked.
    #[error("a writer of the workload panicked")]
    Writer(#[source] tokio::task::JoinError),
}

/// Transactional transfers between accounts, until stopped.
#[derive(Debug)]
pub struct Transfers {
    stop: Arc<AtomicBool>,
    done: watch::Receiver<u64>,
    writers: JoinSet<Result<(), WorkloadError>>,
}

impl Transfers {
    /// Creates `accounts` accounts (at least two) whose balances are `total` together, and starts to move money.
    ///
    /// # Errors
    /// When the accounts cannot be created.
    pub async fn start(
        host: &str,
        database: &DatabaseName,
        accounts: usize,
        total: i64,
    ) -> Result<Self, WorkloadError> {
        let bank = Bank { client: connect(host)?, database: database.clone(), accounts: accounts.max(2) };
        bank.open(total).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let (count, done) = watch::channel(0);
        let mut writers = JoinSet::new();
        for seed in 0..WRITERS {
            writers.spawn(transfer_until(bank.clone(), seed, Arc::clone(&stop), count.clone()));
        }
        Ok(Self { stop, done, writers })
    }

    /// How many transfers have been committed.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        *self.done.borrow()
    }

    /// Waits until there are at least `wanted` transfers, or no writer is left.
    pub async fn wait_for(&mut self, wanted: u64) {
        // an error says that the writers are gone, which `stop` tells the reason of
        let _ = self.done.wait_for(|done| *done >= wanted).await;
    }

    /// Stops, and says how many transfers there were.
    ///
    /// # Errors
    /// When a writer failed.
    pub async fn stop(mut self) -> Result<u64, WorkloadError> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.map_err(WorkloadError::Writer)??;
        }
        Ok(self.transfers())
    }
}

/// What accounts hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balances {
    /// How many accounts there are.
    pub accounts: usize,
    /// The sum of their balances.
    pub total: i64,
}

/// Adds up the accounts among `documents` (`google.firestore.v1.Document`); others are passed over.
///
/// # Errors
/// When one is no document.
pub fn sum<D: AsRef<[u8]>>(documents: impl IntoIterator<Item = D>) -> Result<Balances, prost::DecodeError> {
    let mut balances = Balances::default();
    for document in documents {
        let document = Document::decode(document.as_ref())?;
        let path = document.name.split_once("/documents/").map_or("", |(_, path)| path);
        if collection_group_of(path) == COLLECTION {
            balances.accounts += 1;
            balances.total += integer(&document, BALANCE);
        }
    }
    Ok(balances)
}

#[derive(Debug, Clone)]
struct Bank {
    client: Client,
    database: DatabaseName,
    accounts: usize,
}

async fn transfer_until(
    mut bank: Bank,
    seed: u64,
    stop: Arc<AtomicBool>,
    done: watch::Sender<u64>,
) -> Result<(), WorkloadError> {
    let mut random = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        let pair = index::sample(&mut random, bank.accounts, 2);
        let share = random.random_range(0.0..=1.0);
        match bank.transfer(pair.index(0), pair.index(1), share).await {
            Ok(()) => done.send_modify(|done| *done += 1),
            Err(WorkloadError::Call { source, .. }) if is_contention(source.code()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a transaction may run into without anything being wrong; an unfinished one changes nothing.
const fn is_contention(code: Code) -> bool {
    matches!(code, Code::Aborted | Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded)
}

impl Bank {
    async fn open(&self, total: i64) -> Result<(), WorkloadError> {
        let accounts = i64::try_from(self.accounts).unwrap_or(i64::MAX);
        let (share, mut rest) = (total / accounts, total % accounts);
        let mut writes = Vec::with_capacity(self.accounts);
        for account in 0..self.accounts {
            let odd = rest.signum();
            rest -= odd;
            writes.push(self.write(account, share + odd, 0));
        }
        let mut client = self.client.clone();
        for writes in writes.chunks(WRITES_A_COMMIT) {
            let database = self.database.resource();
            let request = CommitRequest { database, writes: writes.to_vec(), ..CommitRequest::default() };
            client.commit(request).await.map_err(|source| failed("create accounts", source))?;
        }
        Ok(())
    }

    /// Moves a share of one balance to another, in one transaction.
    async fn transfer(&mut self, from: usize, to: usize, share: f64) -> Result<(), WorkloadError> {
        let database = self.database.resource();
        let begin = BeginTransactionRequest { database: database.clone(), ..BeginTransactionRequest::default() };
        let begun = self.client.begin_transaction(begin).await;
        let transaction = begun.map_err(|source| failed("begin a transaction", source))?.into_inner().transaction;
        let read = self.read([from, to], transaction.clone()).await;
        let [(from_balance, from_moves), (to_balance, to_moves)] =
            read.map_err(|source| failed("read accounts", source))?;
        let amount = (from_balance.max(0) as f64 * share) as i64;
        let writes = vec![
            self.write(from, from_balance - amount, from_moves + 1),
            self.write(to, to_balance + amount, to_moves + 1),
        ];
        let commit = CommitRequest { database, writes, transaction, ..CommitRequest::default() };
        self.client.commit(commit).await.map_err(|source| failed("commit a transfer", source))?;
        Ok(())
    }

    /// Balance and number of moves of two accounts.
    async fn read(&mut self, accounts: [usize; 2], transaction: Vec<u8>) -> Result<[(i64, i64); 2], Status> {
        let names = accounts.map(|account| self.name(account));
        let request = BatchGetDocumentsRequest {
            database: self.database.resource(),
            documents: names.to_vec(),
            consistency_selector: Some(batch_get_documents_request::ConsistencySelector::Transaction(transaction)),
            ..BatchGetDocumentsRequest::default()
        };
        let mut answers = self.client.batch_get_documents(request).await?.into_inner();
        let mut read = [None; 2];
        while let Some(answer) = answers.message().await? {
            if let Some(batch_get_documents_response::Result::Found(document)) = answer.result {
                let place = names.iter().position(|name| *name == document.name);
                if let Some(slot) = place.and_then(|place| read.get_mut(place)) {
                    *slot = Some((integer(&document, BALANCE), integer(&document, MOVES)));
                }
            }
        }
        match read {
            [Some(from), Some(to)] => Ok([from, to]),
            _ => Err(Status::not_found("an account is gone")),
        }
    }

    fn name(&self, account: usize) -> String {
        self.database.document_name(&format!("{COLLECTION}/{account:06}"))
    }

    fn write(&self, account: usize, balance: i64, moves: i64) -> Write {
        let number = |value| Value { value_type: Some(ValueType::IntegerValue(value)) };
        let fields = [(BALANCE.to_owned(), number(balance)), (MOVES.to_owned(), number(moves))].into();
        let document = Document { name: self.name(account), fields, ..Document::default() };
        Write { operation: Some(Operation::Update(document)), ..Write::default() }
    }
}

fn integer(document: &Document, field: &str) -> i64 {
    match document.fields.get(field).and_then(|value| value.value_type.as_ref()) {
        Some(ValueType::IntegerValue(value)) => *value,
        _ => 0,
    }
}

const fn failed(operation: &'static str, source: Status) -> WorkloadError {
    WorkloadError::Call { operation, source }
}

fn connect(host: &str) -> Result<Client, WorkloadError> {
    let endpoint = Endpoint::from_shared(format!("http://{host}"));
    let endpoint = endpoint.map_err(|source| WorkloadError::Host { host: host.to_owned(), source })?;
    Ok(FirestoreClient::with_interceptor(endpoint.connect_lazy(), as_owner))
}

/// The emulator lets this bearer past any security rules.
fn as_owner(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer owner"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sums_accounts_and_nothing_else() {
        let bank = Bank {
            client: FirestoreClient::with_interceptor(
                Endpoint::from_static("http://127.0.0.1:1").connect_lazy(),
                as_owner,
            ),
            database: DatabaseName::new("p", "(default)"),
            accounts: 2,
        };
        let document = |write: Write| match write.operation {
            Some(Operation::Update(document)) => document.encode_to_vec(),
            _ => Vec::new(),
        };
        let other = Document { name: bank.database.document_name("orders/1"), ..Document::default() }.encode_to_vec();
        let documents = [document(bank.write(0, 70, 1)), other, document(bank.write(1, -20, 3))];
        assert_eq!(sum(documents).unwrap(), Balances { accounts: 2, total: 50 });
        assert!(sum([[0xff_u8]]).is_err());
    }
}
