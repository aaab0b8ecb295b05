variable "project" {
  description = "The Google project whose Firestore is captured."
  type        = string
}

variable "url" {
  description = "Where events are posted: https://<host>/api/v1/pitr/<projectId>/events, with the project's id in FireBackup."
  type        = string
  validation {
    condition     = can(regex("^https://[^/?#]+/api/v1/pitr/proj_[0-9A-Z]{26}/events$", var.url))
    error_message = "Expected https://<host>/api/v1/pitr/proj_…/events."
  }
}

variable "audience" {
  description = "For whom tokens are made; the url where none is named. Give the database's `push.audience` the same."
  type        = string
  default     = null
}

variable "databases" {
  description = "The databases, each by a short name of your own: its id, and the region that Eventarc knows it by (nam5 is us-central1, eur3 is europe-west4)."
  type = map(object({
    database = string
    region   = string
  }))
  validation {
    condition     = alltrue([for name in keys(var.databases) : can(regex("^[a-z][a-z0-9-]{0,20}$", name))])
    error_message = "Names have small letters, digits and hyphens, at most 21."
  }
}

variable "name" {
  description = "What everything here is called."
  type        = string
  default     = "firebackup-events"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.name))
    error_message = "It names a service account: 6 to 30 small letters, digits and hyphens."
  }
}
