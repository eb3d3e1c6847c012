# spec/bench/peers/turns.sh: shared by run.sh and failover.sh, which have the peers take turns. Source it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
declare -A ASK ANSWER

# results FIGURES CONDITIONS : the files for both, beside the programs, empty
results() { RESULTS=$BIN/$1; CONDITIONS=$BIN/$2; : > "$RESULTS"; : > "$CONDITIONS"; }
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
  say "disk: $(findmnt -n -o SOURCE,FSTYPE,OPTIONS -T "$DATA" | tr -s ' ')"; }

# launch PEER PARTS : starts its script; it waits for lines on ASK[PEER] and answers on ANSWER[PEER]
launch() { mkfifo "$DATA/$1.ask" "$DATA/$1.answer"
  PARTS=$2 bash "$HERE/$1.sh" < "$DATA/$1.ask" > "$DATA/$1.answer" & PIDS+=($!); disown $!; }
connect() { local f line
  exec {f}> "$DATA/$1.ask"; ASK[$1]=$f; exec {f}< "$DATA/$1.answer"; ANSWER[$1]=$f
  read -r -t 120 line <&"$f" && [ "$line" = ready ] || { echo "$1 does not start" >&2; exit 1; }; }
# finish : no more lines for anyone, so that all end
finish() { local p f; for p in $PEERS; do f=${ASK[$p]}; exec {f}>&-; done
  for p in "${PIDS[@]}"; do for _ in $(seq 1 300); do kill -0 "$p" 2> /dev/null || break; sleep 0.1; done; done; }

# A line for each process that is not ours: seconds of CPU so far, pid, name; the last one seen of a pid counts.
others() { ps -e -o pid=,ppid=,cputimes=,comm= | awk -v me=$$ '{up[$1]=$2;cpu[$1]=$3;name[$1]=$4}
  END{for(p in up){for(q=p;q>1&&q!=me;q=up[q]);if(q!=me)print cpu[p],p,name[p]}}'; }
# what_else LOAD : what ran beside it, from $DATA/before and later, two answers of `others`, and the load average of before
what_else() { say "what else ran: load average $1 before, $(load1) after (with ours); CPU of other processes, as far as seen" \
  "between turns: $(awk 'NR==FNR{was[$2]=$1;next} {cpu[$2]=$1-was[$2];name[$2]=$3} END{for(p in cpu)sum[name[p]]+=cpu[p]
    for(s in sum)if(sum[s]>=1){printf "%s%s %d s",n++?", ":"",s,sum[s]} if(!n)printf "none of a second or more"}' \
    "$DATA/before" "$DATA/later")"; }
