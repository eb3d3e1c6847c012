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
. "$(dirname "$0")/lib.sh"
PEERS=${PEERS:-tidelock etcd libraft redis}; OUTSTANDING=${OUTSTANDING:-1 64 256 1024 4096}
RESULTS=$BIN/results.jsonl; CONDITIONS=$BIN/conditions.txt; : > "$RESULTS"; : > "$CONDITIONS"
declare -A ASK ANSWER

say() { echo "- $*" >> "$CONDITIONS"; }
version() { case $1 in
  tidelock) echo "tidelock $("$BIN/../tidelock" version | awk 'NR==1{print $2}'), commit $(git -C "$HERE" describe \
    --always --dirty 2> /dev/null), three nodes, Lua";;
  etcd) echo "etcd $(etcd --version | awk 'NR==1{print $3}'), three nodes";;
  libraft) echo "C raft $(dpkg-query -W -f '${Version}' libraft-dev), three nodes, batched, Nagle off, no Lua";;
  redis) echo "Redis $(redis-server --version | sed 's/.*v=\([0-9.]*\).*/\1/'), EVALSHA, one node, fsync always";; esac; }
conditions() { local p all=; for p in $PEERS; do all="$all${all:+; }$(version "$p")"; done
  say "$all"
  say "$(uname -srm), $(. /etc/os-release; echo "$PRETTY_NAME"), $(nproc) cores ($(sed -n 's/^model name.*: //p;' \
    /proc/cpuinfo | head -n 1)), $(awk '/^MemTotal/{printf "%.0f GiB", $2/1048576}' /proc/meminfo)"
  say "disk: $(findmnt -n -o SOURCE,FSTYPE,OPTIONS -T "$DATA" | tr -s ' ')"
  say "64-byte values, 16-byte keys, $REPS round(s) of $SECS s a run (medians), one client thread, at most 16 connections," \
    "clients on the same cores"; }

# launch PEER : starts its script; it waits for lines on ASK[PEER] and answers on ANSWER[PEER]
launch() { mkfifo "$DATA/$1.ask" "$DATA/$1.answer"
  PARTS=serve bash "$HERE/$1.sh" < "$DATA/$1.ask" > "$DATA/$1.answer" & PIDS+=($!); disown $!; }
connect() { local f line
  exec {f}> "$DATA/$1.ask"; ASK[$1]=$f; exec {f}< "$DATA/$1.answer"; ANSWER[$1]=$f
  read -r -t 120 line <&"$f" && [ "$line" = ready ] || { echo "$1 does not start" >&2; exit 1; }; }

turn() { local r # turn ROUND PEER OUTSTANDING
  echo "$3" >&"${ASK[$2]}"; read -r -t $((SECS * 2 + 120)) r <&"${ANSWER[$2]}" || { echo "$2 is gone" >&2; exit 1; }
  case $r in "{"*) echo "{\"round\":$1,\"peer\":\"$2\",\"outstanding\":$3,${r#\{}" | tee -a "$RESULTS" |
    sed 's/.*"peer":"\([a-z]*\)","outstanding":\([0-9]*\).*"ops_s":\([0-9]*\).*"p50_us":\([0-9]*\).*/\1 \2: \3 a second, p50 \4 us/' >&2;;
    *) echo "$2 at $3: the run failed" >&2;; esac; }
limit() { local r; r=$("$BIN/limits" "${@:2}") || exit 1; echo "{\"limit\":\"$1\",${r#\{}" >> "$RESULTS"; }
limits() { sync; sleep 0.5; limit append_1 append "$DATA" 2000 1; limit append_3 append "$DATA" 2000 3; limit trip_1 trip 20000 1
  limit trip_2 trip 20000 2; }
# A line for each process that is not ours: seconds of CPU so far, pid, name; the last one seen of a pid counts.
others() { ps -e -o pid=,ppid=,cputimes=,comm= | awk -v me=$$ '{up[$1]=$2;cpu[$1]=$3;name[$1]=$4}
  END{for(p in up){for(q=p;q>1&&q!=me;q=up[q]);if(q!=me)print cpu[p],p,name[p]}}'; }

before=$(load1); began=$(date +%s); others > "$DATA/before"; : > "$DATA/later"; conditions
for p in $PEERS; do launch "$p"; done
for p in $PEERS; do connect "$p"; done
backwards=; for p in $PEERS; do backwards="$p $backwards"; done
for round in $(seq 1 "$REPS"); do
  order=$PEERS; [ $((round % 2)) = 0 ] && order=$backwards
  for o in $OUTSTANDING; do
    [ "$o" = 1 ] && limits
    for p in $order; do turn "$round" "$p" "$o"; others >> "$DATA/later"; done
    [ "$o" = 1 ] && limits; done; done
for p in $PEERS; do f=${ASK[$p]}; exec {f}>&-; done
for p in "${PIDS[@]}"; do for _ in $(seq 1 300); do kill -0 "$p" 2> /dev/null || break; sleep 0.1; done; done
say "what else ran: load average $before before, $(load1) after (with ours); CPU of other processes, as far as seen" \
  "between turns: $(awk 'NR==FNR{was[$2]=$1;next} {cpu[$2]=$1-was[$2];name[$2]=$3} END{for(p in cpu)sum[name[p]]+=cpu[p]
    for(s in sum)if(sum[s]>=1){printf "%s%s %d s",n++?", ":"",s,sum[s]} if(!n)printf "none of a second or more"}' \
    "$DATA/before" "$DATA/later")"
say "the whole took $(( $(date +%s) - began )) s"
"$BIN/../tidelock" run "$HERE/table.lua" "$RESULTS" "$CONDITIONS"
