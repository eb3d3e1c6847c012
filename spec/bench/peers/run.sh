#!/usr/bin/env bash
# spec/bench/peers/run.sh: tidelock and its peers, one after another, in one go on this machine; a JSON line a measurement.
#
#   make bench-peers      needs: libraft-dev libuv1-dev redis-server redis-tools etcd-server etcd-client
#
# Each script starts its own processes on 127.0.0.1, and ends exactly those. SECS, REPS, QUIET as in lib.sh.
set -u
cd "$(dirname "$0")/../../.."
export SECS=${SECS:-3} REPS=${REPS:-1} QUIET=${QUIET:-1}
echo '--- tidelock, three nodes'; make -s bench SECONDS_EACH="$SECS"
echo '--- the C raft library, three nodes, Nagle off'; PARTS=nodelay bash spec/bench/peers/libraft.sh
echo '--- the C raft library, three nodes, as it comes'; PARTS=writes bash spec/bench/peers/libraft.sh
echo '--- Redis, one node, every write synced'; PARTS=lua bash spec/bench/peers/redis.sh
echo '--- etcd, three nodes'; PARTS=writes bash spec/bench/peers/etcd.sh
