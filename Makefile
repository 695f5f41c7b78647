# SPDX-License-Identifier: Apache-2.0
# make            build/unlearnd build/unlearnctl build/unlearn-worker
# make test       installs what is missing, builds, runs every test
# make demo       the whole story on real data; DATA=FILE.csv LABEL=COLUMN for a table of your own
# make help       the other targets
VERSION := 0.1.0
PREFIX ?= /usr/local
FLAVOUR ?= release
CC = gcc
PYTHON ?= /usr/bin/python3

# One folder of objects a flavour; only the release binaries stand directly in build/.
OBJ := build/obj-$(FLAVOUR)
BIN := $(if $(filter release,$(FLAVOUR)),build,build/$(FLAVOUR))

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
FLAGS_release := -O2
FLAGS_clang := -O2
FLAGS_debug := -O0 -g3
FLAGS_asan := -O1 -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=all
FLAGS_faults := -O2 -DUNLEARND_FAULTS
FLAGS_tsan := -O1 -fsanitize=thread -fno-omit-frame-pointer
FLAGS_fuzz := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer \
	-fno-sanitize-recover=all -DUNLEARND_FUZZ
HARDEN := -fstack-protector-strong -D_FORTIFY_SOURCE=2
ALL_CFLAGS := -std=c17 -D_GNU_SOURCE -I. -DUNLEARND_VERSION='"$(VERSION)"' -g -fPIE -pthread \
	$(WARN) $(FLAGS_$(FLAVOUR)) $(if $(filter release,$(FLAVOUR)),$(HARDEN)) $(CFLAGS)
ALL_LDFLAGS := -pie -pthread -Wl,--as-needed,-z,relro,-z,now \
	$(filter -fsanitize%,$(FLAGS_$(FLAVOUR))) $(LDFLAGS)

# What each program links. The worker and the client get no LMDB, libmicrohttpd or libuv: an
# include that breaks the layer table does not link (tests/layers checks the includes).
LIBS_worker := -lopenblas -lcjson -lsodium -lzstd -lz -lm
LIBS_daemon := -lmicrohttpd -luv -llmdb -linih -lsystemd -lcurl -lgnutls $(LIBS_worker)
LIBS_cli := -lcurl -lcjson -lsodium -lzstd -lz -lm

