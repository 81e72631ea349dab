#!@sh@ sh
# The actions and exit codes of NixOS's switch-to-configuration, for a system with one service:
# 0 done, 1 refused, 2 the activation failed, 4 a unit failed.
PATH=@path@
current=/run/current-system

# Runs the service of a system, which finds its own script through its unit.
web() { "$1/sw/bin/web" "$2"; }

same_unit() {
    [ -e "$current/etc/systemd/system/web.service" ] &&
        cmp -s "$current/etc/systemd/system/web.service" @out@/etc/systemd/system/web.service &&
        web @out@ running
}

boot_entry() {
    mkdir -p /boot/loader
    printf 'default %s\n' @out@ >/boot/loader/loader.conf.new
    mv /boot/loader/loader.conf.new /boot/loader/loader.conf
}

activate() {
    if same_unit; then
        @out@/activate || exit 2
        return
    fi
    echo "restarting the following units: web.service" >&2
    [ ! -e $current ] || web $current stop
    @out@/activate || exit 2
    if ! web @out@ start; then
        echo "warning: the following units failed: web.service" >&2
        exit 4
    fi
}

case "$1" in
check) ;;
dry-activate) same_unit || echo "would restart the following units: web.service" >&2 ;;
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
