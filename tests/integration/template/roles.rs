//! Each function has a role of its own, and may do exactly what stands here, on exactly these resources.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{FUNCTIONS, Template, assert_finds, assert_none, every, list, logical, named};

/// Actions, and the resources they may be done on.
struct Grant(&'static [&'static str], &'static [&'static str]);

const TABLE: Grant = Grant(
    &[
        "dynamodb:GetItem",
        "dynamodb:Query",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
        "dynamodb:DeleteItem",
        "dynamodb:ConditionCheckItem",
    ],
    &["dynamodb:table/${Name}"],
);
/// A chunk looks at its job and says how far it is, a webhook is told and that is noted: nothing is deleted.
const TABLE_OF_CHUNK: Grant = Grant(
    &["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"],
    &["dynamodb:table/${Name}"],
);
const INDEX: Grant = Grant(&["dynamodb:Query"], &["dynamodb:table/${Name}/index/index1"]);
const KEYS: &[&str] = &["Key or KmsKeyArn", "OrganizationKeyArns"];
const UNWRAP: Grant = Grant(&["kms:Decrypt"], KEYS);
const GENERATE: Grant = Grant(&["kms:GenerateDataKey"], KEYS);
const WRAP: Grant = Grant(&["kms:Encrypt"], KEYS);
const REENCRYPT: Grant = Grant(&["kms:ReEncryptFrom", "kms:ReEncryptTo"], KEYS);
const SCHEDULES: Grant = Grant(
    &["scheduler:CreateSchedule", "scheduler:UpdateSchedule", "scheduler:GetSchedule", "scheduler:DeleteSchedule"],
    &["scheduler:schedule/${Name}/*"],
);
const PASS_ROLE: Grant = Grant(&["iam:PassRole"], &["ScheduleRole"]);
const EVENTS: Grant = Grant(&["events:PutEvents"], &["EventBus"]);
const SEND_JOBS: Grant = Grant(&["sqs:SendMessage"], &["JobsQueue"]);
const SEND_CAPTURES: Grant = Grant(&["sqs:SendMessage"], &["PitrQueue"]);
const SEND_NOTICES: Grant = Grant(&["sqs:SendMessage"], &["NotifyQueue"]);
const DEAD_LETTERS: Grant = Grant(&["sqs:SendMessage"], &["AsyncDeadLetters"]);
const LIST: Grant = Grant(&["s3:ListBucket", "s3:ListBucketVersions"], &[BUCKET]);
const READ: Grant = Grant(&["s3:GetObject", "s3:GetObjectVersion"], &[OBJECTS]);
const WRITE: Grant =
    Grant(&["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObjectRetention", "s3:PutObjectRetention"], &[OBJECTS]);
