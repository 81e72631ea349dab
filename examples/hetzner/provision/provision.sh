#!/usr/bin/env bash
# From a server in its rescue system to one that runs the release. Started by OpenTofu; may be started again by hand
# with the same variables.
#
# The rescue system's own host key can't be known beforehand, so what goes there is worth little: a token that ends
# within the hour and reads one output. The token that stays is sent to the installed system, which proves itself
# with a key that Hetzner's metadata service handed to the server, and not we over this line.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)
secrets=$here/../secrets
piste_source=${PISTE_SOURCE:-$(git -C "$here" rev-parse --show-toplevel)}
: "${SERVER_ADDRESS:?}" "${OPERATOR_KEY:?}" "${PISTE_HUB:?}" "${PUBLIC_KEY:?}" "${REFERENCE:?}"

for file in first_host_key.pub install_token host_token; do
    [ -s "$secrets/$file" ] || { echo "$secrets/$file is missing: see prepare.sh" >&2; exit 2; }
done

# One file of known hosts a deployment: another server on the same address can't be taken for this one.
on() {
    local known=$1
    shift
    ssh -i "$OPERATOR_KEY" -o UserKnownHostsFile="$secrets/$known" -o HostKeyAlias=server -o UpdateHostKeys=no \
        -o StrictHostKeyChecking="$([ "$known" = rescue_hosts ] && echo accept-new || echo yes)" \
        -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15 "root@$SERVER_ADDRESS" "$@"
}

wait_for() {
    local known=$1 deadline=$((SECONDS + 300))
    until on "$known" true 2>"$secrets/ssh.log"; do
        if ((SECONDS > deadline)); then
            echo "no SSH at $SERVER_ADDRESS after five minutes:" >&2
            cat "$secrets/ssh.log" >&2
            exit 4
        fi
        sleep 3
    done
}

echo "waiting for the rescue system" >&2
rm -f "$secrets/rescue_hosts"
wait_for rescue_hosts

echo "sending Piste" >&2
on rescue_hosts 'cat > /root/install.sh && chmod 700 /root/install.sh && /root/install.sh disk' <"$here/install.sh"
git -C "$piste_source" archive HEAD | on rescue_hosts '/root/install.sh source'

echo "installing $REFERENCE" >&2
printf -v arguments '%q ' "$PISTE_HUB" "$PUBLIC_KEY" "$REFERENCE"
on rescue_hosts "/root/install.sh system $arguments" <"$secrets/install_token"
on rescue_hosts 'systemd-run --on-active=2 systemctl reboot' >/dev/null

echo "waiting for NixOS" >&2
printf 'server %s\n' "$(cat "$secrets/first_host_key.pub")" >"$secrets/first_hosts"
wait_for first_hosts

# The first key passed through Hetzner's metadata service, and any process on the server can read it there.
new_key=$(on first_hosts 'cd /etc/ssh && ssh-keygen -q -t ed25519 -N "" -C "" -f next_key &&
    mv next_key ssh_host_ed25519_key && mv next_key.pub ssh_host_ed25519_key.pub &&
    cat ssh_host_ed25519_key.pub && systemctl restart sshd')
printf 'server %s\n' "$new_key" >"$secrets/known_hosts"
wait_for known_hosts

printf -v hub '%q' "$PISTE_HUB"
printf -v reference '%q' "$REFERENCE"
on known_hosts "piste login token --hub $hub --token-file /dev/stdin" <"$secrets/host_token"
# Says `unchanged`, when the machine runs what was asked for: the proof that both tokens and the key are right.
on known_hosts "piste apply nixos --hub $hub $reference switch --json"
