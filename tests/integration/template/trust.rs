//! Who may take each role, and that rights come from nowhere but the roles' own policies and the few policies of resources
//! that stand here.

use serde_json::{Value, json};

use super::{FUNCTIONS, Template, assert_finds, assert_none, logical, named};

/// The policies of resources: those of the buckets only deny (see `guards.rs`), API Gateway may call `api` and `realtime`, and
/// the rules of the bus may send to the queue of webhooks and call `realtime`.
const OF_RESOURCES: &[&str] = &[
    "BucketPolicy",
    "WorkBucketPolicy",
    "HttpApiPermission",
    "NotifyQueuePolicy",
    "LiveApiPermission",
    "LiveRulePermission",
];

/// Who may take a role, and on whose behalf.
fn trust(role: &str) -> Value {
    let ours = json!({"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}});
    let trusted =
        |service: &str| json!({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"});
    let mut statement = match role {
        "ScheduleRole" | "MaintenanceScheduleRole" | "PitrScheduleRole" => trusted("scheduler.amazonaws.com"),
        "BackupStateMachineRole" | "RestoreStateMachineRole" => trusted("states.amazonaws.com"),
        _ => trusted("lambda.amazonaws.com"),
    };
    if !FUNCTIONS.iter().any(|function| role == format!("{}Role", logical(function))) {
        statement["Condition"] = ours;
    }
    json!({"Version": "2012-10-17", "Statement": [statement]})
}

/// Which role may be taken by others than its one service, and what but a function has a role that is not its own.
fn trust_violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for (role, resource) in template.resources("AWS::IAM::Role") {
        if resource["Properties"]["AssumeRolePolicyDocument"] != trust(role) {
            found.push(format!("{role} may be taken by others than its service"));
        }
    }
    for (name, machine) in template.resources("AWS::Serverless::StateMachine") {
        if named(&machine["Properties"]["Role"]) != format!("{name}Role") {
            found.push(format!("{name} does not have its own role"));
        }
    }
    for (name, schedule) in template.resources("AWS::Scheduler::Schedule") {
        let target = &schedule["Properties"]["Target"];
        let (role, of) = match named(&target["Arn"]).as_str() {
            "PitrQueue" => ("PitrScheduleRole", "ticks"),
            _ => ("MaintenanceScheduleRole", "maintenance"),
        };
        if named(&target["RoleArn"]) != role {
            found.push(format!("{name} does not have the role of {of}"));
        }
    }
    found
}

/// What gives or takes rights beside the roles' own policies.
fn other_rights(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for (name, resource) in template.all() {
        let kind = resource["Type"].as_str().unwrap_or_default();
        let of_a_resource = kind.ends_with("Policy") || kind.ends_with("Permission");
        let of_somebody = kind.starts_with("AWS::IAM::") && kind != "AWS::IAM::Role";
        if of_somebody || (of_a_resource && !OF_RESOURCES.contains(&name.as_str())) {
            found.push(format!("{name} is a {kind}"));
        }
    }
    for (role, resource) in template.resources("AWS::IAM::Role") {
        let fields = ["ManagedPolicyArns", "PermissionsBoundary"].into_iter();
        let has = fields.filter(|field| !resource["Properties"][*field].is_null());
        found.extend(has.map(|field| format!("{role} has {field}")));
    }
    if named(&template.resource("HttpApiPermission")["Properties"]["SourceArn"]) != "execute-api:${HttpApi}/*" {
        found.push("others than the HTTP API may call api".to_owned());
    }
    if named(&template.resource("LiveApiPermission")["Properties"]["SourceArn"]) != "execute-api:${LiveApi}/*" {
        found.push("others than the WebSocket API may call realtime".to_owned());
    }
    if named(&template.resource("LiveRulePermission")["Properties"]["SourceArn"]) != "LiveRule" {
        found.push("others than the rule may call realtime".to_owned());
    }
    if template.resource("NotifyQueuePolicy")["Properties"] != only_the_rule_sends() {
        found.push("others than the rule may send to NotifyQueue".to_owned());
    }
    found
}

/// EventBridge may send what our own rule matched, and nothing else of anybody's.
fn only_the_rule_sends() -> Value {
    let queue = json!({"Fn::GetAtt": ["NotifyQueue", "Arn"]});
    let of_the_rule = json!({"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["NotifyRule", "Arn"]}}});
    let statement = json!({
        "Sid": "Events", "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": queue, "Condition": of_the_rule,
    });
    let document = json!({"Version": "2012-10-17", "Statement": [statement]});
    json!({"Queues": [{"Ref": "NotifyQueue"}], "PolicyDocument": document})
}

#[test]
fn every_role_is_taken_by_its_own_service_only() {
    let template = Template::read();
    assert_none(&trust_violations(&template));
    let statement = |role: &str| format!("/Resources/{role}/Properties/AssumeRolePolicyDocument/Statement");
    for (place, principal) in [
        (format!("{}/0/Principal", statement("ApiRole")), json!("*")),
        (format!("{}/0/Principal", statement("ApiRole")), json!({"AWS": "*"})),
        (format!("{}/0/Principal/Service", statement("ApiRole")), json!(["lambda.amazonaws.com", "ec2.amazonaws.com"])),
        (format!("{}/0/Action", statement("ApiRole")), json!("sts:*")),
    ] {
        assert_finds(trust_violations, &template.with(&place, principal), "ApiRole may be taken by others");
    }
    let anybody = json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"});
    let more = template.with_item(&statement("JobStartRole"), anybody);
    assert_finds(trust_violations, &more, "JobStartRole may be taken by others");
    for role in [
        "ScheduleRole",
        "MaintenanceScheduleRole",
        "PitrScheduleRole",
        "BackupStateMachineRole",
        "RestoreStateMachineRole",
    ] {
        let for_anybody = template.without(&format!("{}/0", statement(role)), "Condition");
        assert_finds(trust_violations, &for_anybody, &format!("{role} may be taken by others"));
    }
}

#[test]
fn a_state_machine_or_schedule_with_another_role_is_found() {
    let template = Template::read();
    let role = json!({"Fn::GetAtt": ["MaintenanceRole", "Arn"]});
    let machine = template.with("/Resources/BackupStateMachine/Properties/Role", role.clone());
    assert_finds(trust_violations, &machine, "BackupStateMachine does not have its own role");
    let schedule = template.with("/Resources/SweepSchedule/Properties/Target/RoleArn", role);
    assert_finds(trust_violations, &schedule, "SweepSchedule does not have the role of maintenance");
    let wider = json!({"Fn::GetAtt": ["MaintenanceScheduleRole", "Arn"]});
    let ticks = template.with("/Resources/PitrSchedule/Properties/Target/RoleArn", wider);
    assert_finds(trust_violations, &ticks, "PitrSchedule does not have the role of ticks");
}

#[test]
fn rights_come_from_the_roles_own_policies_only() {
    let template = Template::read();
    assert_none(&other_rights(&template));
    for kind in [
        "AWS::IAM::Policy",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::RolePolicy",
        "AWS::IAM::User",
        "AWS::SQS::QueuePolicy",
        "AWS::Lambda::Permission",
    ] {
        let more = template.with_field("/Resources", "More", json!({"Type": kind, "Properties": {}}));
        assert_finds(other_rights, &more, &format!("More is a {kind}"));
    }
    let role = "/Resources/ApiRole/Properties";
    let administrator = "arn:${AWS::Partition}:iam::aws:policy/AdministratorAccess";
    let managed = template.with_field(role, "ManagedPolicyArns", json!([{"Fn::Sub": administrator}]));
    assert_finds(other_rights, &managed, "ApiRole has ManagedPolicyArns");
    let bounded = template.with_field(role, "PermissionsBoundary", json!({"Fn::Sub": administrator}));
    assert_finds(other_rights, &bounded, "ApiRole has PermissionsBoundary");
    let callable = template.without("/Resources/HttpApiPermission/Properties", "SourceArn");
    assert_finds(other_rights, &callable, "others than the HTTP API may call api");
    for (name, who) in [("LiveApiPermission", "WebSocket API"), ("LiveRulePermission", "rule")] {
        let callable = template.without(&format!("/Resources/{name}/Properties"), "SourceArn");
        assert_finds(other_rights, &callable, &format!("others than the {who} may call realtime"));
    }
    let statement = "/Resources/NotifyQueuePolicy/Properties/PolicyDocument/Statement/0";
    let open = template.without(statement, "Condition");
    assert_finds(other_rights, &open, "others than the rule may send");
}
