//! What outlives a mistake: data that is kept, encrypted and shut off from the public; logs that end; and routes that a
//! local AWS can serve.

use serde_json::{Value, json};

use super::{FUNCTIONS, Template, assert_finds, assert_none, is_kept, list, logical, named};

/// What of the data could be lost or read.
fn data_violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    let mut demand = |holds: bool, says: String| {
        if !holds {
            found.push(says);
        }
    };
    for name in ["Table", "Bucket", "BucketPolicy", "Key", "KeyAlias"] {
        demand(template.all().get(name).is_some_and(is_kept), format!("{name} goes with the stack"));
    }
    let table = &template.resource("Table")["Properties"];
    demand(table["DeletionProtectionEnabled"] == true, "Table can be deleted".to_owned());
    demand(table["SSESpecification"]["SSEEnabled"] == true, "Table is not encrypted".to_owned());
    demand(
        table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] == true,
        "Table has no point-in-time recovery".to_owned(),
    );
    demand(
        table["TimeToLiveSpecification"] == json!({"AttributeName": "ttl", "Enabled": true}),
        "Table keeps what has expired".to_owned(),
    );
    let bucket = &template.resource("Bucket")["Properties"];
    demand(bucket["VersioningConfiguration"]["Status"] == "Enabled", "Bucket has no versions".to_owned());
    demand(bucket["ObjectLockEnabled"] == true, "Bucket cannot lock objects".to_owned());
    demand(bucket["ObjectLockConfiguration"].is_null(), "Bucket locks by default, and not object by object".to_owned());
    let key = &template.resource("Key")["Properties"];
    demand(key["EnableKeyRotation"] == true, "Key is not rotated".to_owned());
    demand(key["KeyPolicy"]["Statement"] == json!([account_decides()]), "Key may be used by others".to_owned());
    found
}

/// Leaves it to the account's own policies who may use a key.
fn account_decides() -> Value {
    let root = "arn:${AWS::Partition}:iam::${AWS::AccountId}:root";
    json!({"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": {"Fn::Sub": root}}, "Action": "kms:*", "Resource": "*"})
}

/// Functions that have the client of who signs people in, or lets us in, without needing it; or need it and have it not.
fn client_violations(template: &Template) -> Vec<String> {
    const NEED: [&str; 9] = [
        "api",
        "backup-plan",
        "backup-chunk",
        "backup-finalize",
        "restore-plan",
        "restore-chunk",
        "restore-finalize",
        "pitr-ingest",
        "maintenance",
    ];
    let names = ["FIREBACKUP_OIDC_CLIENT_ID", "FIREBACKUP_OIDC_CLIENT_SECRET", "FIREBACKUP_OIDC_ISSUER"];
    let mut found = Vec::new();
    for function in FUNCTIONS {
        let properties = &template.resource(&format!("{}Function", logical(function)))["Properties"];
        let variables = &properties["Environment"]["Variables"];
        for name in names {
            if NEED.contains(function) == variables[name].is_null() {
                found.push(format!("{function} and {name}"));
            }
        }
    }
    found
}

/// What of a bucket is open.
fn bucket_violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for (name, bucket) in template.resources("AWS::S3::Bucket") {
        let properties = &bucket["Properties"];
        for setting in ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"] {
            if properties["PublicAccessBlockConfiguration"][setting] != true {
                found.push(format!("{name} lacks {setting}"));
            }
        }
        if properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0].is_null() {
            found.push(format!("{name} is not encrypted"));
        }
        let rules = list(&properties["LifecycleConfiguration"]["Rules"]);
        if !rules.iter().any(|rule| rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"].is_u64()) {
            found.push(format!("{name} keeps uploads that were never completed"));
        }
        let policy = policy_of(template, name);
        if !policy.iter().any(|statement| is_only_over_tls(statement)) {
            found.push(format!("{name} is served without TLS"));
        }
        if policy.iter().any(|statement| statement["Effect"] != "Deny") {
            found.push(format!("{name} has a policy that does more than deny"));
        }
    }
    found
}

