#!@sh@ sh
# The steps and exit codes of NixOS's switch-to-configuration: 0 done, 2 the activation failed, 4 units failed,
# 11 another one holds the lock.
PATH=@path@
systemctl=/usr/bin/systemctl
old=/etc/static/systemd/system
new=@etc@/etc/systemd/system

units() { [ ! -d "$1" ] || (cd "$1" && ls -d *.service); }

boot_entry() {
    mkdir -p /boot/loader
    printf 'default %s\n' @out@ >/boot/loader/loader.conf.new
    mv /boot/loader/loader.conf.new /boot/loader/loader.conf
}

# Units of the running system that this one lacks, or has otherwise.
outdated() {
    for unit in $(units $old); do
        cmp -s $old/$unit $new/$unit || printf '%s ' $unit
    done
}

activate() {
    status=0
    stopped=$(outdated)
    if [ -n "$stopped" ]; then
        echo "stopping the following units: $stopped" >&2
        $systemctl stop $stopped
    fi
    @out@/activate || status=2
    # As where a release brings another systemd.
    [ ! -e /run/reexec ] || $systemctl daemon-reexec
    $systemctl reset-failed
    $systemctl daemon-reload
    # Pulls in what it wants and what does not run, also units that failed before.
    $systemctl start multi-user.target
    started=$(for unit in $(units $new); do $systemctl --quiet is-active $unit || printf '%s ' $unit; done)
    [ -z "$started" ] || $systemctl start $started
    failed=$($systemctl list-units --state=failed --plain --no-legend | cut -d ' ' -f 1)
    if [ -n "$failed" ]; then
        echo "warning: the following units failed:" $failed >&2
        exit 4
    fi
    exit $status
}

mkdir -p /run/nixos
exec 9>/run/nixos/switch-to-configuration.lock
/usr/bin/flock --nonblock 9 || exit 11
case "$1" in
check) ;;
dry-activate) echo "would stop the following units: $(outdated)" >&2 ;;
boot) boot_entry ;;
test) activate ;;
switch)
    boot_entry
    activate
    ;;
*)
    echo "usage: switch-to-configuration switch|boot|test|dry-activate|check" >&2
    exit 1
    ;;
esac
