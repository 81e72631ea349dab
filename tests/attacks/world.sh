# A machine for one test: this one, with all changes in memory, a Nix daemon with users that it builds as, root
# who is logged in to the hub, and somebody who may do no more than build. Needs root, in mount and process
# namespaces of its own. Arguments: a folder with what is handed over, whether builds are sandboxed, and where
# this project and its Nix are.
set -eu
given=$1 sandbox=$2 project=$3 nix=$4
world=$given.world
mkdir -p "$world"
mount -t tmpfs none "$world"
mkdir "$world/upper" "$world/work" "$world/root"
mount -t overlay none -o "lowerdir=/,upperdir=$world/upper,workdir=$world/work" "$world/root"
cd "$world/root"
mount -t proc none proc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 none tmp
mkdir -p world handed nix/store nix/var/nix etc/nix
mount --bind "$given" handed
pivot_root . world
exec chroot . /bin/sh -eu -s "$sandbox" "$project" "$nix" <<'EOF'
umount -l /world
sandbox=$1 project=$2 nix=$3
printf 'mallory:x:4242:4242::/tmp/mallory:/bin/sh\n' >> /etc/passwd
printf 'nixbld1:x:30001:30000::/:/bin/false\nnixbld2:x:30002:30000::/:/bin/false\n' >> /etc/passwd
printf 'nixbld:x:30000:nixbld1,nixbld2\nmallory:x:4242:\n' >> /etc/group
chown root:30000 /nix/store && chmod 1775 /nix/store
# Whoever builds has to reach Nix itself, wherever the project lies; all of this is in memory.
folder=$project
while [ "$folder" != / ]; do chmod o+rx "$folder"; folder=$(dirname "$folder"); done
chmod -R o+rX "$nix"
cat > /etc/nix/nix.conf <<CONF
experimental-features = nix-command flakes
build-users-group = nixbld
sandbox = $sandbox
sandbox-fallback = false
sandbox-paths = /bin/sh=$nix/bin/busybox /bin/busybox=$nix/bin/busybox
substituters =
flake-registry =
build-hook =
CONF
export NIX_CONF_DIR=/etc/nix PATH="$project/.venv/bin:$nix/bin:/usr/sbin:/usr/bin:/sbin:/bin"
echo 'piste_resolve_0000000000000000000000000000000000000000000decoy' > /etc/decoy
mkdir -m 0700 /tmp/mallory && cp /handed/attack.nix /tmp/mallory && chown -R mallory:mallory /tmp/mallory
as_root() { env -i HOME=/root PATH="$PATH" NIX_CONF_DIR=/etc/nix "$@"; }
as_mallory() {
    setpriv --reuid 4242 --regid 4242 --clear-groups \
        env -i HOME=/tmp/mallory PATH="$PATH" NIX_CONF_DIR=/etc/nix NIX_REMOTE=daemon "$@"
}

# What an operator does, with the token in a file of root's.
install -m 0600 /handed/token /root/token
hub=$(cat /handed/hub) key=$(cat /handed/key) reference=$(cat /handed/reference) url=$(cat /handed/url)
device=$(cat /handed/device)
umount /handed
as_root piste login token --hub "$hub" --token-file /root/token --trusted-key "$key" > /dev/null
as_root nix-daemon > /tmp/daemon 2>&1 &
for _ in $(seq 100); do [ -S /nix/var/nix/daemon-socket/socket ] && break; sleep 0.05; done
ls -lnd /etc/piste /etc/piste/* /root/token

# Root's host fetches the release again and again while the other one builds.
( while :; do
    as_root piste fetch "$reference" /root/link > /tmp/fetch 2>&1 || { cat /tmp/fetch; exit; }
    as_root nix-store --delete "$(readlink -f /root/link)" > /dev/null 2>&1 || rm /root/link
  done ) &
cd /tmp/mallory
for _ in $(seq 200); do [ -L /root/link ] && break; sleep 0.05; done
echo "fetched: $(readlink /root/link)"
echo "== the build"
out=$(as_mallory nix-build --no-out-link attack.nix -A look --argstr sandbox "$sandbox")
cat "$out"
echo "== what Nix itself fetches for a build"
as_mallory nix-build --no-out-link attack.nix -A fetch --argstr url "$url" 2>&1 && echo "fetched $url"
echo "== the same with a netrc of the attacker's choice"
as_mallory nix-build --no-out-link attack.nix -A fetch --argstr url "$url" \
    --option netrc-file /etc/piste/login.json 2>&1 && echo "fetched $url"
echo "== where Nix is given a credential, which Piste never does"
( umask 077; echo "machine 127.0.0.1 login x password $device" > /etc/nix/netrc )
as_mallory nix-build --no-out-link attack.nix -A fetch --argstr url "$url" 2>&1 || true
kill $(jobs -p) 2> /dev/null || true
echo "== done"
EOF
