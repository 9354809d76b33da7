# ws2: build, test, demo, install. `make help` lists the targets.
#
#   make demo              installs what is missing, builds, makes a belt, trains, segments, prints the table
#   make check             installs what is missing, builds, runs all tests
#   make LIBTORCH=/path    builds against another libtorch (an unpacked official zip, or a wheel's torch/ folder)
#   make SAN=1 ...         builds with the address and undefined-behaviour sanitizers
#
# Programs are found by wildcard: tools/ws2-x.c becomes build/bin/ws2-x.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

PREFIX ?= /usr/local
DESTDIR ?=
LIBTORCH ?=
SAN ?=
CC := gcc
CXX := g++

B := build$(if $(LIBTORCH),-$(shell printf %s '$(LIBTORCH)' | cksum | cut -d' ' -f1))$(if $(SAN),-san)
BIN := $(B)/bin

# Programs that run a network; all others neither link libtorch nor pay for loading it.
NN_TOOLS := ws2-train ws2-cam ws2-raft ws2-sam ws2-affinity ws2-seg-train ws2-seg

TOOLS := $(patsubst tools/%.c,%,$(wildcard tools/ws2-*.c))
CORE := $(wildcard $(patsubst %,lib/%/*.c,base pool stream image motion mask score synth cli))
NN := $(wildcard lib/nn/*.c lib/nn/*.cpp lib/train/*.c lib/cam/*.c models/*.c)
UNIT := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c tests/unit/nn_*.c))
HELPERS := $(patsubst tests/cli/%.c,%,$(wildcard tests/cli/*.c))
BENCH := $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/bench_*.c tests/bench/nn_bench_*.c))

# ---- flags ------------------------------------------------------------------------------------------------

# A comma that can stand inside a function call.
, := ,

WARN := -Wall -Wextra -Werror
OPT := $(if $(SAN),-O1 -g -fno-omit-frame-pointer -fsanitize=address$(,)undefined -fno-sanitize-recover=undefined,-O3 -g)
CPPFLAGS := -Ilib -I. -D_GNU_SOURCE -MMD -MP
# No fused multiply-add unless asked for: results must not depend on the processor that ran a program.
CFLAGS := -std=gnu11 $(WARN) $(OPT) -pthread -fno-math-errno -ffp-contract=off
LDFLAGS := -pthread -Wl,--as-needed $(if $(SAN),-fsanitize=address$(,)undefined)
LDLIBS := -lavformat -lavcodec -lswscale -lavutil -lpng -ljpeg -ljansson -lzstd -lxxhash -ldl -lm

ifeq ($(LIBTORCH),)
TORCH_INC := -isystem /usr/include/torch/csrc/api/include
TORCH_STD := -std=gnu++17
TORCH_LIBDIR :=
else
TORCH_INC := -isystem $(LIBTORCH)/include -isystem $(LIBTORCH)/include/torch/csrc/api/include
TORCH_STD := -std=gnu++20
TORCH_LIBDIR := $(LIBTORCH)/lib
# The wheels of old were built with the old C++ string; ask the library itself. (Not grep -q: it leaves before
# nm has written all, and with pipefail that counts as a failure.)
TORCH_ABI := -D_GLIBCXX_USE_CXX11_ABI=$(shell nm -DC $(LIBTORCH)/lib/libc10.so 2>/dev/null | grep 'std::__cxx11::basic_string' >/dev/null && echo 1 || echo 0)
endif
CXXFLAGS = $(TORCH_STD) -Wall -Wextra -Wno-unused-parameter $(OPT) -pthread $(TORCH_ABI)
TORCH_LIBS = $(if $(TORCH_LIBDIR),-L$(TORCH_LIBDIR) -Wl$(,)-rpath$(,)$(TORCH_LIBDIR)) \
             $(if $(wildcard $(TORCH_LIBDIR)/libtorch_cuda.so),-Wl$(,)--no-as-needed -ltorch_cuda -lc10_cuda) \
             -Wl,--no-as-needed -ltorch -ltorch_cpu -lc10 -Wl,--as-needed -lstdc++

# ---- build ------------------------------------------------------------------------------------------------

.PHONY: all tools deps demo check check-asan check-valgrind lint install uninstall clean help graph unit

all: deps
	@$(MAKE) --no-print-directory -j$$(nproc) tools

tools: $(TOOLS:%=$(BIN)/%)
unit: $(UNIT:%=$(B)/unit/%) $(HELPERS:%=$(B)/helper/%)

$(B)/libws2.a: $(CORE:%.c=$(B)/%.o)
	@rm -f $@; ar rcs $@ $^

$(B)/libws2nn.a: $(patsubst %,$(B)/%.o,$(basename $(NN)))
	@rm -f $@; ar rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/lib/nn/%.o: lib/nn/%.cpp
	@mkdir -p $(@D)
	$(CXX) $(CPPFLAGS) $(TORCH_INC) $(CXXFLAGS) -c -o $@ $<

define link_core
@mkdir -p $(@D)
$(CC) $(LDFLAGS) -o $@ $< $(B)/libws2.a $(LDLIBS) $1
endef
define link_nn
@mkdir -p $(@D)
$(CC) $(LDFLAGS) -o $@ $< $(B)/libws2nn.a $(B)/libws2.a $(TORCH_LIBS) $(LDLIBS) $1
endef

$(patsubst %,$(BIN)/%,$(filter-out $(NN_TOOLS),$(TOOLS))): $(BIN)/%: $(B)/tools/%.o $(B)/libws2.a
	$(call link_core)
$(patsubst %,$(BIN)/%,$(filter $(NN_TOOLS),$(TOOLS))): $(BIN)/%: $(B)/tools/%.o $(B)/libws2nn.a $(B)/libws2.a
	$(call link_nn)
$(B)/unit/test_%: $(B)/tests/unit/test_%.o $(B)/libws2.a
	$(call link_core,-lcmocka)
$(B)/helper/%: $(B)/tests/cli/%.o $(B)/libws2.a
	$(call link_core)
$(B)/unit/nn_%: $(B)/tests/unit/nn_%.o $(B)/libws2nn.a $(B)/libws2.a
	$(call link_nn,-lcmocka)
$(B)/bench/bench_%: $(B)/tests/bench/bench_%.o $(B)/libws2.a
	$(call link_core)
$(B)/bench/nn_bench_%: $(B)/tests/bench/nn_bench_%.o $(B)/libws2nn.a $(B)/libws2.a
	$(call link_nn)

.PRECIOUS: $(B)/%.o
-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- dependencies -----------------------------------------------------------------------------------------

# Debian package | a file that proves it is there. Installed only when something is missing.
DEPS := gcc|/usr/bin/gcc g++|/usr/bin/g++ libzstd-dev|/usr/include/zstd.h libxxhash-dev|/usr/include/xxhash.h \
	libjansson-dev|/usr/include/jansson.h libpng-dev|/usr/include/png.h libjpeg-dev|/usr/include/jpeglib.h \
	libavformat-dev|/usr/include/$(shell uname -m)-linux-gnu/libavformat/avformat.h \
	libavcodec-dev|/usr/include/$(shell uname -m)-linux-gnu/libavcodec/avcodec.h \
	libswscale-dev|/usr/include/$(shell uname -m)-linux-gnu/libswscale/swscale.h \
	libcmocka-dev|/usr/include/cmocka.h mandoc|/usr/bin/mandoc parallel|/usr/bin/parallel zstd|/usr/bin/zstd \
	ffmpeg|/usr/bin/ffmpeg curl|/usr/bin/curl \
	$(if $(LIBTORCH),,libtorch-dev|/usr/include/torch/script.h) \
	libopenblas0-pthread|/usr/lib/$(shell uname -m)-linux-gnu/openblas-pthread/libopenblas.so.0

deps:
	@missing=(); for d in $(foreach d,$(DEPS),'$(d)'); do [ -e "$${d#*|}" ] || missing+=("$${d%%|*}"); done; \
	if [ $${#missing[@]} -gt 0 ]; then \
	  command -v apt-get >/dev/null || { echo "please install: $${missing[*]}" >&2; exit 1; }; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  echo "installing: $${missing[*]}"; \
	  $$sudo apt-get update -qq && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; fi

# ---- tests ------------------------------------------------------------------------------------------------

check: deps
	@$(MAKE) --no-print-directory -j$$(nproc) tools unit
	@B=$(B) tests/run all

# The same under the address and undefined-behaviour sanitizers.
check-asan: deps
	@$(MAKE) --no-print-directory SAN=1 -j$$(nproc) tools unit
	@B=$(patsubst %-san,%,$(B))-san tests/run all

check-valgrind: deps
	@$(MAKE) --no-print-directory -j$$(nproc) tools unit
	@B=$(B) tests/run valgrind

lint:
	clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h' '*.cpp')
	mandoc -Tlint -W warning $$(git ls-files 'man/*.[157]')

# ---- install ------------------------------------------------------------------------------------------------

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 \
	  $(DESTDIR)$(PREFIX)/share/man/man7 $(DESTDIR)$(PREFIX)/share/ws2
	install $(TOOLS:%=$(BIN)/%) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(wildcard man/man1/*.1) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(wildcard man/man5/*.5) $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 644 $(wildcard man/man7/*.7) $(DESTDIR)$(PREFIX)/share/man/man7
	install -m 644 $(wildcard pipelines/*.mk pipelines/*.awk) models/weights.tsv $(DESTDIR)$(PREFIX)/share/ws2

uninstall:
	rm -f $(TOOLS:%=$(DESTDIR)$(PREFIX)/bin/%) $(patsubst man/%,$(DESTDIR)$(PREFIX)/share/man/%,$(wildcard man/*/*))
	rm -rf $(DESTDIR)$(PREFIX)/share/ws2

clean:
	rm -rf build build-* demo-out

help:
	@sed -n '2,9s/^# \{0,1\}//p' Makefile
	@echo '  make install [PREFIX=/usr/local] [DESTDIR=]   make bench   make fuzz   make lint   make check-asan   make clean'
	@echo '  make weights [NAME=resnet50_v2]   pretrained weights: lists them, or fetches and verifies one'

-include tests/fuzz/fuzz.mk
-include tests/bench/bench.mk
-include models/weights.mk
-include pipelines/demo.mk
