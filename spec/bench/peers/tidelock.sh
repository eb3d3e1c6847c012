#!/usr/bin/env bash
# spec/bench/peers/tidelock.sh: three nodes with kv.lua on 127.0.0.1, for run.sh.
. "$(dirname "$0")/lib.sh"
TIDELOCK=$BIN/../tidelock; KV=$HERE/../../../examples/kv.lua; TB=${TB:-17400}
TO=127.0.0.1:$((TB + 1)),127.0.0.1:$((TB + 2)),127.0.0.1:$((TB + 3))
LINE=1=127.0.0.1:$((TB + 1)),2=127.0.0.1:$((TB + 2)),3=127.0.0.1:$((TB + 3))
claim $((TB + 1)) $((TB + 2)) $((TB + 3))
for i in 1 2 3; do
  "$TIDELOCK" start --id $i --data "$DATA/t$i" --listen 127.0.0.1:$((TB + i)) --cluster "$LINE" --machine "$KV" \
    >> "$DATA/t$i.log" 2>&1 &
  PIDS+=($!); disown $!; done
awake() { local s; s=$("$TIDELOCK" status --wait --timeout 20000 --to "$TO") || { echo "tidelock: $s" >&2; return 1; }
  LOAD=(-p rpc -P $((TB + $(awk '$3 == "leader" {print $1}' <<< "$s")))); }
awake && serve
