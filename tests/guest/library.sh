# What the scripts of tests in a guest share; sh of busybox. Everything that waits has a bound.

say() { echo "say: $*"; }
fail() {
    echo "fail: $*"
    for log in /run/*/log; do
        if [ -f "$log" ]; then echo "--- $log" && tail -n 30 "$log"; fi
    done
    exit 1
}

# wait_until SECONDS WHAT COMMAND...: until COMMAND succeeds.
wait_until() {
    local most=$1 what=$2 begun
    shift 2
    begun=$(uptime_s)
    until "$@"; do
        if [ $(($(uptime_s) - begun)) -ge "$most" ]; then fail "waited $most s in vain: $what"; fi
        usleep 50000
    done
}
uptime_s() { cut -d. -f1 /proc/uptime; }

# within SECONDS COMMAND...: fails the test unless it succeeds in that time. Says how long it took.
within() {
    local most=$1 begun
    shift
    begun=$(uptime_s)
    timeout -s KILL $((most * 10)) "$@" || fail "'$*' failed"
    local took=$(($(uptime_s) - begun))
    if [ "$took" -gt "$most" ]; then fail "'$*' took $took s, more than $most"; fi
}

# daemon NAME: starts the one that /run/NAME/dst.toml configures; returns when it serves. Its pid is
# in /run/NAME/pid.
daemon() {
    local folder=/run/$1 said=
    if [ ! -p "$folder/ready" ]; then mkfifo "$folder/ready"; fi
    dst daemon --config "$folder/dst.toml" --ready-fd 3 3>"$folder/ready" 2>>"$folder/log" &
    echo $! >"$folder/pid"
    read -r said <"$folder/ready" || true
    if [ "$said" != ready ]; then fail "daemon $1 does not become ready"; fi
}
pid_of() { cat "/run/$1/pid"; }

# kill_daemon NAME: SIGKILL; returns when it is gone.
kill_daemon() {
    local pid
    pid=$(pid_of "$1")
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
}

# exporter NAME PORT DEVICE: one whose export is called `disk`.
exporter() {
    mkdir -p "/run/$1"
    cat >"/run/$1/dst.toml" <<END
run_dir = "/run/$1/run"
state_dir = "${STATE:-/run}/$1/state"
listen = ["127.0.0.1:$2"]
memory = "32M"
[[export]]
name = "disk"
device = "$3"
END
    daemon "$1"
}

# head PORT...: one with the mirror `vol` of the exporters at these ports.
head() {
    local nodes="" port
    for port in "$@"; do nodes="$nodes\"R: 127.0.0.1:$port/disk\", "; done
    mkdir -p /run/head
    cat >/run/head/dst.toml <<END
run_dir = "/run/head/run"
state_dir = "${STATE:-/run}/head/state"
listen = ["127.0.0.1:10800"]
memory = "48M"
[[storage]]
name = "vol"
algorithm = "mirror"
nodes = [$nodes]
${STORAGE_SETTINGS:-}
END
    daemon head
}
on_head() { dst "$@" --socket /run/head/run/dst.sock; }
storage_state_is() { on_head status --json | tr -d ' \n' | grep -q "\"state\":\"$1\""; }
