# Quire from source. Needs Rust, and a C and a C++ compiler.
#
#   make demo                          maps a real file (FILE=, or 64 MiB made here) and reads it through faults
#   make test                          every test, and every check of the sources
#   make tsan                          of these, storms of threads under ThreadSanitizer
#   make bench                         the benchmarks, short
#   make headers                       include/*.h anew from the sources
#   make install [PREFIX=] [DESTDIR=]  libraries, headers, plugins, the quire command
#   make clean

CARGO ?= cargo
CC ?= cc
CFLAGS ?= -O2 -Wall -Wextra
PREFIX ?= /usr/local
DESTDIR ?=
PROFILE ?= release

# Where cargo builds. Loom, and an installation, are built otherwise, and so elsewhere.
BUILD := $(or $(CARGO_TARGET_DIR),target)
OUT := $(BUILD)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
MAJOR := $(firstword $(subst ., ,$(VERSION)))
PLUGINS := quire-pager-vnode quire-pager-anon quire-pager-device
Q := $(if $(V),,@)

.PHONY: all build demo test tsan bench headers install clean

all: build

build:
	@echo "building libquire, plugins and the quire command ($(PROFILE))"
	$(Q)$(CARGO) build --quiet --profile $(PROFILE) -p quire-ffi -p quire-tools $(PLUGINS:%=-p %)

# The demo.

FILE ?= $(BUILD)/demo/64MiB
DEMO := $(BUILD)/demo/demo

demo: build $(DEMO) $(FILE)
	$(Q)QUIRE_PAGER_PATH=$(OUT) $(DEMO) $(OUT)/libquire.so $(FILE)

$(DEMO): examples/demo/demo.c include/quire.h include/quire_pager.h
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c99 $(CFLAGS) -Iinclude $< -o $@ -ldl

$(BUILD)/demo/64MiB:
	@echo "making 64 MiB to read"
	@mkdir -p $(@D)
	@head -c 67108864 /dev/urandom >$@.part && mv $@.part $@

# The tests. What is built is built for all packages at once (as tests/src/built.rs does, too): for one package cargo chooses other
# features of what it shares with others, and builds that once more.

test:
	@echo "== formatting"
	$(Q)$(CARGO) fmt --all --check
	@echo "== lints"
	$(Q)$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	@echo "== headers are what the sources say"
	$(Q)$(CARGO) build --quiet --workspace
	$(Q)$(BUILD)/debug/quire-headers --check
	@echo "== tests"
	$(Q)$(CARGO) test --workspace --no-fail-fast -- --quiet
	@echo "== loom: the busy word, the locks and the waiting, in every order of threads"
	$(Q)RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(BUILD)/loom $(CARGO) test --quiet --release -p quire-core --lib
	@$(MAKE) --no-print-directory tsan
	@echo "== all tests passed"

# The sanitizer is in the stable toolchain, which has to be told that it may be used.
tsan:
	@echo "== threads that fork, copy, write and page, under ThreadSanitizer"
	$(Q)RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" CARGO_TARGET_DIR=$(BUILD)/tsan \
		TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp" \
		$(CARGO) test --quiet --target $(shell rustc -vV | sed -n 's/^host: //p') -p quire-tests --test private_storm -- \
		--skip in_real_memory

# The benchmarks. BENCH= chooses some by name.

BENCH ?=

bench:
	$(Q)$(CARGO) bench --quiet --workspace --bench '*' -- --warm-up-time 0.5 --measurement-time 1 --sample-size 20 $(BENCH)

headers:
	$(Q)$(CARGO) run --quiet -p quire-headers

# The installation. It is built on its own: the libraries remember where its plugins are.

INSTALL_BUILD := $(BUILD)/install
INSTALL_OUT := $(INSTALL_BUILD)/$(notdir $(OUT))
LIB := $(DESTDIR)$(PREFIX)/lib
PLUGIN_FILES := $(subst -,_,$(PLUGINS:%=lib%.so))

install:
	@echo "building for $(PREFIX) ($(PROFILE))"
	$(Q)QUIRE_PAGER_DIR=$(PREFIX)/lib/quire/pagers CARGO_TARGET_DIR=$(INSTALL_BUILD) \
		$(CARGO) build --quiet --profile $(PROFILE) -p quire-ffi -p quire-tools $(PLUGINS:%=-p %)
	@echo "installing under $(DESTDIR)$(PREFIX)"
	@install -d $(LIB)/quire/pagers $(LIB)/pkgconfig $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/bin
	@install -m 755 $(INSTALL_OUT)/libquire.so $(LIB)/libquire.so.$(VERSION)
	@ln -sf libquire.so.$(VERSION) $(LIB)/libquire.so.$(MAJOR)
	@ln -sf libquire.so.$(MAJOR) $(LIB)/libquire.so
	@install -m 644 $(INSTALL_OUT)/libquire.a $(LIB)
	@install -m 755 $(PLUGIN_FILES:%=$(INSTALL_OUT)/%) $(LIB)/quire/pagers
	@install -m 644 include/quire.h include/quire_pager.h $(DESTDIR)$(PREFIX)/include
	@install -m 755 $(INSTALL_OUT)/quire $(DESTDIR)$(PREFIX)/bin
	@sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' quire.pc.in >$(LIB)/pkgconfig/quire.pc
	@chmod 644 $(LIB)/pkgconfig/quire.pc

clean:
	$(Q)$(CARGO) clean --quiet
