#!/usr/bin/env bash
# spec/bench/peers/tidelock.sh: three nodes on 127.0.0.1, for run.sh (PARTS=serve, kv.lua) and failover.sh (PARTS=around, tally.lua).
. "$(dirname "$0")/lib.sh"
TIDELOCK=$BIN/../tidelock; TB=${TB:-17400}; HB=100; EL=1000; declare -A NODE
MACHINE=$HERE/../../../examples/kv.lua; [ "${PARTS:-serve}" = around ] && MACHINE=$HERE/tally.lua
at() { echo 127.0.0.1:$((TB + $1)); }
TO=$(at 1),$(at 2),$(at 3)
claim $((TB + 1)) $((TB + 2)) $((TB + 3))
start() { # start NODE
  "$TIDELOCK" start --id "$1" --data "$DATA/t$1" --listen "$(at "$1")" --cluster "1=$(at 1),2=$(at 2),3=$(at 3)" \
    --machine "$MACHINE" --heartbeat $HB --election $EL >> "$DATA/t$1.log" 2>&1 &
  NODE[$1]=$!; PIDS+=($!); disown $!; }
settled() { "$TIDELOCK" status --wait --timeout 20000 --to "$TO" > /dev/null && return
  "$TIDELOCK" status --to "$TO" >&2; tail -n 5 "$DATA"/t?.log >&2; return 1; }
leader() { "$TIDELOCK" status --to "$TO" | awk '$3 == "leader" {print $1}'; }
transfer() { echo "exec $TIDELOCK transfer $2 --to $(at "$1")"; }
# key and how many times it was put, as node NODE has them, 1,000 at a time
rows() { local page from=$2
  while page=$("$TIDELOCK" query tally.list "$from" "$3" --read stale --to "$(at "$1")"); [ -n "$page" ]; do
    echo "$page"; from=$(tail -n 1 <<< "$page" | cut -d' ' -f1)+; done; }
for i in 1 2 3; do start $i; done
if [ "${PARTS:-serve}" = around ]; then
  LOAD=(-p rpc -a tally.set -P $((TB + 1)),$((TB + 2)),$((TB + 3))); settled && around; exit 1; fi
awake() { settled && LOAD=(-p rpc -P $((TB + $(leader)))); }
awake && serve
