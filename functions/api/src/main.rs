//! Answers the requests of API Gateway: the function `api`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    firebackup_function_api::serve().await
}
