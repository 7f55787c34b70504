# quant.h: `make demo` shows it, `make test` checks it, `make help` lists the rest.
CC ?= cc
# -g1 is what the lines of a backtrace need; with -g, gcc takes twice as long for quant.h.
CFLAGS ?= -O2 -g1
WARN = -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla
ALL_CFLAGS = -std=c99 -D_POSIX_C_SOURCE=200809L -D_FILE_OFFSET_BITS=64 $(WARN) $(CFLAGS)
B = build
SECONDS_EACH ?= 60
CHUNKS ?= 4
SANITIZE = -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all

SUITES = $(wildcard tests/test_*.c)
PROGRAMS = $(patsubst examples/%.c,$(B)/%,$(wildcard examples/*.c))
FUZZ = gguf rows imatrix

all: $(PROGRAMS) $(B)/test $(FUZZ:%=$(B)/fuzz_%)

help:
	@echo 'make demo      quantize the tiny model to seven types: size, perplexity, speed, text'
	@echo 'make test      all tests, under 90 s'
	@echo 'make bench     speed figures'
	@echo 'make matrix    compilers, standards, options, cross builds, flash sizes'
	@echo 'make sanitize  the tests under address, undefined, memory and thread sanitizers'
	@echo 'make fuzz      fuzz targets, SECONDS_EACH=60'
	@echo 'make cuda      quant_cuda.cu, its tests and benchmark, where nvcc is installed; without'
	@echo '               a GPU the kernels are run by an emulation, also in search of races'
	@echo 'make map       check the map at the top of quant.h'

$(B):
	@mkdir -p $(B)

$(B)/quant.o: quant.c quant.h | $(B)
	$(CC) $(ALL_CFLAGS) -c quant.c -o $@

$(B)/%.test.o: tests/%.c $(wildcard tests/*.h examples/*.h) quant.h | $(B)
	$(CC) $(ALL_CFLAGS) -c $< -o $@

$(B)/test: $(patsubst tests/%.c,$(B)/%.test.o,$(SUITES)) $(B)/quant.o
	$(CC) $(ALL_CFLAGS) $^ -lm -lpthread -o $@

$(B)/bench: tests/bench.c quant.h | $(B)
	$(CC) $(ALL_CFLAGS) tests/bench.c -lm -lpthread -o $@

# Without arguments these replay inputs of their own: part of `make test`.
$(B)/fuzz_%: tests/fuzz_%.c quant.h $(B)/quant.o | $(B)
	$(CC) $(ALL_CFLAGS) -DFUZZ_REPLAY $< $(B)/quant.o -lm -o $@

$(B)/%: examples/%.c $(wildcard examples/*.h) quant.h $(B)/quant.o | $(B)
	$(CC) $(ALL_CFLAGS) $< $(B)/quant.o -lm -lpthread -o $@

test: all map
	@$(B)/test

demo: all
	@$(B)/demo examples/models/tiny-f16.gguf examples/models/letter.txt \
	    examples/models/story.txt $(B)/models $(B)/demo.svg $(CHUNKS)

bench: all $(B)/bench
	@$(B)/bench

matrix:
	@tests/matrix.sh

# The map in >>start must list exactly the tags of the file, in their order.
map: | $(B)
	@awk '/^ \*   >>/ { s = $$0; while (match(s, />>[a-z-]+/)) { print substr(s, RSTART, RLENGTH); \
	    s = substr(s, RSTART + RLENGTH) } }' quant.h > $(B)/map.want
	@sed -n 's/^\/\* \(>>[a-z-]*\).*/\1/p' quant.h > $(B)/map.have
	@diff $(B)/map.want $(B)/map.have && echo "map: `wc -l < $(B)/map.have` sections"

# sm_80, sm_90a and PTX for what comes after.  Tests and benchmark take the kernels from the object
# file, where they are compiled once; the example links the library as a user would.  cuda_emulated
# runs the kernels on the host, cuda_races again under the thread sanitizer, which takes longest and
# so comes first: tests/cuda_emulate.h.
NVCC ?= nvcc
NVCCFLAGS ?= -O3 -std=c++17 -Xcompiler -Wall,-Wextra
ARCHS = -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
    -gencode arch=compute_80,code=compute_80
CUDA_INCLUDE ?= $(dir $(realpath $(shell command -v $(NVCC))))../include
EMULATE = -std=c++17 -g -Wall -Wextra -Wno-unknown-pragmas -Wno-psabi -fno-strict-aliasing \
    -isystem $(CUDA_INCLUDE) -DQUANT_CUDA_EMULATE='"tests/cuda_emulate.h"' -I. -x c++
cuda: | $(B)
	@if command -v $(NVCC) >/dev/null 2>&1; then \
	    $(MAKE) --no-print-directory $(B)/quant_cuda.o $(B)/cuda_test $(B)/cuda_bench \
	        $(B)/cuda_matmul cuda-races cuda-emulated && $(B)/cuda_test; \
	else echo 'SKIPPED: no $(NVCC), quant_cuda.cu was neither compiled nor emulated'; fi

cuda-emulated: $(B)/cuda_emulated
	$(B)/cuda_emulated small
cuda-races: $(B)/cuda_races
	$(B)/cuda_races races

$(B)/cuda_emulated: tests/cuda_test.cu tests/cuda_emulate.h quant_cuda.cu quant.h $(B)/quant.o
	$(CXX) -O2 $(EMULATE) tests/cuda_test.cu -x none $(B)/quant.o -lm -lpthread -o $@

$(B)/cuda_races: tests/cuda_test.cu tests/cuda_emulate.h quant_cuda.cu quant.h $(B)/quant.o
	$(CXX) -O1 -fsanitize=thread $(EMULATE) tests/cuda_test.cu -x none $(B)/quant.o -lm -lpthread \
	    -o $@

$(B)/quant_cuda.o: quant_cuda.cu quant.h | $(B)
	$(NVCC) $(NVCCFLAGS) $(ARCHS) -c $< -o $@

$(B)/cuda_bench: CUDA_LIBS = -lcublas
$(B)/cuda_%: tests/cuda_%.cu quant_cuda.cu quant.h $(B)/quant_cuda.o $(B)/quant.o
	$(NVCC) $(NVCCFLAGS) $(ARCHS) $< $(B)/quant_cuda.o $(B)/quant.o $(CUDA_LIBS) -o $@

$(B)/cuda_matmul: examples/cuda_matmul.cu $(B)/quant_cuda.o $(B)/quant.o
	$(NVCC) $(NVCCFLAGS) $(ARCHS) $^ -o $@

# The same tests in builds of their own, side by side with -j.  clang 14's memory sanitizer does not
# know fstat, hence no mmap and no programs there.  Thread sanitizer: the programs with threads.
# The longest come first.  -g1: for -g gcc takes twice as long.
SANITIZERS = sanitize-gcc sanitize-clang sanitize-memory sanitize-threads
sanitize: $(SANITIZERS)
tree = rm -rf $(B)/$@ && mkdir -p $(B)/$@ && \
    ln -s $(addprefix ../../,Makefile quant.h quant.c examples tests) $(B)/$@
sanitize-gcc:
	@$(tree)
	$(MAKE) -C $(B)/$@ CC=gcc CFLAGS='-O2 -g1 $(SANITIZE)' test
	@rm -rf $(B)/$@
sanitize-clang:
	@$(tree)
	$(MAKE) -C $(B)/$@ CC=clang CFLAGS='-O1 -g1 $(SANITIZE)' test
	@rm -rf $(B)/$@
sanitize-memory:
	@$(tree)
	$(MAKE) -C $(B)/$@ CC=clang build/test $(FUZZ:%=build/fuzz_%) \
	    CFLAGS='-O2 -g1 -fsanitize=memory -fno-sanitize-recover=all -DQUANT_NO_MMAP'
	cd $(B)/$@ && build/test -cli
	@rm -rf $(B)/$@
sanitize-threads:
	@$(tree)
	$(MAKE) -C $(B)/$@ CC=clang CFLAGS='-O1 -g1 -fsanitize=thread' all
	cd $(B)/$@ && build/test threads
	@rm -rf $(B)/$@

fuzz: $(FUZZ:%=fuzz-%)
FUZZER = clang -g1 -O1 -DQUANT_NO_SIMD -fsanitize=fuzzer,address,undefined,float-cast-overflow \
    -fno-sanitize-recover=all
$(B)/libfuzzer.o: quant.c quant.h | $(B)
	@$(FUZZER) -c quant.c -o $@
$(FUZZ:%=fuzz-%): fuzz-%: $(B)/libfuzzer.o
	@$(FUZZER) tests/fuzz_$*.c $(B)/libfuzzer.o -lm -o $(B)/libfuzzer_$*
	@mkdir -p $(B)/corpus_$*
	@$(B)/libfuzzer_$* -max_total_time=$(SECONDS_EACH) -max_len=8192 -print_final_stats=0 \
	    -artifact_prefix=$(B)/ $(B)/corpus_$* > $(B)/fuzz_$*.log 2>&1 \
	    || { tail -40 $(B)/fuzz_$*.log; echo "fuzz_$*: FAILED"; exit 1; }
	@echo "fuzz_$*: `grep -c . $(B)/fuzz_$*.log` lines, `tail -1 $(B)/fuzz_$*.log`"

clean:
	rm -rf $(B)

.PHONY: all help test demo bench cuda cuda-emulated cuda-races matrix map sanitize fuzz clean \
    $(SANITIZERS) $(FUZZ:%=fuzz-%)
