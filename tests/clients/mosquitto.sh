#!/usr/bin/env bash
# mosquitto_pub and mosquitto_sub as a device, driven from the command line. README.md says what the acts do.
set -euo pipefail
patience_s=60

secret='' ca='' cert='' key=''
while [[ $1 == --* ]]; do
    case $1 in
    --url) url=$2 ;;
    --protocol) protocol=$2 ;;
    --id) id=$2 ;;
    --secret) secret=$2 ;;
    --ca) ca=$2 ;;
    --cert) cert=$2 ;;
    --key) key=$2 ;;
    *) echo "unknown option $1" >&2 && exit 64 ;;
    esac
    shift 2
done
act=$1
shift

address=${url#*://}
as=(-h "${address%:*}" -p "${address#*:}" -i "$id")
if [ "$protocol" = 5 ]; then as+=(-V mqttv5); else as+=(-V mqttv311); fi
[ -z "$secret" ] || as+=(-u "$id" -P "$secret")
[ -z "$ca" ] || as+=(--cafile "$ca")
[ -z "$cert" ] || as+=(--cert "$cert" --key "$key")
# A session that is kept; in MQTT 5 it also asks for no end of it.
kept=(-c)

fail() {
    echo "$id: $*" >&2
    exit 1
}

offer() {
    local one qos topic payload words
    for one in "$@"; do
        IFS=: read -r qos topic payload <<<"$one"
        # The exit status is 0 also when MQTT 5 refuses a publish; only the words tell.
        words=$(timeout "$patience_s" mosquitto_pub "${as[@]}" -q "$qos" -t "$topic" -m "$payload" 2>&1) || true
        words=${words//$'\n'/ }
        case $words in
        '') echo acknowledged ;;
        *lost*) echo "closed: $words" ;;
        *) echo "refused: $words" ;;
        esac
    done
}

publish() {
    local qos=0 code
    timeout "$patience_s" mosquitto_sub "${as[@]}" "${kept[@]}" -q 1 -t "devices/$id/receipts" -E || fail "no SUBACK"
    for code in "$@"; do
        timeout "$patience_s" mosquitto_pub "${as[@]}" "${kept[@]}" -q "$qos" -t "devices/$id/readings" -m "$code" ||
            fail "$code with QoS $qos was not acknowledged"
        qos=$((qos + 1))
    done
}

listen() {
    local line state code heard='' pid
    exec 3< <(exec mosquitto_sub "${as[@]}" "${kept[@]}" -q 1 -t "devices/$id/receipts" \
        --will-topic "devices/$id/status" --will-payload gone --will-qos 1)
    pid=$!
    for code in "$@"; do
        for state in mined final; do
            # Receipts of several readings come mixed: what was heard on the way counts.
            until grep -q "\"payload\":\"$code\".*\"state\":\"$state\"" <<<"$heard"; do
                read -r -t "$patience_s" -u 3 line || { kill -9 "$pid"; fail "no receipt $code $state; heard $heard"; }
                heard+=$line$'\n'
            done
        done
    done
    # No DISCONNECT: the broker sends the will.
    kill -9 "$pid"
}

case $act in
offer | publish | listen) "$act" "$@" ;;
*) echo "unknown act $act" >&2 && exit 64 ;;
esac