fn policy_of<'a>(template: &'a Template, bucket: &str) -> Vec<&'a Value> {
    let policies = template.resources("AWS::S3::BucketPolicy");
    let own = policies.filter(|(_, policy)| named(&policy["Properties"]["Bucket"]) == bucket);
    own.flat_map(|(_, policy)| list(&policy["Properties"]["PolicyDocument"]["Statement"])).collect()
}

fn is_only_over_tls(statement: &Value) -> bool {
    statement["Effect"] == "Deny"
        && statement["Principal"] == "*"
        && statement["Action"] == "s3:*"
        && list(&statement["Resource"]).len() == 2
        && statement["Condition"] == json!({"Bool": {"aws:SecureTransport": "false"}})
}

/// Where the bucket's policy stands.
const STATEMENTS: &str = "/Resources/BucketPolicy/Properties/PolicyDocument/Statement";
/// The places of a repository that its writers may overwrite and delete.
const PASSING: &[&str] = &["receipts", "intents", "probes"];

fn passing_places() -> Vec<String> {
    PASSING.iter().flat_map(|place| ["", "*/"].map(|prefix| format!("${{Bucket.Arn}}/{prefix}{place}/*"))).collect()
}

/// Denies everybody, whatever they are allowed elsewhere, to delete an object before its lock has ended.
fn is_bypass_denied(statement: &Value) -> bool {
    let denied = json!({
        "Sid": "NoLockIsBypassed",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:BypassGovernanceRetention",
        "Resource": {"Fn::Sub": "${Bucket.Arn}/*"},
    });
    *statement == denied
}

/// What the bucket's policy lets happen to what is written once.
fn immutability_violations(template: &Template) -> Vec<String> {
    let statements = policy_of(template, "Bucket");
    let denies = |sid: &str, actions: Value, condition: Value| {
        statements.iter().any(|statement| {
            let elsewhere: Vec<_> = list(&statement["NotResource"]).into_iter().map(named).collect();
            statement["Sid"] == sid
                && statement["Effect"] == "Deny"
                && statement["Principal"] == "*"
                && statement["Action"] == actions
                && statement["Condition"] == condition
                && elsewhere == passing_places()
        })
    };
    let once = json!({"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}});
    let prune = "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Name}-maintenance";
    let not_prune = json!({"ArnNotEquals": {"aws:PrincipalArn": {"Fn::Sub": prune}}});
    let mut found = Vec::new();
    if !denies("NothingIsOverwritten", json!("s3:PutObject"), once) {
        found.push("objects can be overwritten".to_owned());
    }
    if !denies("OnlyPruneDeletes", json!(["s3:DeleteObject", "s3:DeleteObjectVersion"]), not_prune) {
        found.push("others than the prune can delete".to_owned());
    }
    if !statements.iter().any(|statement| is_bypass_denied(statement)) {
        found.push("a lock can be bypassed".to_owned());
    }
    if named(&template.resource("MaintenanceRole")["Properties"]["RoleName"]) != "${Name}-maintenance" {
        found.push("the policy names a role that there is not".to_owned());
    }
    found
}

/// Which function's log never ends, or is made by Lambda itself and so kept for ever.
fn log_violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for function in FUNCTIONS {
        let name = format!("{}Logs", logical(function));
        let properties = &template.resource(&name)["Properties"];
        if named(&properties["LogGroupName"]) != format!("/aws/lambda/${{Name}}-{function}") {
            found.push(format!("{name} is not the log of {function}"));
        }
        let function = template.resource(&format!("{}Function", logical(function)));
        if function["DependsOn"] != name.as_str() {
            found.push(format!("{name} may come after its function"));
        }
    }
    for (name, group) in template.resources("AWS::Logs::LogGroup") {
        if group["Properties"]["RetentionInDays"].is_null() {
            found.push(format!("{name} is kept for ever"));
        }
    }
    found
}

/// Whoever opens destinations, or calls whom others chose, and is not told whether addresses inside may be called: what one
/// function has taken another would refuse.
fn address_violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for function in FUNCTIONS {
        let function = format!("{}Function", logical(function));
        let variables = &template.resource(&function)["Properties"]["Environment"]["Variables"];
        let calls = !variables["FIREBACKUP_BUCKET"].is_null() || function == "NotifyFunction";
        let told = variables["FIREBACKUP_ALLOW_PRIVATE_ADDRESSES"] == json!({"Ref": "AllowPrivateAddresses"});
        if calls != told {
            found.push(format!("{function} knows of addresses inside: {told}, and calls others: {calls}"));
        }
    }
    found
}

