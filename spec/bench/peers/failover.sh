#!/usr/bin/env bash
# spec/bench/peers/failover.sh: how long a client that writes all the time waits when the leader dies, and when it hands over.
#
#   make bench-failover     RUNS=100 of each, PEERS="tidelock etcd", TMPDIR: the disk, TB and BASE: the ports
#
# Three nodes of each, up all the time, with equal time-outs; the peers take turns, every second run backwards. loadgen/around.c
# says what the client does and what is measured, `around` in lib.sh what one run is. The figures go to failover.jsonl beside
# the programs, then failover.lua prints them. Ends with 1 if a run failed, or a write was lost or done twice.
export TMPDIR=${TMPDIR:-$BIN} TB=${TB:-17600} BASE=${BASE:-17600}
. "$(dirname "$0")/turns.sh"
PEERS=${PEERS:-tidelock etcd}; RUNS=${RUNS:-100}
results failover.jsonl failover.txt

turn() { local r # turn RUN PEER KIND
  echo "$3" >&"${ASK[$2]}"; read -r -t 600 r <&"${ANSWER[$2]}" || { echo "$2 is gone" >&2; exit 1; }
  case $r in "{"*) echo "{\"run\":$1,\"peer\":\"$2\",\"kind\":\"$3\",\"load1\":$(load1),${r#\{}" >> "$RESULTS"
    sed -n 's/^{"gap_ms":\([0-9.]*\),.*"command_ms":\([0-9.]*\),.*/'"$1 $2 $3"': no write for \1 ms, command \2 ms/p' <<< "$r" >&2;;
    *) echo "$2, $3 number $1: the run failed" >&2; report; exit 1;; esac; }

report() { what_else "$before"; say "the whole took $(( $(date +%s) - began )) s"
  "$BIN/../tidelock" run "$HERE/failover.lua" "$RESULTS" "$CONDITIONS"; }

before=$(load1); began=$(date +%s); others > "$DATA/before"; : > "$DATA/later"; conditions
say "$(date -u +%F), heartbeat 100 ms, election time-out 1000 ms, drawn up to double (etcd: 3.4's defaults, no pre-vote)"
for p in $PEERS; do launch "$p" around; done
for p in $PEERS; do connect "$p"; done
backwards=; for p in $PEERS; do backwards="$p $backwards"; done
for run in $(seq 1 "$RUNS"); do
  order=$PEERS; [ $((run % 2)) = 0 ] && order=$backwards
  for kind in kill transfer; do for p in $order; do turn "$run" "$p" $kind; done; done
  others >> "$DATA/later"; done
for p in $PEERS; do turn 0 "$p" end; done
finish; report
