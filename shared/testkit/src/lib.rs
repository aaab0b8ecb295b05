//! What the tests of FireBackup stand on: servers in Firestore's place, generators and workloads. A development
//! dependency only.

pub mod bytes_codec;
pub mod faulty_store;
pub mod gcs_server;
pub mod generators;
pub mod grpc_server;
pub mod method;
pub mod proxy;
pub mod replay;
pub mod s3_server;
pub mod samples;
pub mod store_suite;
pub mod workload;

pub use method::Method;
pub use proxy::{Proxy, ProxyOptions};
pub use replay::Replay;
pub use workload::Transfers;
