# tidelock: build, test, install. `make help` lists the targets.

MODE ?= release
VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=
WERROR ?= -Werror
BUSTED ?= busted --lua=luajit

# --- what the machine needs: the files that say it is there, and the Debian packages that bring them ----------------
BUILD_NEEDS := pkg-config:pkg-config luajit.h:libluajit-5.1-dev msgpack.h:libmsgpack-dev ev.h:libev-dev \
               xxhash.h:libxxhash-dev jansson.h:libjansson-dev
TEST_NEEDS  := luajit:luajit busted:lua-busted luacheck:lua-check clang:clang clang-format:clang-format \
               clang-tidy:clang-tidy libclang_rt.asan-x86_64.a:libclang-rt-dev

# --- libraries: pkg-config where it knows them ------------------------------------------------------------------------
LUAJIT_CFLAGS  = $(shell pkg-config --cflags luajit)
LUAJIT_LIBS    = $(shell pkg-config --variable=libdir luajit)/libluajit-5.1.a
MSGPACK_CFLAGS = $(shell pkg-config --cflags msgpack-c 2>/dev/null || pkg-config --cflags msgpack)
EV_LIBS       ?= -lev
JANSSON_LIBS   = $(shell pkg-config --libs jansson)

# --- modes ----------------------------------------------------------------------------------------------------------
COMPILER := $(if $(findstring clang,$(CC)),-clang,)
BUILD    := build/$(MODE)$(COMPILER)
OPT_release := -O2 -g -DLOG_LEVEL_MAX=3
OPT_debug   := -O0 -g -DDEBUG_INVARIANTS -DTREE_NODE_BYTES=512
OPT_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined \
               -DDEBUG_INVARIANTS -DTREE_NODE_BYTES=512
OPT_tsan    := -O1 -g -fsanitize=thread
OPT_cov     := -O0 -g --coverage
ifndef OPT_$(MODE)
  $(error MODE=$(MODE) is not known: release debug asan tsan cov)
endif
SANITIZE := $(filter -fsanitize=% --coverage,$(OPT_$(MODE)))
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla $(WERROR)
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE -DTIDELOCK_VERSION='"$(VERSION)"' -fPIC -pthread $(OPT_$(MODE)) $(WARN) \
             -Isrc $(LUAJIT_CFLAGS) $(MSGPACK_CFLAGS) $(CFLAGS)
LIBS = $(LUAJIT_LIBS) $(EV_LIBS) $(JANSSON_LIBS) -lm -ldl

