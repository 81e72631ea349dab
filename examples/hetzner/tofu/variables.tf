variable "name" {
  description = "Name of the server, and label of all that belongs to it."
  type        = string
  default     = "cryptpad"
}

variable "server_type" {
  description = "A type with an x86 processor."
  type        = string
  default     = "cx23"
}

variable "location" {
  type    = string
  default = "fsn1"
}

variable "ssh_from" {
  description = "Networks from which SSH is reachable; the workflow's runners come from anywhere."
  type        = list(string)
  default     = ["0.0.0.0/0", "::/0"]
}

variable "operator_key_file" {
  description = "Your public SSH key; the private one lies beside it, or is held by your agent."
  type        = string
  default     = "~/.ssh/id_ed25519.pub"
}

variable "hub" {
  description = "The hub's address, without a slash at the end."
  type        = string

  validation {
    condition     = can(regex("^https://.*[^/]$", var.hub))
    error_message = "An https address without a slash at the end."
  }
}

variable "public_key" {
  description = "The organization's key, as `piste hub public-key --org ORG` prints it."
  type        = string
}

variable "reference" {
  description = "The release for the first boot: an exact one, as `piste publish` names it."
  type        = string

  validation {
    condition     = can(regex("^[^/]+/[^/]+/=[^#]+#nixosConfigurations[.]", var.reference))
    error_message = "An exact reference: ORG/PROJECT/=VERSION#nixosConfigurations.NAME."
  }
}
