//! What the tests of FireBackup stand on: servers in Firestore's place, generators and workloads. A development
//! dependency only.

pub mod aws_proxy;
pub mod bytes_codec;
pub mod event_bus_suite;
pub mod events;
pub mod eventually;
pub mod faulty_store;
pub mod gcs_server;
pub mod generators;
pub mod google_tokens;
pub mod grpc_server;
pub mod hand_clock;
pub mod http_client;
mod installed;
pub mod item_store_suite;
pub mod job_queue_suite;
pub mod key_service_suite;
pub mod memory_issuer;
pub mod memory_items;
pub mod memory_ports;
pub mod memory_push;
pub mod memory_receiver;
pub mod method;
pub mod ministack;
pub mod oauth_server;
mod peer_process;
pub mod proxy;
pub mod replay;
pub mod s3_server;
pub mod samples;
pub mod scheduler_suite;
pub mod standard_webhooks;
pub mod store_suite;
pub mod workflows_suite;
pub mod workload;

pub use aws_proxy::{AwsCall, AwsFault, AwsFaults, AwsProxy};
pub use eventually::eventually;
pub use hand_clock::HandClock;
pub use http_client::HttpClient;
pub use installed::installed;
pub use method::Method;
pub use oauth_server::OAuthServer;
pub use proxy::{Proxy, ProxyOptions};
pub use replay::Replay;
pub use workload::Transfers;