/// Routes that are hidden in an OpenAPI body or a function's events: a local AWS does not see these.
fn route_violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    let hidden = ["AWS::Serverless::HttpApi", "AWS::Serverless::Api"];
    found.extend(
        hidden.iter().flat_map(|kind| template.resources(kind)).map(|(name, _)| format!("{name} hides its routes")),
    );
    let apis = template.resources("AWS::ApiGatewayV2::Api").filter(|(_, api)| !api["Properties"]["Body"].is_null());
    found.extend(apis.map(|(name, _)| format!("{name} hides its routes")));
    let functions = template.resources("AWS::Serverless::Function");
    let eventful = functions.filter(|(_, function)| !function["Properties"]["Events"].is_null());
    found.extend(eventful.map(|(name, _)| format!("{name} hides what calls it")));
    for key in ["ANY /", "ANY /{proxy+}"] {
        if !template.resources("AWS::ApiGatewayV2::Route").any(|(_, route)| route["Properties"]["RouteKey"] == key) {
            found.push(format!("there is no route {key}"));
        }
    }
    found
}

#[test]
fn data_outlives_the_stack() {
    let template = Template::read();
    assert_none(&data_violations(&template));
    let gone = template.without("/Resources/Table", "DeletionPolicy");
    assert_finds(data_violations, &gone, "Table goes with the stack");
    let replaced = template.without("/Resources/Key", "UpdateReplacePolicy");
    assert_finds(data_violations, &replaced, "Key goes with the stack");
    let open = template.with("/Resources/Table/Properties/DeletionProtectionEnabled", json!(false));
    assert_finds(data_violations, &open, "Table can be deleted");
    let anybody = template.with("/Resources/Key/Properties/KeyPolicy/Statement/0/Principal", json!({"AWS": "*"}));
    assert_finds(data_violations, &anybody, "Key may be used by others");
}

/// Once only `api` was told: it took a destination in a private network, and every backup into it failed.
#[test]
fn all_who_call_others_know_whether_addresses_inside_may_be_called() {
    let template = Template::read();
    assert_none(&address_violations(&template));
    let variables = "/Resources/BackupChunkFunction/Properties/Environment/Variables";
    let untold = template.without(variables, "FIREBACKUP_ALLOW_PRIVATE_ADDRESSES");
    assert_finds(address_violations, &untold, "BackupChunkFunction knows of addresses inside");
}

#[test]
fn buckets_are_shut_encrypted_and_served_over_tls() {
    let template = Template::read();
    assert_none(&bucket_violations(&template));
    let open = template.without("/Resources/WorkBucket/Properties", "PublicAccessBlockConfiguration");
    assert_finds(bucket_violations, &open, "WorkBucket lacks BlockPublicPolicy");
    let clear = template.without("/Resources", "WorkBucketPolicy");
    assert_finds(bucket_violations, &clear, "WorkBucket is served without TLS");
    let open_to_all = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"});
    let allows = template.with_item(STATEMENTS, open_to_all);
    assert_finds(bucket_violations, &allows, "Bucket has a policy that does more than deny");
}

#[test]
fn what_is_written_once_is_neither_overwritten_nor_deleted() {
    let template = Template::read();
    assert_none(&immutability_violations(&template));
    let (overwritten, deleted) = ("objects can be overwritten", "others than the prune can delete");
    for (field, value, expect) in [
        ("1/Effect", json!("Allow"), overwritten),
        ("1/Condition/Null/s3:if-none-match", json!("false"), overwritten),
        ("1/Condition/Bool/s3:ObjectCreationOperation", json!("false"), overwritten),
        (
            "1/Condition",
            json!({"Bool": {"s3:ObjectCreationOperation": "true"}, "Null": {"s3:if-match": "true"}}),
            overwritten,
        ),
        ("1/NotResource/5", json!({"Fn::Sub": "${Bucket.Arn}/*"}), overwritten),
        ("2/Action", json!(["s3:DeleteObject"]), deleted),
        ("2/Condition/ArnNotEquals/aws:PrincipalArn", json!("*"), deleted),
        ("2/Condition/ArnNotEquals/aws:PrincipalArn/Fn::Sub", json!("arn:${AWS::Partition}:iam::*:role/*"), deleted),
        ("2/NotResource/0", json!("${Bucket.Arn}/runs/*"), deleted),
    ] {
        assert_finds(immutability_violations, &template.with(&format!("{STATEMENTS}/{field}"), value), expect);
    }
    for (condition, name, expect) in [
        ("1/Condition", "Bool", overwritten),
        ("1/Condition", "Null", overwritten),
        ("2/Condition", "ArnNotEquals", deleted),
    ] {
        assert_finds(immutability_violations, &template.without(&format!("{STATEMENTS}/{condition}"), name), expect);
    }
}

