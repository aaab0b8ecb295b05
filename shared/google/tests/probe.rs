//! temporary
use firebackup_google::*;
use firebackup_model::port::*;
use firebackup_model::*;
#[tokio::test]
async fn probe() {
    let key = serde_json::json!({"type":"service_account","project_id":"p","private_key_id":"x","private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n","client_email":"a@b.c","client_id":"1","token_uri":"http://127.0.0.1:1/token"});
    let p = std::env::temp_dir().join("probe-key.json");
    std::fs::write(&p, key.to_string()).unwrap();
    for access in [Access::ServiceAccountFile(p.clone()), Access::ApplicationDefault] {
        let r = tokio::time::timeout(
            std::time::Duration::from_secs(45),
            Firestore::connect(FirestoreOptions {
                database: DatabaseName::new("p", "(default)"),
                access: access.clone(),
            }),
        )
        .await;
        match r {
            Ok(Ok(f)) => println!("connected {:?}", f.snapshot_time().await),
            Ok(Err(e)) => println!("{e:?}"),
            Err(_) => println!("timeout"),
        }
        let i = IdentityToolkit::connect(IdentityOptions { project: "p".into(), access }).await;
        match i {
            Ok(i) => {
                println!("{:?}", tokio::time::timeout(std::time::Duration::from_secs(45), i.page(None, None)).await)
            }
            Err(e) => println!("{e:?}"),
        }
    }
}