LIB_SRC := $(wildcard lib/*/*.c)
DAEMON_SRC := $(filter-out daemon/main.c daemon/worker_main.c,$(wildcard daemon/*.c)) \
	$(wildcard api/*.c config/*.c)
CLI_SRC := $(wildcard cli/*.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
REFERENCE_SRC := tests/reference/draws.c
PRELOAD_SRC := $(wildcard tests/preload/*.c)
BENCH_SRC := $(wildcard bench/*.c)
ALL_SRC := $(LIB_SRC) $(DAEMON_SRC) daemon/main.c daemon/worker_main.c $(CLI_SRC) $(UNIT_SRC) \
	$(FUZZ_SRC) $(REFERENCE_SRC) $(PRELOAD_SRC) $(BENCH_SRC)
HEADERS := $(wildcard lib/*/*.h daemon/*.h api/*.h config/*.h cli/*.h tests/unit/*.h \
	tests/fuzz/*.h tests/preload/*.h bench/*.h)
objects = $(patsubst %.c,$(OBJ)/%.o,$(1))

LIB_A := $(OBJ)/libunlearn.a
DAEMON_A := $(OBJ)/libdaemon.a
PROGRAMS := $(BIN)/unlearnd $(BIN)/unlearnctl $(BIN)/unlearn-worker
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BIN)/tests/%,$(UNIT_SRC))
# Libraries that tests preload: what reaches the disk is recorded, calls fail on demand.
PRELOADS := $(patsubst tests/preload/%.c,$(BIN)/tests/%.so,$(PRELOAD_SRC))
FUZZERS := $(patsubst tests/fuzz/%.c,$(BIN)/%,$(FUZZ_SRC))
BENCHES := $(patsubst bench/%.c,$(BIN)/bench/%,$(BENCH_SRC))

.DEFAULT_GOAL := all
.SECONDARY:
.PHONY: all
all: $(PROGRAMS)

$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# The contract is written in YAML for people and served as JSON.
OPENAPI := $(OBJ)/openapi.json
$(OPENAPI): api/openapi.yaml
	@mkdir -p $(@D)
	$(PYTHON) -c 'import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), \
		open(sys.argv[2], "w"), separators=(",", ":"), default=str)' $< $@
$(OBJ)/api/openapi_data.o: $(OPENAPI)
$(OBJ)/api/openapi_data.o: ALL_CFLAGS += -DOPENAPI_JSON_FILE='"$(OPENAPI)"'

$(LIB_A): $(call objects,$(LIB_SRC))
	@rm -f $@ && ar rcs $@ $^
$(DAEMON_A): $(call objects,$(DAEMON_SRC))
	@rm -f $@ && ar rcs $@ $^

$(BIN)/unlearnd: $(OBJ)/daemon/main.o $(DAEMON_A) $(LIB_A)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS_daemon)
$(BIN)/unlearn-worker: $(OBJ)/daemon/worker_main.o $(LIB_A)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS_worker)
$(BIN)/unlearnctl: $(call objects,$(CLI_SRC)) $(LIB_A)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS_cli)
$(BIN)/tests/%: $(OBJ)/tests/unit/%.o $(DAEMON_A) $(LIB_A)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(ALL_LDFLAGS) -lcmocka $(LIBS_daemon)
$(BIN)/tests/%.so: tests/preload/%.c $(wildcard tests/preload/*.h)
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE -I. -O1 -fno-builtin -fPIC -shared $(WARN) -o $@ $<
$(BIN)/reference-draws: $(OBJ)/tests/reference/draws.o $(LIB_A)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS_worker)
$(BIN)/fuzz_%: $(OBJ)/tests/fuzz/fuzz_%.o $(DAEMON_A) $(LIB_A)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ -fsanitize=fuzzer $(ALL_LDFLAGS) $(LIBS_daemon)
$(BIN)/bench/%: $(OBJ)/bench/%.o $(LIB_A)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS_worker) -llmdb

# --- for people and for CI --------------------------------------------------------------------
.PHONY: help deps unit fuzzers test unit-test soak property load-run reliability demo bench fuzz lint \
	format asan tsan asan-api tsan-api valgrind install clean
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

deps: ## install the Debian packages that are missing
	@sh tests/deps.sh

unit: $(UNIT_TESTS) $(PRELOADS) $(BIN)/reference-draws

# On two cores also where nobody said -j: these are whole builds of their own.
ALL_OF = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j2)

# FLAVOUR=fuzz, and clang: gcc has no libFuzzer.
FUZZ_CC ?= clang
fuzzers: $(FUZZERS)

test: deps ## everything: unit tests, layers, tests of the running daemon
	@$(MAKE) --no-print-directory all unit
	@$(MAKE) --no-print-directory FLAVOUR=faults all >/dev/null
	@+$(ALL_OF) FLAVOUR=fuzz CC="$(FUZZ_CC)" fuzzers >/dev/null
	@$(PYTHON) tests/run.py --bin $(BIN)

unit-test: unit ## the unit tests alone (FLAVOUR=asan, tsan ...)
	@$(PYTHON) tests/run.py --bin $(BIN) --only unit

reliability: ## write what `make test` counted into docs/reliability.md
	@$(PYTHON) tests/reliability.py

property: all ## random histories against never having seen the erased: RUNS=200 SEED=
	@UNLEARND_BIN=$(BIN) UNLEARND_PROPERTY_RUNS=$(or $(RUNS),200) \
		$(if $(SEED),UNLEARND_PROPERTY_SEED=$(SEED)) $(PYTEST) tests/crash/test_property.py

load-run: all ## a million records, 10,000 people erased while predicting: RECORDS=1000000
	@$(PYTHON) bench/load.py --bin $(BIN) --records $(or $(RECORDS),1000000)

soak: all ## SIGKILL at random moments under load: SECONDS=60 SEED=
	@UNLEARND_BIN=$(BIN) $(PYTHON) tests/crash/soak.py --seconds $(or $(SECONDS),60) \
		$(if $(SEED),--seed $(SEED))

demo: deps ## load, train, predict, erase, verify: DATA=FILE.csv LABEL=COLUMN for your own table
	@$(MAKE) --no-print-directory all >/dev/null
	@$(PYTHON) tests/demo.py --bin $(BIN) $(if $(DATA),--data "$(DATA)" --label "$(LABEL)")

bench: deps ## throughput and latency beside the peers: a table, and build/bench.json
	@$(MAKE) --no-print-directory all $(BENCHES)
	@$(PYTHON) bench/bench.py --bin $(BIN)

fuzz: deps ## every parser for SECONDS=20 (SEED=) under libFuzzer, ASan and UBSan, JOBS=2 at a time
	@+$(ALL_OF) FLAVOUR=fuzz CC="$(FUZZ_CC)" fuzzers >/dev/null
	@$(PYTHON) tests/fuzz/run.py --seconds $(or $(SECONDS),20) --seed $(or $(SEED),0) \
		--jobs $(or $(JOBS),2)

lint: ## clang-format, both compilers with -Werror, clang-tidy, cppcheck, refused functions
	@clang-format --dry-run -Werror $(ALL_SRC) $(HEADERS)
	@WARN="$(WARN) -Werror" sh tests/lint.sh $(ALL_SRC)

format: ## clang-format -i
	@clang-format -i $(ALL_SRC) $(HEADERS)

asan: ## unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory FLAVOUR=asan all unit-test
tsan: ## unit tests under ThreadSanitizer
	@$(MAKE) --no-print-directory FLAVOUR=tsan all unit-test

# What is built with a sanitizer, tested from outside; ONLY= picks some (pytest -k).
# TSan leaves too little address space for a map of 1T.
PYTEST := $(PYTHON) -m pytest -q -p no:cacheprovider -W error::pytest.PytestUnhandledThreadExceptionWarning
asan-api: deps ## API tests under ASan and UBSan, and training: ONLY="infer or audit" for some of the former
	@+$(ALL_OF) FLAVOUR=asan all build/asan/reference-draws >/dev/null
	@$(PYTHON) tests/run.py --bin build/asan --only api $(if $(ONLY),-- -k "$(ONLY)")
	@$(if $(ONLY),true,$(PYTHON) tests/run.py --bin build/asan --only reference)
tsan-api: deps ## API, backup and ledger tests under ThreadSanitizer: ONLY="infer or audit"
	@+$(ALL_OF) FLAVOUR=tsan all >/dev/null
	@UNLEARND_BIN=$(CURDIR)/build/tsan UNLEARND_OPTIONS="--map-bytes 4G" \
		TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp" \
		setarch -R $(PYTEST) tests/api tests/crash/test_backup.py tests/crash/test_ledger.py -k "$(ONLY)"

valgrind: deps ## the life of an erasure under memcheck
	@$(MAKE) --no-print-directory all >/dev/null
	@rm -rf build/memcheck && mkdir -p build/memcheck
	@UNLEARND_MEMCHECK=build/memcheck UNLEARND_OPTIONS="--map-bytes 1G" UNLEARND_WRAPPER="valgrind --trace-children=yes \
		--leak-check=full --errors-for-leak-kinds=definite --error-exitcode=99 \
		--log-file=build/memcheck/memcheck.%p" $(PYTEST) tests/memcheck

build/unlearnd.8: docs/unlearnd.8.in build/unlearnd
	build/unlearnd --print-man > build/options.man
	sed -e 's/@VERSION@/$(VERSION)/' -e '/@OPTIONS@/{r build/options.man' -e 'd}' $< > $@

install: all build/unlearnd.8 ## DESTDIR= PREFIX=
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/unlearnd \
		$(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)/etc/unlearnd
	install -m 0755 build/unlearnd build/unlearnctl $(DESTDIR)$(PREFIX)/bin/
	install -m 0755 build/unlearn-worker $(DESTDIR)$(PREFIX)/libexec/unlearnd/
	install -m 0644 docs/unlearnctl.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 0644 build/unlearnd.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 0644 cli/unlearnctl.bash-completion \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/unlearnctl
	sed 's,/usr/bin/unlearnd,$(PREFIX)/bin/unlearnd,' systemd/unlearnd.service \
		> $(DESTDIR)$(PREFIX)/lib/systemd/system/unlearnd.service
	install -m 0644 systemd/unlearnd.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/
	test -e $(DESTDIR)/etc/unlearnd/unlearnd.conf || \
		install -m 0644 config/unlearnd.conf $(DESTDIR)/etc/unlearnd/

clean: ## remove build/
	rm -rf build

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
