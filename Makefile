# SPDX-License-Identifier: MIT
# leaksnoop. 'make help' lists the targets; V=1 shows the commands; SAN=address,undefined builds with sanitizers.

PREFIX ?= /usr/local
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
BPFTOOL ?= $(shell PATH=$$PATH:/usr/sbin:/sbin command -v bpftool || echo bpftool)
V ?= 0
SAN ?=
CI ?=

B := build$(if $(SAN),-san)
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)';)

WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wformat=2 -Wwrite-strings -Wundef \
	-Wno-missing-field-initializers
ifneq ($(CI),)
WARN += -Werror
endif
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
CPPFLAGS_ALL := -D_GNU_SOURCE -Iuser -I. -I$(B) $(CPPFLAGS)
CFLAGS_ALL := -std=gnu11 -O2 -g $(WARN) $(SANFLAGS) $(CFLAGS)
LDLIBS := -lbpf -lelf -lZydis -ljansson -lz -lsqlite3 -lmicrohttpd -lcap-ng -lsystemd -lm -lpthread

BPF_SOURCES := $(wildcard bpf/*.c bpf/*.h vmlinux/*.h)
# Where the kernel's <asm/types.h> is: Debian's multiarch folder, which "-target bpf" does not look into.
ASM_INCLUDE := $(patsubst %/asm/types.h,%,$(firstword $(wildcard /usr/include/$(shell uname -m)-linux-gnu/asm/types.h \
	/usr/include/asm/types.h)))
BPF_CFLAGS := -g -O2 -mcpu=v3 -target bpf -D__TARGET_ARCH_x86 -Wall -Wextra -Wno-unused-parameter \
	$(addprefix -I,$(ASM_INCLUDE)) $(if $(CI),-Werror)

SKELETONS := $(patsubst bpf/%.bpf.c,$(B)/%.skel.h,$(wildcard bpf/*.bpf.c))
LIB_SOURCES := $(filter-out user/main.c,$(wildcard user/*.c user/*/*.c))
LIB_OBJECTS := $(LIB_SOURCES:user/%.c=$(B)/user/%.o)
UNIT_SOURCES := $(wildcard tests/unit/test_*.c tests/bpf/test_*.c)
UNIT_HELPERS := $(patsubst tests/unit/%.c,$(B)/unit/%.o,$(filter-out $(UNIT_SOURCES),$(wildcard tests/unit/*.c)))
UNIT_TESTS := $(addprefix $(B)/unit/,$(notdir $(UNIT_SOURCES:.c=)))
vpath %.c tests/unit tests/bpf
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
FUZZERS := $(FUZZ_SOURCES:tests/fuzz/%.c=build/fuzz/%)

.PHONY: all deps demo test test-all unit bench fmt lint fuzz install uninstall clean help
.DELETE_ON_ERROR:
.SECONDARY:

# What is missing is installed first, by itself: the build is a make of its own, which finds what came with it.
all: deps-build ## build build/leaksnoop (installs what is missing to build)
	$(Q)$(MAKE) --no-print-directory build

.PHONY: deps-build deps-test build
deps-build:
	$(Q)scripts/deps.sh build
deps: ## install what is missing to build and to test
	$(Q)scripts/deps.sh test
deps-test: deps

build: $(B)/leaksnoop

# The BPF side: objects, one a purpose (what traces allocations, what finds processes), and their skeletons.
$(B)/%.bpf.o: bpf/%.bpf.c $(BPF_SOURCES)
	@mkdir -p $(@D)
	$(call say,BPF,$@)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(B)/%.skel.h: $(B)/%.bpf.o
	$(call say,SKEL,$@)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

# The user side.
$(B)/user/%.o: user/%.c $(SKELETONS)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(B)/libleaksnoop.a: $(LIB_OBJECTS)
	$(call say,AR,$@)rm -f $@; $(AR) rcs $@ $^

$(B)/leaksnoop: $(B)/user/main.o $(B)/libleaksnoop.a
	$(call say,LD,$@)$(CC) $(SANFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

# Unit tests: one program a file.
$(B)/unit/%.o: %.c $(SKELETONS)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS_ALL) -Itests/unit $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(B)/unit/test_%: $(B)/unit/test_%.o $(UNIT_HELPERS) $(B)/libleaksnoop.a
	$(call say,LD,$@)$(CC) $(SANFLAGS) $(LDFLAGS) $^ -lcmocka $(LDLIBS) -o $@

unit: $(UNIT_TESTS)

demo: all ## start a leaking service, attach to it and print the finding
	$(Q)scripts/demo.sh

test: deps-test ## install, build and run all tests that .ci/run runs
	$(Q)$(MAKE) --no-print-directory build unit
	$(Q)scripts/test.sh

test-all: deps-test ## the same with all repetitions (100 faults of each kind, every interpreter for every test)
	$(Q)$(MAKE) --no-print-directory build unit
	$(Q)LEAKSNOOP_FULL=1 scripts/test.sh

bench: deps-test ## measure costs as ratios in one run
	$(Q)$(MAKE) --no-print-directory build
	$(Q)tests/bench/run.sh

# Fuzzing with libFuzzer: FUZZ_SECONDS each.
FUZZ_SECONDS ?= 60
build/fuzz/%: tests/fuzz/%.c $(LIB_SOURCES) $(SKELETONS)
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)$(CLANG) $(CPPFLAGS_ALL) -std=gnu11 -O1 -g -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined $< $(LIB_SOURCES) $(LDLIBS) -o $@

fuzz: deps-test ## run every fuzz target for FUZZ_SECONDS (default 60)
	$(Q)$(MAKE) --no-print-directory $(FUZZERS)
	$(Q)for f in $(FUZZERS); do mkdir -p $$f.corpus; echo "fuzz $$f"; \
		$$f -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$$f- -verbosity=0 -rss_limit_mb=2048 $$f.corpus || exit 1; done

lint: ## include rules, formatting of scripts, duplicate names
	$(Q)scripts/check-includes.py

fmt: ## format the C sources (.clang-format)
	$(Q)clang-format -i $(filter-out %vmlinux.h %layout_table.h,$(wildcard bpf/*.[ch] user/*.[ch] user/*/*.[ch] tests/unit/*.[ch] tests/fuzz/*.c))

install: all ## install to PREFIX (default /usr/local)
	install -D -m 755 $(B)/leaksnoop $(DESTDIR)$(PREFIX)/sbin/leaksnoop
	@mkdir -p $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's#@SBINDIR@#$(PREFIX)/sbin#' packaging/leaksnoop.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/leaksnoop.service

uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/sbin/leaksnoop $(DESTDIR)$(PREFIX)/lib/systemd/system/leaksnoop.service

clean: ## remove what was built
	rm -rf build build-san

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

-include $(LIB_OBJECTS:.o=.d) $(B)/user/main.d $(UNIT_TESTS:=.d)
