# quant.h: `make demo` shows it, `make test` checks it, `make help` lists the rest.
CC ?= cc
CFLAGS ?= -O2 -g
WARN = -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla
ALL_CFLAGS = -std=c99 -D_POSIX_C_SOURCE=200809L -D_FILE_OFFSET_BITS=64 $(WARN) $(CFLAGS)
B = build

SUITES = $(wildcard tests/test_*.c)
PROGRAMS = $(patsubst examples/%.c,$(B)/%,$(wildcard examples/*.c))

all: $(PROGRAMS) $(B)/test

help:
	@echo 'make demo    quantize the tiny model, print sizes and errors'
	@echo 'make test    all tests, under 90 s'
	@echo 'make bench   speed figures'
	@echo 'make matrix  compilers, standards, options, cross builds'
	@echo 'make fuzz    fuzz targets, SECONDS_EACH=60'
	@echo 'make map     check the map at the top of quant.h'

$(B):
	@mkdir -p $(B)

$(B)/quant.o: quant.c quant.h | $(B)
	$(CC) $(ALL_CFLAGS) -c quant.c -o $@

$(B)/%.test.o: tests/%.c tests/test.h quant.h | $(B)
	$(CC) $(ALL_CFLAGS) -c $< -o $@

$(B)/test: $(patsubst tests/%.c,$(B)/%.test.o,$(SUITES)) $(B)/quant.o
	$(CC) $(ALL_CFLAGS) $^ -lm -lpthread -o $@

$(B)/%: examples/%.c quant.h examples/common.h $(B)/quant.o | $(B)
	$(CC) $(ALL_CFLAGS) $< $(B)/quant.o -lm -lpthread -o $@

test: all map
	@$(B)/test

# The map in >>start must list exactly the tags of the file, in their order.
map: | $(B)
	@awk '/^ \*   >>/ { s = $$0; while (match(s, />>[a-z-]+/)) { print substr(s, RSTART, RLENGTH); \
	    s = substr(s, RSTART + RLENGTH) } }' quant.h > $(B)/map.want
	@sed -n 's/^\/\* \(>>[a-z-]*\).*/\1/p' quant.h > $(B)/map.have
	@diff $(B)/map.want $(B)/map.have && echo "map: `wc -l < $(B)/map.have` sections"

clean:
	rm -rf $(B)

.PHONY: all help test map clean demo bench matrix fuzz
