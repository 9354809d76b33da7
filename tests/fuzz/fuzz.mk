# make fuzz [FUZZ_SECONDS=60]: feeds the reader with what libFuzzer invents (clang and its runtime library are
# needed). Without clang, build/fuzz/replay runs files, such as crashes found elsewhere.

FUZZ_SECONDS ?= 60
FUZZ := build/fuzz
FUZZ_CORE := $(wildcard lib/stream/*.c lib/base/*.c lib/pool/*.c)
FUZZ_FLAGS := -std=gnu11 -g -O1 -Ilib -I. -D_GNU_SOURCE -pthread -fno-omit-frame-pointer
FUZZ_LIBS := -ljansson -lzstd -lxxhash -lm

$(FUZZ)/reader: tests/fuzz/fuzz_reader.c $(FUZZ_CORE) $(wildcard lib/*/*.h)
	@command -v clang >/dev/null || { echo "please install: clang libclang-rt-dev" >&2; exit 1; }
	@mkdir -p $(@D)
	clang -DWS2_LIBFUZZER $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	  -o $@ $< $(FUZZ_CORE) $(FUZZ_LIBS)

$(FUZZ)/replay: tests/fuzz/fuzz_reader.c $(FUZZ_CORE) $(wildcard lib/*/*.h)
	@mkdir -p $(@D)
	$(CC) $(FUZZ_FLAGS) -fsanitize=address,undefined -fno-sanitize-recover=undefined -o $@ $< $(FUZZ_CORE) $(FUZZ_LIBS)

.PHONY: fuzz
fuzz: deps $(FUZZ)/reader $(FUZZ)/replay
	@mkdir -p $(FUZZ)/corpus
	@$(FUZZ)/replay -s $(FUZZ)/corpus
	$(FUZZ)/reader -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
	  -artifact_prefix=$(FUZZ)/ -print_final_stats=1 $(FUZZ)/corpus
