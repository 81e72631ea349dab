# A server with its firewall and keys. What runs on it is Piste's: it comes over SSH, after the server stands.

terraform {
  required_version = ">= 1.8"
  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = "~> 1.60"
    }
  }
}

# HCLOUD_TOKEN in the environment: a variable would end up in plan files.
provider "hcloud" {}

locals {
  labels = { deployment = var.name }
  world  = ["0.0.0.0/0", "::/0"]
}

resource "hcloud_ssh_key" "operator" {
  name       = "${var.name}-operator"
  public_key = trimspace(file(pathexpand(var.operator_key_file)))
  labels     = local.labels
}

resource "hcloud_firewall" "server" {
  name   = var.name
  labels = local.labels

  rule {
    description = "SSH"
    direction   = "in"
    protocol    = "tcp"
    port        = "22"
    source_ips  = var.ssh_from
  }

  dynamic "rule" {
    for_each = ["80", "443"]
    content {
      description = "HTTP"
      direction   = "in"
      protocol    = "tcp"
      port        = rule.value
      source_ips  = local.world
    }
  }

  rule {
    description = "ping"
    direction   = "in"
    protocol    = "icmp"
    source_ips  = local.world
  }
}

resource "hcloud_server" "server" {
  name        = var.name
  server_type = var.server_type
  location    = var.location
  # Never booted: the server starts into the rescue system, and NixOS takes the disk.
  image        = "debian-13"
  rescue       = "linux64"
  ssh_keys     = [hcloud_ssh_key.operator.id]
  firewall_ids = [hcloud_firewall.server.id]
  # The key by which the server proves itself at its first boot; provisioning replaces it right after that. The
  # state holds only its hash.
  user_data = file("${path.module}/../secrets/first_host_key")
  labels    = local.labels

  lifecycle {
    # Each of these is used once, when the server is made: a change must not replace a running server.
    ignore_changes = [image, rescue, ssh_keys, user_data]
  }
}

# Runs for every new server, and for no other reason. The script takes its secrets from files, so that none is in
# a plan, in the state or on a command line.
resource "terraform_data" "provision" {
  triggers_replace = [hcloud_server.server.id]

  provisioner "local-exec" {
    command = "${path.module}/../provision/provision.sh"
    environment = {
      SERVER_ADDRESS = hcloud_server.server.ipv4_address
      OPERATOR_KEY   = trimsuffix(pathexpand(var.operator_key_file), ".pub")
      PISTE_HUB      = var.hub
      PUBLIC_KEY     = var.public_key
      REFERENCE      = var.reference
    }
  }
}
