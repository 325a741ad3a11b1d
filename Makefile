# cnnc.  On a bare Debian 12 two commands suffice; each installs what is missing:
#
#   make demo     trains LeNet-5 on Fashion-MNIST and runs it as a standalone C program
#   make test     runs all tests
#
#   make          builds build/cnnc                make install PREFIX=/usr/local DESTDIR=
#   make train    the demo with three epochs       make bench    speed, beside others
#   make deps     only installs packages           make deb      a Debian package
#   make bench-embedded    flash, memory and instructions on a Cortex-M4
#   make clean

ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
CFLAGS ?= -O2 -g

DEPS := gcc libc6-dev make pkg-config liblua5.4-dev libtcc-dev zlib1g-dev libpng-dev libjpeg62-turbo-dev \
    libjansson-dev dataset-fashion-mnist
TEST_DEPS := check valgrind clang libclang-rt-14-dev cppcheck g++ mandoc groff bsdextrautils \
    gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
# Other processors' compilers and emulators: tests of those that cannot be installed are skipped.
CROSS_DEPS := qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross \
    gcc-riscv64-linux-gnu libc6-dev-riscv64-cross lld wasi-libc nodejs llvm

# ------------------------------------------------------------------- sources

SOURCES := $(wildcard compiler/*.c compiler/*/*.c runtime/*.c)
TESTS := $(wildcard tests/*.c)
BENCHES := $(wildcard tests/bench/*.c)
OBJECTS := $(SOURCES:%.c=build/%.o)
TEST_OBJECTS := $(patsubst %.c,build/test/%.o,$(filter-out compiler/main.c,$(SOURCES)) $(TESTS))

LIBRARIES := lua5.4 zlib libpng libjpeg jansson
# pkg-config is asked when a recipe first needs it: `make deps` must work without it.
LIBRARY_CFLAGS = $(eval LIBRARY_CFLAGS := $$(shell pkg-config --cflags $(LIBRARIES)))$(LIBRARY_CFLAGS)
LIBRARY_LIBS = $(eval LIBRARY_LIBS := $$(shell pkg-config --libs $(LIBRARIES)))$(LIBRARY_LIBS)
SYSTEM_LIBS := -ltcc -ldl -lpthread -lm
CHECK_CFLAGS = $(eval CHECK_CFLAGS := $$(shell pkg-config --cflags check))$(CHECK_CFLAGS)
CHECK_LIBS = $(eval CHECK_LIBS := $$(shell pkg-config --libs check))$(CHECK_LIBS)

LANGUAGE := -std=gnu11 -Wall -Wextra -Werror -MMD -MP

.PHONY: all deps test-deps test run-tests lint generated demo train run-demo bench run-bench bench-embedded \
    run-bench-embedded install deb clean
all: build/cnnc

# The leaves for code that libtcc compiles: printed by the compiler itself, which is
# linked for that without them.
COMPILER_OBJECTS := $(filter-out build/compiler/main.o,$(filter build/compiler/%,$(OBJECTS)))
ifeq ($(shell uname -m),x86_64)
LEVELS := x86-64-v2 x86-64-v3 x86-64-v4
FAMILY := $(LEVELS:%=build/leaves/%.o)
LEAVES := $(FAMILY) $(LEVELS:%=build/leaves/strips-%.o)
endif

build/family: $(COMPILER_OBJECTS) build/runtime/leaves/family.o
	@$(CC) $(LDFLAGS) -o $@ $^ $(LIBRARY_LIBS) -lm

# A file that is printed as before is not compiled again: that takes a while.
$(FAMILY): build/leaves/%.o: build/family
	@mkdir -p $(@D)
	@build/family $* >build/leaves/$*.new
	@if test -e $@ && cmp -s build/leaves/$*.new build/leaves/$*.c; then rm build/leaves/$*.new && touch $@; else \
	    echo "  cc    build/leaves/$*.c" && mv build/leaves/$*.new build/leaves/$*.c && rm -f $@ && \
	    $(CC) -std=gnu11 -O2 -Wall -Wextra -Werror $$(build/family --flags $*) -c -o $@ build/leaves/$*.c; fi

# Strips are a file like any other, compiled for each level.
build/leaves/strips-%.o: runtime/leaves/strips.c runtime/leaves/functions.h compiler/target.c compiler/print/print.h \
    | build/family
	@echo "  cc    $< ($*)"
	@$(CC) $(LANGUAGE) -O3 -fno-math-errno -fno-trapping-math -fno-strict-aliasing -Wno-missing-field-initializers \
	    $$(build/family --flags $*) -DSTRIPS=cnnc_$(subst -,_,$*)_strips $(CPPFLAGS) -c -o $@ $<

build/cnnc: $(OBJECTS) $(LEAVES)
	@echo "  link  $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LIBRARY_LIBS) $(SYSTEM_LIBS)

build/%.o: %.c Makefile | build/.ready
	@mkdir -p $(@D)
	@echo "  cc    $<"
	@$(CC) $(LANGUAGE) $(CFLAGS) $(CPPFLAGS) $(LIBRARY_CFLAGS) -c -o $@ $<

# The same sources once more for the tests: with faults to seed, and every graph
# verified after every pass.
build/tests: $(TEST_OBJECTS) $(LEAVES)
	@echo "  link  $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(CHECK_LIBS) $(LIBRARY_LIBS) $(SYSTEM_LIBS)

build/test/%.o: %.c Makefile | build/.ready
	@mkdir -p $(@D)
	@echo "  cc    $< (test)"
	@$(CC) $(LANGUAGE) -O1 -g -DCNNC_FAULTS -DCNNC_CHECK $(CPPFLAGS) $(LIBRARY_CFLAGS) $(CHECK_CFLAGS) -c -o $@ $<

# What is linked into cnnc as text (EMBED in runtime.h).
build/runtime/new.o build/test/runtime/new.o: $(wildcard runtime/embedded/new/*)
build/runtime/luals.o build/test/runtime/luals.o: $(wildcard runtime/embedded/*.lua)

# The suites by their files' names, for tests/main.c.
build/test/suites.h: $(TESTS) Makefile
	@mkdir -p $(@D)
	@printf 'SUITE(%s)\n' $(sort $(patsubst tests/test_%.c,%,$(filter tests/test_%.c,$(TESTS)))) >$@

build/test/tests/main.o: build/test/suites.h
build/test/tests/main.o: CPPFLAGS += -Ibuild/test

-include $(OBJECTS:.o=.d) $(TEST_OBJECTS:.o=.d)

# ---------------------------------------------------------------- what it needs

build/.ready:
	@for tool in $(CC) pkg-config; do \
	    command -v $$tool >/dev/null || { echo "cnnc: $$tool is missing; 'make deps' installs it" >&2; exit 1; }; done
	@pkg-config --exists --print-errors $(LIBRARIES) && echo '#include <libtcc.h>' | $(CC) -fsyntax-only -x c - || \
	    { echo "cnnc: a library is missing; 'make deps' installs it" >&2; exit 1; }
	@mkdir -p $(@D) && touch $@

deps:
	@.ci/deps $(DEPS)

test-deps:
	@.ci/deps $(DEPS) $(TEST_DEPS)
	@.ci/deps $(CROSS_DEPS) || for package in $(CROSS_DEPS); do .ci/deps $$package || \
	    echo "cnnc: $$package cannot be installed: what it tests is skipped" >&2; done

# Targets that install first and build afterwards do so in a second make, on all processors.
BUILD = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$$(nproc))

# ----------------------------------------------------------------------- tests

test: test-deps
	@$(BUILD) run-tests

run-tests: build/cnnc build/tests lint
	@build/tests

lint: build/.cppcheck

# ctunullpointer: across files cppcheck does not see the conditions that guard a call.
# arrayIndexThenCheck: text[i] && i < room is right when the text ends by itself.
build/.cppcheck: $(SOURCES) $(TESTS) $(BENCHES) \
    $(wildcard compiler/*.h compiler/*/*.h runtime/*.h tests/*.h) tests/cppcheck.cfg
	@echo "  lint  cppcheck"
	@mkdir -p $(@D)
	@cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --suppress=missingIncludeSystem --suppress=ctunullpointer --suppress=arrayIndexThenCheck \
	    --library=tests/cppcheck.cfg -DCNNC_FAULTS $(SOURCES) $(TESTS) $(BENCHES)
	@touch $@

# The committed output, whose differences show what a change of the emitter does.
generated: build/cnnc
	@generated/generate build/cnnc generated

# ------------------------------------------------------------------------ demo

FASHION := /usr/share/datasets/fashion-mnist
EPOCHS := 1
DEMO := build/demo

demo: deps
	@$(BUILD) run-demo EPOCHS=1

# Three epochs must reach 87 %, and both ways of running must agree on 9,995 pictures.
train: deps
	@$(BUILD) run-demo EPOCHS=3
	@awk '/^standalone/ { right = $$4 } /^same answer/ { same = $$8 } END { exit !(right >= 8700 && same >= 9995) }' \
	    $(DEMO)/result || { echo "train: fewer than 8700 right or 9995 the same" >&2; exit 1; }

run-demo: build/cnnc
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	build/cnnc run graphs/experiments/fashion.lua $(EPOCHS) $(DEMO)/lenet5.safetensors $(DEMO)/labels-by-tcc
	build/cnnc graphs/lenet5.lua --weights $(DEMO)/lenet5.safetensors -o $(DEMO)/lenet5.c
	$(CC) -std=gnu11 -O2 -march=native -I$(DEMO) -o $(DEMO)/fashion graphs/experiments/fashion.c $(DEMO)/lenet5.c -lm
	@gzip -dc $(FASHION)/t10k-images-idx3-ubyte.gz >$(DEMO)/images
	@gzip -dc $(FASHION)/t10k-labels-idx1-ubyte.gz >$(DEMO)/labels
	$(DEMO)/fashion $(DEMO)/images $(DEMO)/labels $(DEMO)/labels-by-tcc >$(DEMO)/result
	@cat $(DEMO)/result

# ----------------------------------------------------------------------- bench

# cnnc's own figures, then its networks beside ONNX Runtime and their training beside PyTorch:
# docs/performance.md gets those tables, unless NETWORKS limits them.  BENCH_FLAGS: see
# tests/bench/bench.js.
BENCH := build/bench
NETWORKS :=
BENCH_FLAGS :=
ONNXRUNTIME := onnxruntime-node@1.30.0

bench: deps
	@command -v npm >/dev/null || .ci/deps nodejs npm
	@.ci/deps python3-torch libopenblas0-openmp
	@$(BUILD) run-bench

$(BENCH)/to_onnx $(BENCH)/turns $(BENCH)/embedded: $(BENCH)/%: tests/bench/%.c $(filter-out build/compiler/main.o,$(OBJECTS)) $(LEAVES)
	@mkdir -p $(@D)
	@echo "  cc    $<"
	@$(CC) $(filter-out -M%,$(LANGUAGE)) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS) -o $@ $^ $(LIBRARY_LIBS) $(SYSTEM_LIBS)

# The library for CPUs is in the package; its script would fetch others for GPUs.
$(BENCH)/.$(ONNXRUNTIME):
	@mkdir -p $(@D)
	npm install --prefix $(BENCH) --ignore-scripts --no-audit --no-fund $(ONNXRUNTIME)
	@touch $@

# The last row before the table is a whole process, from its start to the printed answer.
run-bench: build/cnnc $(BENCH)/to_onnx $(BENCH)/turns $(BENCH)/.$(ONNXRUNTIME)
	@for graph in lenet5 cifar_cnn resnet8 video3d pointwise; do \
	    build/cnnc bench graphs/$$graph.lua && \
	    build/cnnc bench --jit cc graphs/$$graph.lua || exit 1; done
	@for graph in lenet5 cifar_cnn resnet8; do \
	    build/cnnc bench --train --batch 64 graphs/$$graph.lua || exit 1; done
	@printf 'P5\n28 28\n255\n%784s' '' >build/blank.pgm
	@start=$$(date +%s%N); for i in 1 2 3 4 5 6 7 8 9 10; do \
	    build/cnnc predict graphs/lenet5.lua --input build/blank.pgm >/dev/null || exit 1; done; \
	    echo "cnnc predict graphs/lenet5.lua, whole process: $$((($$(date +%s%N) - start) / 10000000)) ms"
	node tests/bench/bench.js $(if $(NETWORKS),,--write docs/performance.md) $(BENCH_FLAGS) $(NETWORKS)

# What networks take on a Cortex-M4, counted by QEMU: docs/embedded.md.
bench-embedded: deps
	@.ci/deps gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm nodejs
	@$(BUILD) run-bench-embedded

run-bench-embedded: $(BENCH)/embedded
	node tests/bench/embedded.js --write docs/embedded.md

# --------------------------------------------------------------------- install

install: build/cnnc
	install -D -m 755 build/cnnc $(DESTDIR)$(PREFIX)/bin/cnnc
	install -d build/share
	build/cnnc help --man >build/share/cnnc.1
	build/cnnc help --bash >build/share/cnnc
	build/cnnc help --zsh >build/share/_cnnc
	build/cnnc help --luals >build/share/cnnc.lua
	install -D -m 644 build/share/cnnc.1 $(DESTDIR)$(PREFIX)/share/man/man1/cnnc.1
	install -D -m 644 build/share/cnnc $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cnnc
	install -D -m 644 build/share/_cnnc $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_cnnc
	install -D -m 644 build/share/cnnc.lua $(DESTDIR)$(PREFIX)/share/cnnc/luals/cnnc.lua
	install -d $(DESTDIR)$(PREFIX)/share/cnnc/graphs/experiments $(DESTDIR)$(PREFIX)/share/doc/cnnc
	install -m 644 $(wildcard graphs/*.lua) $(DESTDIR)$(PREFIX)/share/cnnc/graphs
	install -m 644 $(wildcard graphs/experiments/*) $(DESTDIR)$(PREFIX)/share/cnnc/graphs/experiments
	install -m 644 $(wildcard LICENSE README.md docs/*.md) $(DESTDIR)$(PREFIX)/share/doc/cnnc

# A Debian package, built from a copy of the sources and checked: build/deb/cnnc_*.deb
deb: deps
	@.ci/deps debhelper dpkg-dev lintian
	rm -rf build/deb && mkdir -p build/deb/cnnc
	cp -a Makefile README.md LICENSE compiler runtime graphs docs debian build/deb/cnnc
	cd build/deb/cnnc && dpkg-buildpackage -b -us -uc
	lintian --fail-on warning,error build/deb/cnnc_*.deb

clean:
	rm -rf build
