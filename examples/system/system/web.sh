#!@sh@ sh
# The service: busybox's web server over one folder. `start` succeeds when the page is answered.
# The port belongs to the machine, not to the system.
PATH=@path@
port=$(cat /var/lib/web/port 2>/run/web.log || echo 8080)

start() {
    setsid httpd -f -p "127.0.0.1:$port" -h @site@ </dev/null >>/run/web.log 2>&1 &
    echo $! >/run/web.pid
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        usleep 30000
        ! wget -q -T 2 -O - "http://127.0.0.1:$port/" >/run/web.answer 2>>/run/web.log || return 0
    done
    echo "web: no page is answered on port $port" >&2
    stop
    return 1
}

stop() {
    [ -e /run/web.pid ] || return 0
    ! kill "$(cat /run/web.pid)" 2>>/run/web.log || released || kill -9 "$(cat /run/web.pid)"
    rm /run/web.pid
}

# Waits until nobody listens on the port.
released() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        nc 127.0.0.1 "$port" </dev/null >/run/web.answer 2>&1 || return 0
        usleep 30000
    done
    return 1
}

running() {
    [ -e /run/web.pid ] && kill -0 "$(cat /run/web.pid)" 2>>/run/web.log
}

"$1"