#[test]
fn no_lock_is_bypassed() {
    let template = Template::read();
    let found = |changed: &Template| assert_finds(immutability_violations, changed, "a lock can be bypassed");
    let statement = format!("{STATEMENTS}/3");
    for (field, value) in [
        ("Effect", json!("Allow")),
        ("Principal", json!({"AWS": {"Ref": "AWS::AccountId"}})),
        ("Action", json!("s3:PutObjectRetention")),
        ("Resource", json!({"Fn::Sub": "${Bucket.Arn}/runs/*"})),
        ("Resource", json!({"Fn::GetAtt": ["Bucket", "Arn"]})),
    ] {
        found(&template.with(&format!("{statement}/{field}"), value));
    }
    let root = "arn:${AWS::Partition}:iam::${AWS::AccountId}:root";
    let but_root = json!({"ArnNotEquals": {"aws:PrincipalArn": {"Fn::Sub": root}}});
    found(&template.with_field(&statement, "Condition", but_root));
}

#[test]
fn logs_end() {
    let template = Template::read();
    assert_none(&log_violations(&template));
    let endless = template.without("/Resources/ApiLogs/Properties", "RetentionInDays");
    assert_finds(log_violations, &endless, "ApiLogs is kept for ever");
}

#[test]
fn routes_are_resources() {
    let template = Template::read();
    assert_none(&route_violations(&template));
    let routeless = template.without("/Resources", "HttpApiRoute");
    assert_finds(route_violations, &routeless, "no route ANY /{proxy+}");
    let hidden = template.with("/Resources/HttpApi/Type", json!("AWS::Serverless::HttpApi"));
    assert_finds(route_violations, &hidden, "HttpApi hides its routes");
}

#[test]
fn emulators_are_used_only_when_a_parameter_names_one() {
    let template = Template::read();
    let variables = &template.0["Globals"]["Function"]["Environment"]["Variables"];
    for (name, parameter) in [
        ("FIRESTORE_EMULATOR_HOST", "FirestoreEmulatorHost"),
        ("FIREBASE_AUTH_EMULATOR_HOST", "AuthEmulatorHost"),
        ("AWS_ENDPOINT_URL", "EndpointUrl"),
    ] {
        assert_eq!(named(&variables[name]), format!("{parameter} or AWS::NoValue"));
        assert_eq!(template.0["Parameters"][parameter]["Default"], "");
    }
}

#[test]
fn the_client_of_who_signs_people_in_is_where_it_is_needed() {
    let template = Template::read();
    assert_none(&client_violations(&template));
    let step = "/Resources/RestoreChunkFunction/Properties/Environment/Variables";
    let without = template.without(step, "FIREBACKUP_OIDC_CLIENT_SECRET");
    assert_finds(client_violations, &without, "restore-chunk and FIREBACKUP_OIDC_CLIENT_SECRET");
    let notify = "/Resources/NotifyFunction/Properties/Environment/Variables/FIREBACKUP_KMS_KEY_ARN";
    let moved = template.0.pointer(notify).cloned().expect("notify has a key");
    let variables = notify.trim_end_matches("/FIREBACKUP_KMS_KEY_ARN");
    let more = json!({"FIREBACKUP_KMS_KEY_ARN": moved, "FIREBACKUP_OIDC_CLIENT_ID": "x"});
    assert_finds(client_violations, &template.with(variables, more), "notify and FIREBACKUP_OIDC_CLIENT_ID");
}
