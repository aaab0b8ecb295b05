# Posts Firestore's events of changes to FireBackup: an Eventarc trigger a database, and a workflow that each of them starts.
#
# Eventarc delivers Firestore's events to Cloud Run, GKE and Workflows, and to no address outside of Google. A workflow is the one
# of these that has nothing to build or to keep up to date. It posts with an id token of its own service account.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 5.0, < 8.0"
    }
  }
}

provider "google" {
  project = var.project
}

data "google_project" "this" {}

locals {
  audience = coalesce(var.audience, var.url)
}

resource "google_project_service" "needed" {
  for_each           = toset(["eventarc", "eventarcpublishing", "workflows", "workflowexecutions", "pubsub", "firestore"])
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

# The account that FireBackup knows the sender by: `serviceAccount` of the database's `push`.
resource "google_service_account" "sender" {
  account_id   = var.name
  display_name = "Posts Firestore's events to FireBackup"
}

resource "google_project_iam_member" "sender" {
  for_each = toset(["roles/eventarc.eventReceiver", "roles/workflows.invoker", "roles/logging.logWriter"])
  project  = var.project
  role     = each.key
  member   = google_service_account.sender.member
}

resource "google_workflows_workflow" "post" {
  for_each            = var.databases
  name                = "${var.name}-${each.key}"
  region              = each.value.region
  description         = "Posts one event to FireBackup"
  service_account     = google_service_account.sender.email
  call_log_level      = "LOG_NONE" # what is logged of a call would hold the document
  deletion_protection = false
  source_contents = templatefile("${path.module}/post.yaml", {
    url      = "${var.url}?database=${urlencode(each.value.database)}"
    audience = local.audience
  })
  depends_on = [google_project_service.needed]
}

resource "google_eventarc_trigger" "written" {
  for_each        = var.databases
  name            = "${var.name}-${each.key}"
  location        = each.value.region
  service_account = google_service_account.sender.email

  # protobuf would come as base64 of itself and reach the limit of a workflow's argument earlier
  event_data_content_type = "application/json"

  matching_criteria {
    attribute = "type"
    value     = "google.cloud.firestore.document.v1.written"
  }
  matching_criteria {
    attribute = "database"
    value     = each.value.database
  }

  destination {
    workflow = google_workflows_workflow.post[each.key].id
  }
  depends_on = [google_project_iam_member.sender]
}

output "service_account" {
  description = "For `push.serviceAccount` of PATCH /pitr/{projectId}/config."
  value       = google_service_account.sender.email
}

output "audience" {
  description = "For `push.audience` of the same."
  value       = local.audience
}