const DELETE_JOB_STATE: Grant = Grant(
    &["s3:DeleteObject"],
    &[
        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/receipts/*",
        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/receipts/*",
        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/intents/*",
        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/intents/*",
    ],
);
const PUT_PLAN: Grant = Grant(&["s3:PutObject"], &[WORK]);
const DELETE_PLAN: Grant = Grant(&["s3:DeleteObject"], &[WORK]);
const DESCRIBE: Grant = Grant(&["states:DescribeExecution"], EXECUTIONS);
const START: Grant = Grant(&["states:StartExecution"], &["BackupStateMachine", "RestoreStateMachine"]);

const BUCKET: &str = "s3:${Name}-${AWS.AccountId}-${AWS.Region}";
const OBJECTS: &str = "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*";
const WORK: &str = "s3:${Name}-work-${AWS.AccountId}-${AWS.Region}/jobs/*";
const EXECUTIONS: &[&str] = &["states:execution:${Name}-backup:*", "states:execution:${Name}-restore:*"];

const WRITER: &[Grant] = &[INDEX, UNWRAP, LIST, READ, WRITE, DELETE_JOB_STATE];

/// What a function may do besides writing its log and its traces.
fn granted(function: &str) -> Vec<&'static [Grant]> {
    match function {
        "api" => vec![
            &[TABLE, INDEX, SEND_JOBS, UNWRAP, WRAP, EVENTS, LIST, READ],
            &[
                REENCRYPT,
                SCHEDULES,
                PASS_ROLE,
                SEND_NOTICES,
                SEND_CAPTURES,
                Grant(
                    &[
                        "s3:GetBucketVersioning",
                        "s3:GetBucketObjectLockConfiguration",
                        "s3:GetBucketPublicAccessBlock",
                        "s3:GetBucketPolicy",
                    ],
                    &[BUCKET],
                ),
                Grant(
                    &["s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"],
                    &[
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/probes/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/probes/*",
                    ],
                ),
            ],
        ],
        "schedule-trigger" => vec![&[TABLE, INDEX, SEND_JOBS, EVENTS, DEAD_LETTERS]],
        "job-start" => vec![&[
            TABLE,
            INDEX,
            SEND_JOBS,
            EVENTS,
            DESCRIBE,
            Grant(
                &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"],
                &["JobsQueue"],
            ),
            START,
        ]],
        "backup-plan" => vec![WRITER, &[TABLE, WRAP, PUT_PLAN]],
        "restore-plan" => vec![WRITER, &[TABLE, PUT_PLAN]],
        "backup-chunk" | "restore-chunk" => vec![WRITER, &[TABLE_OF_CHUNK, EVENTS]],
        "backup-finalize" | "restore-finalize" => vec![WRITER, &[TABLE, EVENTS, SEND_JOBS, DELETE_PLAN]],
        "maintenance" => vec![
            &[TABLE, INDEX, UNWRAP, GENERATE, WRAP, EVENTS, LIST, READ, SEND_JOBS, DEAD_LETTERS, DESCRIBE],
            &[
                REENCRYPT,
                SCHEDULES,
                PASS_ROLE,
                START,
                DELETE_PLAN,
                SEND_NOTICES,
                SEND_CAPTURES,
                Grant(
                    &[
                        "s3:DeleteObject",
                        "s3:DeleteObjectVersion",
                        "s3:GetObjectRetention",
                        "s3:PutObjectRetention",
                        "s3:AbortMultipartUpload",
                    ],
                    &[OBJECTS],
                ),
                Grant(
                    &["s3:PutObject"],
                    &[
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/audit/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/audit/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/snapshots/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/snapshots/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/segments/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/segments/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/reported/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/reported/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/drills/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/drills/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/prunes/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/prunes/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/intents/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/intents/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/receipts/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/receipts/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/keys/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/keys/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/runs/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/runs/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/firebackup.json",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/probes/*",
                        "s3:${Name}-${AWS.AccountId}-${AWS.Region}/*/probes/*",
                    ],
                ),
                Grant(
                    &["sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:StartMessageMoveTask"],
                    &["JobsDeadLetters", "NotifyDeadLetters", "PitrDeadLetters"],
                ),
            ],
        ],
        "notify" => vec![&[
            TABLE_OF_CHUNK,
            UNWRAP,
            SEND_NOTICES,
            Grant(
                &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"],
                &["NotifyQueue"],
            ),
        ]],
        // what a writer may, and what a queue's consumer may; a capture that has no backup to begin from asks for one, and events
        // that were folded are dropped
        "pitr-ingest" => vec![
            WRITER,
            &[
                TABLE,
                EVENTS,
                SEND_JOBS,
                SEND_CAPTURES,
                Grant(
                    &[
                        "sqs:ReceiveMessage",
                        "sqs:DeleteMessage",
                        "sqs:ChangeMessageVisibility",
                        "sqs:GetQueueAttributes",
                    ],
                    &["PitrQueue"],
                ),
            ],
        ],
        "realtime" => vec![&[
            TABLE,
            INDEX,
            DEAD_LETTERS,
            Grant(&["execute-api:ManageConnections"], &["execute-api:${LiveApi}/live/POST/@connections/*"]),
        ]],
        other => panic!("say here what {other} may do"),
    }
}

/// What each of the others in the stack may do: Scheduler, and the state machines.
fn granted_to_service(role: &str) -> Vec<Grant> {
    let steps = |kind: &'static [&'static str], runs: &'static [&'static str], machine: &'static [&'static str]| {
        vec![
            Grant(&["lambda:InvokeFunction"], kind),
            Grant(&["s3:GetObject"], &["${WorkBucket.Arn}/jobs/*"]),
            Grant(&["states:StartExecution"], machine),
            Grant(&["states:DescribeExecution", "states:StopExecution"], runs),
            Grant(&["xray:GetSamplingRules", "xray:GetSamplingTargets"], &["*"]),
            Grant(
                &[
                    "logs:CreateLogDelivery",
                    "logs:GetLogDelivery",
                    "logs:UpdateLogDelivery",
                    "logs:DeleteLogDelivery",
                    "logs:ListLogDeliveries",
                    "logs:PutResourcePolicy",
                    "logs:DescribeResourcePolicies",
                    "logs:DescribeLogGroups",
                ],
                &["*"],
            ),
        ]
    };
    match role {
        "ScheduleRole" => vec![Grant(&["lambda:InvokeFunction"], &["ScheduleTriggerFunction"]), DEAD_LETTERS],
        "MaintenanceScheduleRole" => vec![Grant(&["lambda:InvokeFunction"], &["MaintenanceFunction"]), DEAD_LETTERS],
        "PitrScheduleRole" => vec![SEND_CAPTURES, DEAD_LETTERS],
        "BackupStateMachineRole" => steps(
            &["BackupPlanFunction", "BackupChunkFunction", "BackupFinalizeFunction"],
            &["states:execution:${Name}-backup/*"],
            &["states:stateMachine:${Name}-backup"],
        ),
        "RestoreStateMachineRole" => steps(
            &["RestorePlanFunction", "RestoreChunkFunction", "RestoreFinalizeFunction"],
            &["states:execution:${Name}-restore/*"],
            &["states:stateMachine:${Name}-restore"],
        ),
        other => panic!("say here what {other} may do"),
    }
}

type Pairs = BTreeSet<(String, String)>;

fn pairs<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> Pairs {
    let mut found = Pairs::new();
    for Grant(actions, resources) in grants {
        for action in *actions {
            found.extend(resources.iter().map(|resource| ((*action).to_owned(), (*resource).to_owned())));
        }
    }
    found
}

/// All statements of all policies of a role.
fn statements(role: &Value) -> Vec<&Value> {
    let policies = every(&role["Properties"]["Policies"]).into_iter();
    let documents = policies.flat_map(|policy| every(&policy["PolicyDocument"]));
    documents.flat_map(|document| every(&document["Statement"])).collect()
}

/// The pairs of action and resource that a role is allowed, and what of its statements is no such pair.
fn allowed(role: &Value) -> (Pairs, Vec<String>) {
    let (mut found, mut odd) = (Pairs::new(), Vec::new());
    for statement in statements(role) {
        let known = ["Sid", "Effect", "Action", "Resource", "Condition"];
        let fields = statement.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        odd.extend(fields.filter(|name| !known.contains(name)).map(|name| format!("{name} in a statement")));
        if statement["Effect"] != "Allow" {
            odd.push(format!("a statement whose effect is {}", statement["Effect"]));
        }
        for action in list(&statement["Action"]) {
            found.extend(list(&statement["Resource"]).into_iter().map(|resource| (named(action), named(resource))));
        }
    }
    (found, odd)
}

/// What each function's role is allowed besides the table above, and what stands in the table and is not allowed.
fn violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for function in FUNCTIONS {
        let name = logical(function);
        let role = format!("{name}Role");
        if named(&template.resource(&format!("{name}Function"))["Properties"]["Role"]) != role {
            found.push(format!("{function} does not have the role {role}"));
        }
        let mut expected = pairs(granted(function).into_iter().flatten());
        let log = format!("logs:log-group:/aws/lambda/${{Name}}-{function}:*");
        expected.insert(("logs:CreateLogStream".to_owned(), log.clone()));
        expected.insert(("logs:PutLogEvents".to_owned(), log));
        found.extend(compared(template, &role, expected));
    }
    let of_functions: Vec<_> = FUNCTIONS.iter().map(|function| format!("{}Role", logical(function))).collect();
    for (role, _) in
        template.resources("AWS::IAM::Role").filter(|(role, _)| !of_functions.iter().any(|own| own == role))
    {
        let expected = pairs(&granted_to_service(role));
        let traces = role.ends_with("StateMachineRole");
        found.extend(if traces {
            compared(template, role, expected)
        } else {
            without_traces(template, role, &expected)
        });
    }
    found
}

/// As below, for a role that writes traces: X-Ray knows no resources.
fn compared(template: &Template, role: &str, mut expected: Pairs) -> Vec<String> {
    for action in ["xray:PutTraceSegments", "xray:PutTelemetryRecords"] {
        expected.insert((action.to_owned(), "*".to_owned()));
    }
    without_traces(template, role, &expected)
}

fn without_traces(template: &Template, role: &str, expected: &Pairs) -> Vec<String> {
    let (actual, mut found) = allowed(template.resource(role));
    let wider = actual.difference(expected).map(|(action, on)| format!("{role} may {action} on {on}"));
    let narrower = expected.difference(&actual).map(|(action, on)| format!("{role} may not {action} on {on}"));
    found.extend(wider.chain(narrower));
    found
}

/// What may use a master key without binding the key to what it is for.
fn unbound_key_uses(template: &Template) -> Vec<String> {
    let bound = |statement: &Value| statement["Condition"]["Null"]["kms:EncryptionContextKeys"] == "false";
    let unbound = uses(template, "kms:").filter(|(_, statement)| !bound(statement));
    unbound.map(|(role, _)| format!("{role} uses a key without an encryption context")).collect()
}

/// What may hand a role to more than Scheduler.
fn unbound_passes(template: &Template) -> Vec<String> {
    let to_scheduler = json!({"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}});
    let unbound = uses(template, "iam:").filter(|(_, statement)| statement["Condition"] != to_scheduler);
    unbound.map(|(role, _)| format!("{role} passes a role to more than Scheduler")).collect()
}

/// Each role's statements that allow something of a service.
fn uses<'a>(template: &'a Template, service: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let all = template.resources("AWS::IAM::Role");
    let all = all.flat_map(|(role, resource)| statements(resource).into_iter().map(move |statement| (role, statement)));
    all.filter(move |(_, statement)| list(&statement["Action"]).iter().any(|action| named(action).starts_with(service)))
}

/// Who may publish events and does not know where, and who knows and may not: what it says is lost.
fn unheard(template: &Template) -> Vec<String> {
    let publishers: BTreeSet<_> = uses(template, "events:PutEvents").map(|(role, _)| role).collect();
    let is_wrong = |function: &&&str| {
        let name = logical(function);
        let variables = &template.resource(&format!("{name}Function"))["Properties"]["Environment"]["Variables"];
        variables["FIREBACKUP_EVENT_BUS"].is_null() == publishers.contains(&*format!("{name}Role"))
    };
    FUNCTIONS.iter().filter(is_wrong).map(|function| format!("what {function} publishes is lost")).collect()
}

/// Where a role's statement stands.
fn place(template: &Template, role: &str, sid: &str) -> String {
    let all = policy(role);
    let statements = template.0.pointer(&all).and_then(Value::as_array).expect("the role has statements");
    let at = statements.iter().position(|statement| statement["Sid"] == sid);
    format!("{all}/{}", at.unwrap_or_else(|| panic!("{role} has no statement {sid}")))
}

/// Where the statements of a role's first policy stand.
fn policy(role: &str) -> String {
    format!("/Resources/{role}/Properties/Policies/0/PolicyDocument/Statement")
}

/// The template with a statement added to a role in each way that there is: beside the others, in either case of a
/// condition, and in a second policy.
fn widened(template: &Template, role: &str, statement: &Value) -> [Template; 4] {
    let nothing = json!({"Ref": "AWS::NoValue"});
    let first = json!({"Fn::If": ["HasOrganizationKeys", statement, nothing]});
    let second = json!({"Fn::If": ["HasOrganizationKeys", nothing, statement]});
    let other = json!({"PolicyName": "other", "PolicyDocument": {"Version": "2012-10-17", "Statement": statement}});
    [
        template.with_item(&policy(role), statement.clone()),
        template.with_item(&policy(role), first),
        template.with_item(&policy(role), second),
        template.with_item(&format!("/Resources/{role}/Properties/Policies"), other),
    ]
}

#[test]
fn every_role_may_do_exactly_what_it_needs() {
    assert_none(&violations(&Template::read()));
}

#[test]
fn a_wider_role_is_found() {
    let template = Template::read();
    let statement = place(&template, "ApiRole", "Table");
    let wider_action = template.with(&format!("{statement}/Action"), json!(["dynamodb:*"]));
    assert_finds(violations, &wider_action, "ApiRole may dynamodb:*");
    let wider_resource = template.with(&format!("{statement}/Resource"), json!("*"));
    assert_finds(violations, &wider_resource, "on *");
    let shared =
        template.with("/Resources/BackupChunkFunction/Properties/Role", json!({"Fn::GetAtt": ["ApiRole", "Arn"]}));
    assert_finds(violations, &shared, "backup-chunk does not have the role");
    let denied = template.with(&format!("{statement}/Effect"), json!("Deny"));
    assert_finds(violations, &denied, "whose effect is");
    let all_but = template.with_field(&statement, "NotResource", json!("*"));
    assert_finds(violations, &all_but, "NotResource in a statement");
}

#[test]
fn a_role_that_reaches_into_other_accounts_or_regions_is_found() {
    let template = Template::read();
    for (sid, arn) in [
        ("Table", "arn:${AWS::Partition}:dynamodb:*:*:table/${Name}"),
        ("Table", "arn:${AWS::Partition}:dynamodb:*:${AWS::AccountId}:table/${Name}"),
        ("Table", "arn:${AWS::Partition}:dynamodb:${AWS::Region}:*:table/${Name}"),
        ("Schedules", "arn:*:scheduler:${AWS::Region}:${AWS::AccountId}:schedule/${Name}/*"),
        ("ReadRepository", "arn:*:s3:::${Name}-${AWS::AccountId}-${AWS::Region}/*"),
        ("ReadRepository", "arn:${AWS::Partition}:s3:::${Name}-*-${AWS::Region}/*"),
    ] {
        let resource = format!("{}/Resource", place(&template, "ApiRole", sid));
        let wider = template.with(&resource, json!({"Fn::Sub": arn}));
        assert_finds(violations, &wider, &format!("on {}", named(&json!({"Fn::Sub": arn}))));
    }
}

#[test]
fn a_role_is_read_to_its_last_statement() {
    let template = Template::read();
    let statement = json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"});
    for role in ["ApiRole", "ScheduleRole", "BackupStateMachineRole"] {
        for wider in widened(&template, role, &statement) {
            assert_finds(violations, &wider, &format!("{role} may s3:GetObject on *"));
        }
    }
    let other_key = format!("{}/Resource/Fn::If/2", place(&template, "BackupChunkRole", "Key"));
    let wider = template.with(&other_key, json!("*"));
    assert_finds(violations, &wider, "BackupChunkRole may kms:Decrypt on Key or *");
}

#[test]
fn keys_are_used_only_under_an_encryption_context() {
    let template = Template::read();
    assert_none(&unbound_key_uses(&template));
    let unbound = template.without(&place(&template, "BackupChunkRole", "Key"), "Condition");
    assert_finds(unbound_key_uses, &unbound, "BackupChunkRole");
    let statement = json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": {"Fn::GetAtt": ["Key", "Arn"]}});
    for unbound in widened(&template, "BackupChunkRole", &statement) {
        assert_finds(unbound_key_uses, &unbound, "BackupChunkRole");
    }
}

#[test]
fn a_role_is_passed_to_scheduler_only() {
    let template = Template::read();
    assert_none(&unbound_passes(&template));
    let condition = format!("{}/Condition", place(&template, "ApiRole", "PassScheduleRole"));
    let to_lambda = json!({"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}});
    assert_finds(unbound_passes, &template.with(&condition, to_lambda), "ApiRole passes");
    let statement =
        json!({"Effect": "Allow", "Action": "iam:PassRole", "Resource": {"Fn::GetAtt": ["ScheduleRole", "Arn"]}});
    for unbound in widened(&template, "MaintenanceRole", &statement) {
        assert_finds(unbound_passes, &unbound, "MaintenanceRole passes");
    }
}

#[test]
fn whoever_publishes_events_knows_where() {
    let template = Template::read();
    assert_none(&unheard(&template));
    let variables = "/Resources/BackupChunkFunction/Properties/Environment/Variables";
    let deaf = template.without(variables, "FIREBACKUP_EVENT_BUS");
    assert_finds(unheard, &deaf, "what backup-chunk publishes is lost");
    let statements = place(&template, "RestoreChunkRole", "Events");
    let dumb = template.with(&format!("{statements}/Action"), json!([]));
    assert_finds(unheard, &dumb, "what restore-chunk publishes is lost");
}

/// What a rule of the bus takes, by the rule's name.
fn heard(template: &Template, rule: &str) -> Vec<String> {
    let pattern = &template.resource(rule)["Properties"]["EventPattern"];
    assert_eq!(pattern.as_object().map(|pattern| pattern.keys().collect::<Vec<_>>()), Some(vec![&"source".to_owned()]));
    list(&pattern["source"]).into_iter().map(named).collect()
}

#[test]
fn live_clients_are_told_what_webhooks_are_told_and_how_far_jobs_are() {
    let template = Template::read();
    assert_eq!(heard(&template, "NotifyRule"), ["firebackup"]);
    assert_eq!(heard(&template, "LiveRule"), ["firebackup", "firebackup.live"]);
}
