# tidelock: build, test, install. `make help` lists the targets.
#
# Everything made lands under build/: build/MODE for gcc, build/MODE-clang for clang, so that they stand side by side.
#   make                                   the binary, build/release/tidelock
#   make CC=clang MODE=debug V=1           another compiler, another mode, whole command lines
#   make spec SPEC=spec/unit/x_spec.lua MODE=asan

MODE    ?= release
VERSION := 0.1.0
PREFIX  ?= /usr/local
DESTDIR ?=
WERROR  ?= -Werror
BUSTED   = busted --lua=luajit --lpath='"./?.lua;./lua/?.lua"'
# The compilers that `make test` goes through; CC is the one of a plain `make`.
GCC     ?= gcc
CLANG   ?= clang

# --- what the machine needs: what says that it is there, and the Debian package that brings it -----------------------
# NAME.pc is asked of pkg-config, NAME.h of the compiler (a header in some folder under /usr/include proves nothing),
# a library of the file system, anything else is a command.
BUILD_NEEDS := pkg-config:pkg-config luajit.pc:libluajit-5.1-dev msgpack.h:libmsgpack-dev ev.h:libev-dev \
               libxxhash.pc:libxxhash-dev libzstd.pc:libzstd-dev
TEST_NEEDS  := gcc:gcc luajit:luajit busted:lua-busted luacheck:lua-check clang:clang clang-format:clang-format \
               clang-tidy:clang-tidy libclang_rt.asan-x86_64.a:libclang-rt-dev nm:binutils

# --- libraries: each has NAME_CFLAGS and NAME_LIBS that can be overridden ---------------------------------------------
# pkg-config is asked once, when a recipe first needs the answer: only then is it sure to be installed.
once = $(eval $(1) := $(shell $(2)))$($(1))
LUAJIT_LIBDIR  = $(call once,LUAJIT_LIBDIR,pkg-config --variable=libdir luajit)
LUAJIT_CFLAGS  = $(call once,LUAJIT_CFLAGS,pkg-config --cflags luajit)
LUAJIT_LIBS    = $(LUAJIT_LIBDIR)/libluajit-5.1.a
MSGPACK_CFLAGS = $(call once,MSGPACK_CFLAGS,pkg-config --cflags msgpack-c 2>/dev/null || pkg-config --cflags msgpack)
EV_CFLAGS     ?=
EV_LIBS       ?= -lev
XXHASH_CFLAGS  = $(call once,XXHASH_CFLAGS,pkg-config --cflags libxxhash)
ZSTD_CFLAGS    = $(call once,ZSTD_CFLAGS,pkg-config --cflags libzstd)
ZSTD_LIBS      = $(call once,ZSTD_LIBS,pkg-config --libs libzstd)

# --- modes ------------------------------------------------------------------------------------------------------------
# debug and asan check the invariants after every step, and keep tree nodes small so that specs see deep trees.
COMPILER := $(if $(findstring clang,$(CC)),-clang,)
BUILD    := build/$(MODE)$(COMPILER)
OPT_release := -O2 -g -DLOG_LEVEL_MAX=3
OPT_debug   := -O0 -g -DDEBUG_INVARIANTS -DTREE_NODE_BYTES=512
OPT_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined \
               -DDEBUG_INVARIANTS -DTREE_NODE_BYTES=512
OPT_tsan    := -O1 -g -fsanitize=thread
OPT_cov     := -O0 -g --coverage
# Planted bugs to choose from (base/mutant.h): never a build to use.
OPT_mutants := -O2 -g -DLOG_LEVEL_MAX=3 -DMUTANTS -DDEBUG_INVARIANTS
ifndef OPT_$(MODE)
  $(error MODE=$(MODE) is not known: release debug asan tsan cov)
endif
SANITIZE := $(filter -fsanitize=% --coverage,$(OPT_$(MODE)))
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla $(WERROR)
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE -DTIDELOCK_VERSION='"$(VERSION)"' -fPIC -pthread -ffp-contract=off -ffunction-sections \
             -fdata-sections $(OPT_$(MODE)) $(WARN) -Isrc $(LUAJIT_CFLAGS) $(MSGPACK_CFLAGS) $(EV_CFLAGS) \
             $(XXHASH_CFLAGS) $(ZSTD_CFLAGS) $(CFLAGS)
