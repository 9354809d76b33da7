# make fuzz [FUZZ_SECONDS=60]: feeds the readers of streams, weight files and flow files with what libFuzzer invents,
# so long each (clang and its runtime library are needed). Without clang, build/fuzz/replay-* run files, such as crashes
# found elsewhere.

FUZZ_SECONDS ?= 60
FUZZ := build/fuzz
FUZZ_TARGETS := stream weights flow
FUZZ_stream := $(wildcard lib/stream/*.c lib/base/*.c lib/pool/*.c)
FUZZ_weights := $(wildcard lib/base/*.c) $(addprefix lib/nn/,weights.c safetensors.c pytorch.c pickle.c zip.c digest.c basics.c)
FUZZ_flow := $(wildcard lib/image/*.c lib/base/*.c lib/pool/*.c)
FUZZ_FLAGS := -std=gnu11 -g -O1 -Ilib -I. -D_GNU_SOURCE -pthread -fno-omit-frame-pointer
FUZZ_LIBS := -lavformat -lavcodec -lswscale -lavutil -lpng -lz -ljpeg -ljansson -lzstd -lxxhash -lm
FUZZ_SEEDS_weights := $(wildcard tests/golden/weights/*)

.SECONDEXPANSION:
$(FUZZ)/fuzz-%: tests/fuzz/fuzz_%.c $$(FUZZ_$$*) $(wildcard lib/*/*.h) tests/fuzz/must.h
	@command -v clang >/dev/null || { echo "please install: clang libclang-rt-dev" >&2; exit 1; }
	@mkdir -p $(@D)
	clang -DWS2_LIBFUZZER $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	  -o $@ $< $(FUZZ_$*) $(FUZZ_LIBS)

$(FUZZ)/replay-%: tests/fuzz/fuzz_%.c $$(FUZZ_$$*) $(wildcard lib/*/*.h) tests/fuzz/must.h
	@mkdir -p $(@D)
	$(CC) $(FUZZ_FLAGS) -fsanitize=address,undefined -fno-sanitize-recover=undefined -o $@ $< $(FUZZ_$*) $(FUZZ_LIBS)

.PHONY: fuzz $(FUZZ_TARGETS:%=fuzz-%)
fuzz: $(FUZZ_TARGETS:%=fuzz-%)
$(FUZZ_TARGETS:%=fuzz-%): fuzz-%: deps $(FUZZ)/fuzz-% $(FUZZ)/replay-%
	@mkdir -p $(FUZZ)/corpus-$*
	@$(FUZZ)/replay-$* -s $(FUZZ)/corpus-$* $(FUZZ_SEEDS_$*)
	$(FUZZ)/fuzz-$* -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 -rss_limit_mb=2048 \
	  -artifact_prefix=$(FUZZ)/$*- -print_final_stats=1 $(FUZZ)/corpus-$*
