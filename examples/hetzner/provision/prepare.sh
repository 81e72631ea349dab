#!/usr/bin/env bash
# Makes the keys, once, in secrets/ (which Git ignores): the host key that the new server proves itself with, and the
# workflow's key. Keys that are there are kept.
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."
mkdir -p secrets
[ -e secrets/first_host_key ] || ssh-keygen -q -t ed25519 -N '' -C first-boot -f secrets/first_host_key
[ -e secrets/deploy_key ] || ssh-keygen -q -t ed25519 -N '' -C deploy -f secrets/deploy_key
cat <<TEXT
For site.nix:       deployKey = "$(cat secrets/deploy_key.pub)";
For the workflow:   the secret DEPLOY_KEY is the content of $PWD/secrets/deploy_key
Still to be put here by you, each with mode 0600:
    secrets/install_token   a resolve-only token for the first boot; one hour is long enough
    secrets/host_token      the resolve-only token that the server keeps
TEXT