LIBS = $(LUAJIT_LIBS) $(EV_LIBS) $(ZSTD_LIBS) -lm -ldl

SRC      := $(sort $(wildcard src/*/*.c))
CORE_SRC := $(filter-out src/net/% src/node/% src/cli/%,$(SRC))
OBJ      := $(SRC:src/%.c=$(BUILD)/%.o) $(BUILD)/embed.o
CORE_OBJ := $(CORE_SRC:src/%.c=$(BUILD)/%.o) $(BUILD)/embed.o
EMBED    := $(sort $(shell find lua src/web -type f ! -name '.*' 2>/dev/null))
Q        := $(if $(V),,@)

.PHONY: all core demo demo-grow test spec tidy tidy-c tidy-lua fmt golden sim mutants soak install uninstall clean help FORCE
.PHONY: micro-costs
.PHONY: deps test-deps install-deps
.DELETE_ON_ERROR:

all: $(BUILD)/tidelock $(BUILD)/libcore.so ## build build/release/tidelock (MODE=release|debug|asan|tsan|cov, CC=gcc|clang)

core: $(BUILD)/libcore.so ## build the floors that specs load: libcore.so

# LuaJIT is linked in, and no symbol of it leaves: an executable exports nothing, unused sections are dropped.
$(BUILD)/tidelock: $(OBJ)
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -pthread -Wl,--gc-sections $(LDFLAGS) -o $@ $(OBJ) $(LIBS)

# All floors but net, node and cli, for specs. Debian's static LuaJIT is not position independent, so here it is the
# shared one, which the spec's own interpreter uses too: states of their own.
$(BUILD)/libcore.so: $(CORE_OBJ)
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -pthread -shared -Wl,-Bsymbolic $(LDFLAGS) -o $@ $(CORE_OBJ) $(subst $(LUAJIT_LIBS),-L$(LUAJIT_LIBDIR) -lluajit-5.1,$(LIBS))

$(BUILD)/%.o: src/%.c Makefile | deps
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# Everything under lua/ and src/web/ becomes bytes in the binary (base/embed.h), anew when a file comes, goes or changes.
$(BUILD)/embed.S: $(EMBED) $(BUILD)/embed.list
	@{ echo '.section .rodata'; i=0; for f in $(EMBED); do \
	   echo "p$$i: .asciz \"$$f\""; echo "d$$i: .incbin \"$$f\""; echo "e$$i: .byte 0"; i=$$((i+1)); done; \
	   echo '.section .data.rel.ro,"aw"'; echo '.balign 8'; echo '.globl embed_files'; echo 'embed_files:'; i=0; \
	   for f in $(EMBED); do echo ".quad p$$i, d$$i, e$$i - d$$i"; i=$$((i+1)); done; echo '.quad 0, 0, 0'; \
	   echo '.globl embed_files_count'; echo '.balign 8'; echo "embed_files_count: .quad $$i"; \
	   echo '.section .note.GNU-stack,"",%progbits'; } > $@

$(BUILD)/embed.list: FORCE
	@mkdir -p $(@D)
	@echo '$(EMBED)' | cmp -s - $@ || echo '$(EMBED)' > $@

$(BUILD)/embed.o: $(BUILD)/embed.S
	$(Q)$(CC) -c -o $@ $<

FORCE:

# --- missing packages -------------------------------------------------------------------------------------------------
# need: checks a list of FILE:PACKAGE; installs what is missing, or says how. A stamp makes it free from then on.
define need
	@mkdir -p build; missing=; for pair in $(1); do what=$${pair%%:*}; pkg=$${pair##*:}; case $$what in \
	  *.pc) pkg-config --exists $${what%.pc} 2>/dev/null;; \
	  *.h) echo "#include <$$what>" | $(CC) -E - >/dev/null 2>&1;; \
	  *.a) test -n "$$(find /usr/lib /usr/lib/llvm-*/ -name $$what -print -quit 2>/dev/null)";; \
	  *) command -v $$what >/dev/null;; esac || missing="$$missing $$pkg"; done; \
	if [ -n "$$missing" ]; then \
	  run="apt-get install -y --no-install-recommends$$missing"; sudo=no; \
	  if [ "$$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; fi; \
	  if [ "$$sudo" = no ] || ! command -v apt-get >/dev/null; then \
	    echo "These packages are missing:$$missing"; echo "Install them: sudo $$run"; exit 2; fi; \
	  echo "installing$$missing"; \
	  { $$sudo apt-get update && $$sudo env DEBIAN_FRONTEND=noninteractive $$run; } > build/packages.log 2>&1 \
	    || { tail -n 5 build/packages.log; echo "could not install; run: sudo $$run"; exit 2; }; fi; touch $@
endef

# Who is to test is told of everything at once; and never two apt-get at the same time, whatever -j says.
TESTING := $(filter test spec golden sim mutants soak tidy tidy-lua tidy-c fmt test-deps install-deps,$(MAKECMDGOALS))

build/.build-deps: Makefile
	$(call need,$(BUILD_NEEDS) $(if $(TESTING),$(TEST_NEEDS)))

build/.test-deps: Makefile | build/.build-deps
	$(call need,$(TEST_NEEDS))

deps: build/.build-deps
test-deps: build/.test-deps
install-deps: deps test-deps ## install the Debian packages that building and testing need

# --- running ----------------------------------------------------------------------------------------------------------
demo: all ## three nodes, a Lua service, a killed leader, nothing lost
	@$(BUILD)/tidelock run examples/demos/failover.lua

demo-grow: all ## one node becomes five and three again under load, by a policy written in Lua
	@$(BUILD)/tidelock run examples/demos/grow.lua

ifdef SPEC
test: spec
else
test: test-deps ## everything that must pass before a change lands (SPEC=file: that file alone, in this MODE)
	@GCC='$(GCC)' CLANG='$(CLANG)' MAKE='$(MAKE)' bash spec/support/suite.sh
endif

# The sanitizer's library must come before luajit's own allocator calls; LuaJIT's heap is not for its leak finder.
ifneq (,$(findstring address,$(SANITIZE)))
SPEC_ENV = ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
           LD_PRELOAD=$(shell $(CC) -print-file-name=libasan.so)
endif
RUN_SPEC = TIDELOCK_BUILD=$(BUILD) CC='$(CC)' $(SPEC_ENV) $(BUSTED)

spec: test-deps core $(if $(findstring live,$(SPEC))$(findstring cli,$(SPEC))$(findstring scenario,$(SPEC))$(findstring script,$(SPEC))$(findstring tidy,$(SPEC)),all) ## run specs: make spec SPEC=spec/unit/x_spec.lua [MODE=asan]
	@$(RUN_SPEC) $(or $(SPEC),spec/unit)

golden: test-deps all ## write the expected transcripts of spec/scenario anew; review the diff
	@GOLDEN=rewrite $(RUN_SPEC) spec/scenario

sim: test-deps all ## many seeds of the simulated worlds: SEEDS=1..500
	@SEEDS=$(or $(SEEDS),1..500) $(RUN_SPEC) spec/sim

mutants: test-deps ## plant each known bug, one at a time: the simulator must find every one (SEEDS=400)
	@$(MAKE) --no-print-directory MODE=mutants all
	@TIDELOCK_BUILD=build/mutants luajit spec/sim/mutants.lua $(or $(SEEDS),400) $(ONLY)

soak: test-deps all ## kill -9 of all nodes under load, LOOPS=50 times
	@$(BUILD)/tidelock run spec/live/kill_loop.lua $(or $(LOOPS),50)

TIDY_CHECKS := -*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,$\
  -bugprone-narrowing-conversions,-bugprone-branch-clone,-bugprone-assignment-in-if-condition,-bugprone-not-null-terminated-result,$\
  -bugprone-implicit-widening-of-multiplication-result,-bugprone-sizeof-expression,-bugprone-misplaced-widening-cast

tidy: all tidy-lua tidy-c ## floors, purity, sizes, lint
	@$(RUN_SPEC) spec/tidy_spec.lua

tidy-lua: test-deps
	@luacheck -q --no-color --std luajit --max-line-length 144 $(filter-out examples/spec,$(wildcard lua examples/*))
	@luacheck -q --no-color --std luajit+busted --max-line-length 144 spec examples/spec

tidy-c: test-deps
	@printf '%s\n' $(SRC) | xargs -P 2 -n 8 sh -c 'clang-tidy --quiet --checks=$(TIDY_CHECKS) \
	  --warnings-as-errors=* "$$@" -- $(filter-out -Werror -DTIDELOCK_VERSION=%,$(CFLAGS_ALL)) \
	  -DTIDELOCK_VERSION=\"\" 2>/dev/null' sh

bench: all ## kv.set on three nodes, at 1 to 4096 outstanding
	@$(CC) $(CFLAGS_ALL) -o $(BUILD)/load spec/bench/load.c $(CORE_OBJ) $(LIBS)
	@$(BUILD)/tidelock run spec/bench/run.lua $(BUILD)/load $(or $(SECONDS_EACH),3)

PEERS_NEEDS := etcd:etcd-server etcdctl:etcd-client raft.h:libraft-dev uv.h:libuv1-dev redis-server:redis-server \
               redis-cli:redis-tools

build/.peers-deps:
	$(call need,$(PEERS_NEEDS))

# Settings by environment: REPS=3 SECS=3, and those that spec/bench/peers/lib.sh names.
bench-peers: all bench-peers-programs ## tidelock beside etcd, the C raft library and Redis: ratios, figures, conditions
	@BIN=$(CURDIR)/$(BUILD)/peers exec bash spec/bench/peers/run.sh

# Settings by environment: RUNS=100, and those that spec/bench/peers/failover.sh names.
bench-failover: all bench-peers-programs ## tidelock beside etcd: how long no write is acknowledged, leaders killed and transferred
	@BIN=$(CURDIR)/$(BUILD)/peers exec bash spec/bench/peers/failover.sh

bench-peers-programs: $(BUILD)/peers/loadgen build/.peers-deps
	@$(CC) $(CFLAGS_ALL) -o $(BUILD)/peers/limits spec/bench/peers/limits.c
	@$(CC) $(CFLAGS_ALL) -o $(BUILD)/peers/raftnode spec/bench/peers/raftnode.c -lraft -luv

$(BUILD)/peers/loadgen: $(wildcard spec/bench/peers/loadgen/*) $(CORE_OBJ)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) -o $@ $(filter %.c,$^) $(CORE_OBJ) $(LIBS)

build/.redis-deps:
	$(call need,redis-server:redis-server)

# Settings by environment: ROWS=5000000 RATE=2000 ROUNDS=3, and those that spec/bench/snapshot.lua names.
bench-snapshot: all $(BUILD)/peers/loadgen build/.redis-deps ## latency beside a snapshot, and beside Redis' BGSAVE; a transfer
	@$(BUILD)/tidelock run spec/bench/snapshot.lua $(BUILD)/peers/loadgen

micro: $(BUILD)/libcore.so ## what applying kv.set costs, at 10 thousand, 100 thousand and 1 million rows
	@$(CC) $(CFLAGS_ALL) -o $(BUILD)/micro-machine spec/bench/micro/machine.c $(CORE_OBJ) $(LIBS)
	@$(BUILD)/micro-machine examples/kv.lua 10000 100000 1000000

micro-costs: $(BUILD)/libcore.so ## what three services, the budget's hook, the digest and 10 million rows cost
	@$(CC) $(CFLAGS_ALL) -o $(BUILD)/micro-costs spec/bench/micro/costs.c $(CORE_OBJ) $(LIBS)
	@$(BUILD)/micro-costs examples $(ROWS)

micro-snapshot: $(BUILD)/libcore.so ## what taking and building a snapshot of 1 million rows costs, in three formats
	@$(CC) $(CFLAGS_ALL) -o $(BUILD)/micro-snapshot spec/bench/micro/snapshot.c $(CORE_OBJ) $(LIBS)
	@dir=$$(mktemp -d) && $(BUILD)/micro-snapshot examples/kv.lua 1000000 $$dir examples/formats/jsonl.lua \
	  examples/formats/csv_orders.lua; code=$$?; rm -rf $$dir; exit $$code

fmt: test-deps ## format the C sources
	@clang-format -i src/*/*.c src/*/*.h

install: all ## install the binary, the examples, types for editors: PREFIX=/usr/local DESTDIR=
	@install -D -m 755 $(BUILD)/tidelock $(DESTDIR)$(PREFIX)/bin/tidelock
	@for f in $$(find examples -type f) lua/tidelock/types.lua; do install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/tidelock/$$f; done
	@echo "installed $(DESTDIR)$(PREFIX)/bin/tidelock"

uninstall: ## take out what install put in
	@rm -rf $(DESTDIR)$(PREFIX)/bin/tidelock $(DESTDIR)$(PREFIX)/share/tidelock

clean: ## remove build/
	@rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

-include $(OBJ:.o=.d)