SRC      := $(sort $(wildcard src/*/*.c))
CORE_SRC := $(filter-out src/node/% src/cli/% src/net/%,$(SRC))
OBJ      := $(SRC:src/%.c=$(BUILD)/%.o) $(BUILD)/embed.o
CORE_OBJ := $(CORE_SRC:src/%.c=$(BUILD)/%.o) $(BUILD)/embed.o
LUA      := $(sort $(shell find lua -name '*.lua' 2>/dev/null))
Q        := $(if $(V),,@)

.PHONY: all demo test spec tidy fmt golden sim soak bench install uninstall clean help deps test-deps FORCE

all: $(BUILD)/tidelock $(BUILD)/libcore.so ## build build/release/tidelock (MODE=release|debug|asan|tsan|cov, CC=gcc|clang)

$(BUILD)/tidelock: $(OBJ)
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -pthread -o $@ $(OBJ) $(LIBS)

# All floors but net, node and cli, for specs (LuaJIT's symbols stay inside: the spec's own interpreter has the same).
$(BUILD)/libcore.so: $(CORE_OBJ)
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -pthread -shared -Wl,-Bsymbolic -Wl,--exclude-libs,ALL -o $@ $(CORE_OBJ) $(LIBS)

$(BUILD)/%.o: src/%.c | deps
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# Everything under lua/ becomes bytes in the binary. The list is written anew when a file comes, goes or changes.
$(BUILD)/embed.S: $(LUA) $(BUILD)/embed.list
	@mkdir -p $(@D)
	@{ echo '.section .rodata'; i=0; for f in $(LUA); do \
	   echo "p$$i: .asciz \"$$f\""; echo "d$$i: .incbin \"$$f\""; echo "e$$i: .byte 0"; i=$$((i+1)); done; \
	   echo '.section .data.rel.ro,"aw"'; echo '.balign 8'; echo '.globl embed_files'; echo 'embed_files:'; i=0; \
	   for f in $(LUA); do echo ".quad p$$i, d$$i, e$$i - d$$i"; i=$$((i+1)); done; echo '.quad 0, 0, 0'; \
	   echo '.globl embed_files_count'; echo '.balign 8'; echo "embed_files_count: .quad $$i"; \
	   echo '.section .note.GNU-stack,"",@progbits'; } > $@

$(BUILD)/embed.list: FORCE
	@mkdir -p $(@D)
	@echo '$(LUA)' | cmp -s - $@ || echo '$(LUA)' > $@

$(BUILD)/embed.o: $(BUILD)/embed.S
	$(Q)$(CC) -c -o $@ $<

FORCE:

# --- missing packages -------------------------------------------------------------------------------------------------
# need: checks a list of FILE:PACKAGE; installs what is missing, or says how.
define need
	@missing=; for pair in $(1); do what=$${pair%%:*}; pkg=$${pair##*:}; case $$what in \
	  *.h) test -n "$$(find /usr/include /usr/local/include -name $$what -print -quit 2>/dev/null)";; \
	  *.a) test -n "$$(find /usr/lib -name $$what -print -quit 2>/dev/null)";; \
	  *) command -v $$what >/dev/null;; esac || missing="$$missing $$pkg"; done; \
	if [ -n "$$missing" ]; then \
	  run="apt-get install -y --no-install-recommends$$missing"; \
	  if [ "$$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; else sudo=no; fi; \
	  if [ "$$sudo" = no ] || ! command -v apt-get >/dev/null; then \
	    echo "These packages are missing:$$missing"; echo "Install them: sudo $$run"; exit 2; fi; \
	  echo "installing$$missing"; \
	  { $$sudo apt-get update && DEBIAN_FRONTEND=noninteractive $$sudo $$run; } > build/packages.log 2>&1 \
	    || { tail -n 5 build/packages.log; echo "could not install; run: sudo $$run"; exit 2; }; fi
endef

build/.build-deps:
	@mkdir -p build
	$(call need,$(BUILD_NEEDS))
	@touch $@

build/.test-deps:
	@mkdir -p build
	$(call need,$(TEST_NEEDS))
	@touch $@

deps: build/.build-deps ## install what building needs
test-deps: build/.build-deps build/.test-deps ## install what testing needs

# --- running ----------------------------------------------------------------------------------------------------------
demo: all ## three nodes, a Lua service, a killed leader, nothing lost
	@$(BUILD)/tidelock run examples/demos/failover.lua

test: test-deps ## everything that must pass before a change lands
	@bash spec/support/suite.sh

spec: test-deps $(BUILD)/libcore.so ## one spec: make spec SPEC=spec/unit/x_spec.lua [MODE=asan]
	@TIDELOCK_BUILD=$(BUILD) $(if $(findstring asan,$(MODE)),ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$$($(CC) -print-file-name=libasan.so),) \
	  $(BUSTED) --lpath=./?.lua $(SPEC)

golden: test-deps $(BUILD)/libcore.so ## write the expected transcripts of spec/scenario anew; review the diff
	@GOLDEN=rewrite TIDELOCK_BUILD=$(BUILD) $(BUSTED) --lpath='./?.lua' spec/scenario

sim: test-deps $(BUILD)/libcore.so ## many seeds of the core's world: SEEDS=1..500
	@SEEDS=$(or $(SEEDS),1..500) TIDELOCK_BUILD=$(BUILD) $(BUSTED) --lpath='./?.lua' spec/sim

soak: test-deps all ## kill -9 of all nodes under load, 50 times
	@LOOPS=$(or $(LOOPS),50) TIDELOCK_BUILD=$(BUILD) $(BUSTED) --lpath='./?.lua' spec/live/kill_spec.lua

tidy: test-deps all ## floors, purity, sizes, lint
	@TIDELOCK_BUILD=$(BUILD) $(BUSTED) --lpath='./?.lua' spec/tidy_spec.lua
	@luacheck -q --std luajit --max-line-length 116 lua examples
	@luacheck -q --std luajit+busted --max-line-length 116 spec
	@clang-tidy --quiet --checks='-*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-bugprone-narrowing-conversions,-bugprone-branch-clone' \
	  --warnings-as-errors='*' $(filter-out src/script/% src/cli/%,$(SRC)) -- $(filter-out -Werror,$(CFLAGS_ALL)) 2>/dev/null

fmt: test-deps ## format the C sources
	@clang-format -i src/*/*.c src/*/*.h

install: all ## PREFIX=/usr/local DESTDIR=
	@install -D -m 755 $(BUILD)/tidelock $(DESTDIR)$(PREFIX)/bin/tidelock
	@for f in $$(find examples -type f); do install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/tidelock/$$f; done
	@echo "installed $(DESTDIR)$(PREFIX)/bin/tidelock"

uninstall: ## takes out what install put in
	@rm -rf $(DESTDIR)$(PREFIX)/bin/tidelock $(DESTDIR)$(PREFIX)/share/tidelock

clean: ## remove build/
	@rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

-include $(OBJ:.o=.d)
