#!/usr/bin/env bash
# spec/support/suite.sh: everything that `make test` runs, one run after another; the last line is the sum.
#
#   gcc with ASan and UBSan     all specs that go through FFI
#   gcc and clang, release      the same specs
#   gcc, release                live specs: real processes on loopback; one script that needs a test build, under ASan
#   TSan                        the ring between two threads; nodes under load, kills and garbage
#   tidy                        floors, doors, purity, sizes
# A run that dies early, or runs nothing, counts as a failure.
set -u
passed=0; failed=0
jobs=$(nproc)

count() { # count NAME LOG STATUS: adds what busted says
  local line ok bad
  line=$(grep -aE '^[0-9]+ success(es)? / [0-9]+ failures? / [0-9]+ errors?' "$2" | tail -n 1)
  ok=$(sed -n 's/^\([0-9]*\) success.*/\1/p' <<<"$line")
  bad=$(sed -n 's/.* \/ \([0-9]*\) failure.* \/ \([0-9]*\) error.*/\1 \2/p' <<<"$line" | awk '{print $1+$2}')
  passed=$((passed + ${ok:-0})); failed=$((failed + ${bad:-0}))
  if [ -z "$line" ] || [ "${ok:-0}" = 0 ] || { [ "$3" != 0 ] && [ "${bad:-0}" = 0 ]; }; then
    failed=$((failed + 1)); echo "-- $1: died (status $3), or ran nothing"; tail -n 15 "$2"
  elif [ "${bad:-0}" != 0 ]; then cat "$2"; fi
  echo "-- $1: ${ok:-0} passed, ${bad:-0} failed"
}

build() { # build CC MODE TARGET
  make -s -j"$jobs" CC="$1" MODE="$2" "$3" > build/suite.log 2>&1 && return 0
  failed=$((failed + 1)); echo "-- $1 $2: does not build"; tail -n 30 build/suite.log; return 1; }

run() { # run NAME BUILD PRELOAD SPECS...
  local name=$1 dir=$2 preload=$3; shift 3
  local log=build/suite.$$.log
  TIDELOCK_BUILD=$dir ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 ${preload:+env LD_PRELOAD="$preload"} \
    timeout 900 busted --lua=luajit --lpath=./?.lua -o plainTerminal "$@" > "$log" 2>&1
  count "$name" "$log" $?; rm -f "$log"; }

specs=(); for d in spec/unit spec/paper spec/scenario spec/lua spec/fault spec/sim; do [ -n "$(ls $d/*_spec.lua 2>/dev/null)" ] && specs+=("$d"); done
mkdir -p build
build gcc asan all && run "gcc, ASan and UBSan" build/asan "$(gcc -print-file-name=libasan.so)" "${specs[@]}"
build gcc release all && run "gcc, release" build/release "" "${specs[@]}"
build clang release all && run "clang, release" build/release-clang "" "${specs[@]}"
# The same seeds give the same events, whatever built them.
for what in swarm.hashes swarm.transcripts service.transcripts script.outputs; do
  if cmp -s build/asan/$what build/release/$what && cmp -s build/release/$what build/release-clang/$what
  then passed=$((passed + 1)); else failed=$((failed + 1)); echo "-- $what: a simulated seed differs between builds"; fi
done
run "live" build/release "" spec/live spec/cli
run "tidy" build/release "" spec/tidy_spec.lua
# Only test builds can let memory rot; real nodes find it, name it, park, and come back, under ASan.
if ASAN_OPTIONS=detect_leaks=0 timeout 300 build/asan/tidelock run spec/live/divergence.lua > build/suite.log 2>&1
then passed=$((passed + 1)); else failed=$((failed + 1)); echo "-- divergence.lua under ASan failed"; tail -n 30 build/suite.log; fi
# Nodes whose threads race say so in a report of their own.
threads() { # threads SCRIPT WORDS...
  rm -f build/tsan.report.*
  if TSAN_OPTIONS="log_path=$PWD/build/tsan.report exitcode=66" timeout 300 build/tsan/tidelock run "$@" > build/suite.log 2>&1 \
     && ! ls build/tsan.report.* > /dev/null 2>&1; then passed=$((passed + 1))
  else failed=$((failed + 1)); echo "-- $* under TSan failed"; tail -n 30 build/suite.log; head -n 40 build/tsan.report.* 2> /dev/null; fi; }
if build gcc tsan all; then
  threads examples/demos/failover.lua 1000
  threads spec/live/kill_loop.lua 2
  threads spec/live/snapshots.lua 60
  threads spec/live/garbage.lua 1000
  dir=$(mktemp -d)
  if gcc -std=c11 -D_GNU_SOURCE -O1 -g -fsanitize=thread -Isrc -o build/snapshot_tsan spec/tsan/snapshot.c build/tsan/libcore.so \
     -Wl,-rpath,"$PWD/build/tsan" -pthread && build/snapshot_tsan "$dir"; then passed=$((passed + 1))
  else failed=$((failed + 1)); echo "-- snapshots under TSan failed"; fi
  rm -rf "$dir"
fi
if gcc -std=c11 -D_GNU_SOURCE -O1 -g -fsanitize=thread -Isrc -o build/ring_tsan spec/tsan/ring.c src/base/ring.c src/base/memory.c src/base/check.c -pthread \
   && build/ring_tsan; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "-- ring under TSan failed"; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
