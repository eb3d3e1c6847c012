#!/usr/bin/env bash
# spec/bench/peers/run.sh: tidelock beside its peers in one go: same machine, disk, client program and client shape.
#
#   make bench-peers        REPS=3 rounds, SECS=3 a run, PEERS="tidelock etcd libraft redis", TMPDIR: the disk
#
# All are up from the start, but stopped while another has its turn. For each number outstanding each has one turn, right
# after the other; every second round goes backwards. So a ratio is made of two runs that are seconds apart. One synced
# append and one round trip are measured before and after the row of one outstanding. Each script starts its own processes, on 127.0.0.1,
# and ends exactly those. The figures go to results.jsonl beside the programs, then table.lua prints them.
export SECS=${SECS:-3} REPS=${REPS:-3} QUIET=${QUIET:-2}
export TMPDIR=${TMPDIR:-$BIN}
. "$(dirname "$0")/turns.sh"
PEERS=${PEERS:-tidelock etcd libraft redis}; OUTSTANDING=${OUTSTANDING:-1 64 256 1024 4096}
results results.jsonl conditions.txt

turn() { local r # turn ROUND PEER OUTSTANDING
  echo "$3" >&"${ASK[$2]}"; read -r -t $((SECS * 2 + 120)) r <&"${ANSWER[$2]}" || { echo "$2 is gone" >&2; exit 1; }
  case $r in "{"*) echo "{\"round\":$1,\"peer\":\"$2\",\"outstanding\":$3,${r#\{}" | tee -a "$RESULTS" |
    sed 's/.*"peer":"\([a-z]*\)","outstanding":\([0-9]*\).*"ops_s":\([0-9]*\).*"p50_us":\([0-9]*\).*/\1 \2: \3 a second, p50 \4 us/' >&2;;
    *) echo "$2 at $3: the run failed" >&2;; esac; }
limit() { local r; r=$("$BIN/limits" "${@:2}") || exit 1; echo "{\"limit\":\"$1\",${r#\{}" >> "$RESULTS"; }
limits() { sync; sleep 0.5; limit append_1 append "$DATA" 2000 1; limit append_3 append "$DATA" 2000 3; limit trip_1 trip 20000 1
  limit trip_2 trip 20000 2; }

before=$(load1); began=$(date +%s); others > "$DATA/before"; : > "$DATA/later"; conditions
say "64-byte values, 16-byte keys, $REPS round(s) of $SECS s a run (medians), one client thread, at most 16 connections," \
  "clients on the same cores"
for p in $PEERS; do launch "$p" serve; done
for p in $PEERS; do connect "$p"; done
backwards=; for p in $PEERS; do backwards="$p $backwards"; done
for round in $(seq 1 "$REPS"); do
  order=$PEERS; [ $((round % 2)) = 0 ] && order=$backwards
  for o in $OUTSTANDING; do
    [ "$o" = 1 ] && limits
    for p in $order; do turn "$round" "$p" "$o"; others >> "$DATA/later"; done
    [ "$o" = 1 ] && limits; done; done
finish
what_else "$before"
say "the whole took $(( $(date +%s) - began )) s"
"$BIN/../tidelock" run "$HERE/table.lua" "$RESULTS" "$CONDITIONS"
