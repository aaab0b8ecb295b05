//! The whole story on AWS, and the end of a month: items, objects, logs, settings, answers, the audit export, and what webhooks are told.

use super::deployed::Deployed;
use crate::browser::CLIENT;
use crate::planted::Story;
use crate::serve::installation::Api;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_whole_story_no_secret_is_seen_anywhere() {
    let mut story = Story::begin().await;
    let folder = tempfile::tempdir().unwrap();
    let parameters = format!(
        "ChunkDocuments=50 OidcClientId={} OidcIssuer={} AllowPrivateAddresses=true SignUp=*",
        CLIENT.0,
        story.issuer.issuer()
    );
    let stack = Deployed::signing_in(&parameters, Some(story.write_client_secret(folder.path()))).await;
    // what connects it is the story's to do: here are only the documents
    stack.documents("demo-planted", 60).await;
    let address = format!("{}/api/v1", stack.api.url());
    let api = Api { client: reqwest::Client::new(), address, key: stack.key().to_owned() };
    stack.explaining("the story", story.tell(&api, &stack.google_proxy.host())).await;
    stack.explaining("a month is sealed", super::months::is_sealed(&stack)).await;
    stack.explaining("a destination is moved", super::moves::is_done_by_the_sweep(&stack)).await;
    let mut found = story.repository();
    found.push(("ministack's output".to_owned(), stack.ministack.output().into_bytes()));
    let items = stack.aws.items(stack.output("TableName")).await;
    assert!(items.len() > 40, "{}", items.len());
    found.extend(items.into_iter().map(|item| ("an item".to_owned(), item.into_bytes())));
    for bucket in [stack.output("BucketName"), stack.output("WorkBucketName")] {
        for key in stack.aws.objects(bucket, "").await {
            let bytes = stack.aws.object(bucket, &key).await;
            found.push((key, bytes));
        }
    }
    for function in crate::template::FUNCTIONS {
        let function = format!("firebackup-{function}");
        let lines = stack.aws.logs(&function).await.join("\n");
        found.push((format!("the log of {function}"), lines.into_bytes()));
        let settings = stack.aws.function(&function).await.to_string();
        found.push((format!("the settings of {function}"), settings.into_bytes()));
    }
    story.assert_unseen(found.iter().map(|(place, bytes)| (place.clone(), bytes.as_slice())));
}
