#!@sh@ sh
# The service: a web server over one folder. The port belongs to the machine, not to the system.
PATH=@path@
port=$(cat /var/lib/web/port)

serve() {
    [ -e @site@/index.html ] || exit 1
    exec httpd -f -p "127.0.0.1:$port" -h @site@
}

# Ends when the page is answered, or when the server has ended.
answered() {
    until wget -q -T 2 -O /run/web.answer "http://127.0.0.1:$port/" 2>/run/web.log; do
        kill -0 "$MAINPID" || exit 1
        usleep 20000
    done
}

"$1"
