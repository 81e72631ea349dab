output "address" {
  description = "Both names of site.nix have to point here."
  value       = hcloud_server.server.ipv4_address
}

output "known_hosts" {
  description = "For the workflow's variable KNOWN_HOSTS, once provisioning is done."
  value       = abspath("${path.module}/../secrets/known_hosts")
}
