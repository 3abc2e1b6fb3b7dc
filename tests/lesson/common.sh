# What the lesson's exercises 1 and 2 share. Sourced, with `exercise` set to the number.
# shellcheck shell=bash disable=SC2154
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${SIGNET_BIN:-}" ]; then
    cargo build --quiet --locked --manifest-path "$here/../../Cargo.toml" -p signet
    SIGNET_BIN=$(cargo metadata --manifest-path "$here/../../Cargo.toml" --no-deps --format-version 1 |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/debug/signet
fi
SIGNET_BIN=$(readlink -f "$SIGNET_BIN")
for command in openssl mosquitto_pub mosquitto_sub; do
    command -v "$command" >/dev/null || { echo "exercise $exercise: $command is needed" >&2; exit 2; }
done

work=$(mktemp -d)
broker=
cleanup() {
    if [ -n "$broker" ]; then
        kill "$broker" 2>/dev/null || true
        wait "$broker" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

say() { printf '%s\n' "exercise $exercise: $*"; }
fail() {
    say "FAILED: $*" >&2
    tail -20 broker.log >&2 || true
    exit 1
}

# Starts the broker with signet.toml and waits until it listens; `port` is where.
start_broker() {
    rm -f ready
    "$SIGNET_BIN" run --config signet.toml --ready-file ready 2>>broker.log &
    broker=$!
    for _ in $(seq 300); do
        [ -e ready ] && break
        kill -0 "$broker" 2>/dev/null || fail "the broker did not start"
        sleep 0.1
    done
    [ -e ready ] || fail "the broker is not ready after 30 s"
    port=$(sed -n '1s/.*://p' ready)
}

# A client of Mosquitto with the certificate and key in CERT.crt and CERT.key; "-" for none.
client() {
    local program=$1 cert=$2
    shift 2
    local with=()
    [ "$cert" = - ] || with=(--cert "$cert.crt" --key "$cert.key")
    # Line by line, also into a file.
    stdbuf -oL "$program" -h localhost -p "$port" --cafile "$server_ca" "${with[@]}" -V 5 -q 1 "$@"
}

# Publishes to a topic; true when the broker took it. mosquitto_pub says on stderr that a publish was refused.
publish() {
    local cert=$1 topic=$2 text=$3 said
    said=$(client mosquitto_pub "$cert" -t "$topic" -m "$text" 2>&1) || return 1
    ! grep -qi "not authorized" <<<"$said"
}

accepted() { publish "$@" || fail "$1 could not publish to $2"; }
refused() { ! publish "$@" || fail "$1 could publish to $2"; }

# The first message on a topic that comes within a time, for a client that publishes meanwhile.
# hears LISTENER FILTER PUBLISHER TOPIC TEXT
hears() {
    local listener=$1 filter=$2
    shift 2
    # Debug output says when the subscription is granted; only then is there something to hear.
    client mosquitto_sub "$listener" -t "$filter" -C 1 -W 10 -d >heard 2>&1 &
    local subscriber=$!
    for _ in $(seq 100); do
        grep -q "Subscribed" heard && break
        sleep 0.05
    done
    accepted "$@"
    wait "$subscriber" || true
    grep -qx -- "$3" heard
}
