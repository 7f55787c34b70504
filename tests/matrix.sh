#!/bin/sh
# Compiles quant.h in every way that a user might, runs the golden tests where the machine can, and
# checks what each option leaves in and out.  Usage: tests/matrix.sh [WORD...] runs the lines whose
# name contains a word; JOBS=N, as many at a time (default: the processors).  Prints one line a
# check; the last one is `N passed, N failed, N skipped`.
set -u
cd "$(dirname "$0")/.." || exit 1
all=build/matrix
if [ -z "${QUANT_MATRIX_JOB:-}" ]; then
    rm -rf $all
    mkdir -p $all/claims
    n=${JOBS:-$(nproc 2>/dev/null || echo 1)}
    for i in $(seq "$n"); do QUANT_MATRIX_JOB=$i tests/matrix.sh "$@" & done
    wait
    cat $all/*/flash 2>/dev/null
    # every job must have come to its end
    cat $all/*/counts | awk -v n="$n" '{ p += $1; f += $2; s += $3 }
        END { if (NR != n) { f++; print "a part of the checks did not end" }
              printf "%d passed, %d failed", p, f
              print s ? ", " s " skipped" : ""
              exit !(p > 0 && f == 0) }'
    exit
fi
out=$all/$QUANT_MATRIX_JOB
mkdir -p $out
passed=0 failed=0 skipped=0 turn=0
words="$*"
strict="-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror"

wanted() {
    [ -z "$words" ] && return 0
    for w in $words; do case "$1" in *"$w"*) return 0 ;; esac; done
    return 1
}

# All jobs pass by all checks in the same order; who comes first makes the folder and the check.
mine() {
    wanted "$1" || return 1
    turn=$((turn + 1))
    mkdir "$all/claims/$turn" 2>/dev/null
}

# verify NAME COMMAND...: runs the command, counts its exit code.  For checks that share an object:
# a job that has claimed them all, by one name that holds theirs, runs them one after the other.
verify() {
    name=$1
    shift
    began=$(date +%s)
    if "$@" >$out/log 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name, $(($(date +%s) - began)) s"
    else
        failed=$((failed + 1))
        printf '%s\n' "FAILED  $name" "        $*" \
            "$(grep -E 'error|FAILED|:[0-9]+:' $out/log | head -20 | sed 's/^/        /')" \
            "$(tail -5 $out/log | sed 's/^/        /')"
    fi
}

# check NAME COMMAND...: a check on its own
check() {
    mine "$1" || return 0
    verify "$@"
}

skip() {
    mine "$1" || return 0
    skipped=$((skipped + 1))
    echo "SKIPPED $1: $2"
}

has() { command -v "$1" >/dev/null 2>&1; }

# --- kernels of WebAssembly, in node, and of RISC-V, under qemu ------------------------------------
cat >$out/wasi.mjs <<'END'
import { WASI } from 'node:wasi';
import { readFileSync } from 'node:fs';
const wasi = new WASI({ version: 'preview1', args: process.argv.slice(2),
    env: process.env, returnOnExit: true });
const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
process.exit(wasi.start(new WebAssembly.Instance(module, imports)));
END
# the other suites want threads and programs
grep -o 'suite_[a-z]*' tests/test_main.c | sort -u | grep -v suite_matmul \
    | sed 's/.*/void &(void); void &(void) {}/' >$out/stubs.c
# kernels_link "LINKER": a command, tests and $out/k.o as $out/kernels
kernels_link() {
    echo "$1 -std=c99 -O1 tests/test_main.c tests/test_matmul.c $out/stubs.c $out/k.o -lm \
        -o $out/kernels"
}
# kernels_run ISA "RUNNER": a command: all types and numbers of tokens, and the ISA must run
kernels_run() {
    echo "QUANT_TEST_SHORT=1 $2 $out/kernels packed_ cpu_sets >$out/kernels.txt; r=\$?
        cat $out/kernels.txt
        [ \$r = 0 ] && grep '^matmul: $1 kernels run' $out/kernels.txt && \
            grep '^[1-9][0-9]* passed, 0 failed\$' $out/kernels.txt"
}
if has clang-16 && has riscv64-linux-gnu-gcc && has qemu-riscv64; then
    rv="clang-16 --target=riscv64-linux-gnu -march=rv64gcv -I/usr/riscv64-linux-gnu/include"
    if mine "kernels rvv -O2, kernels rvv vlen, kernels rvv: no fused operation"; then
        rm -f $out/k.s $out/k.o $out/kernels
        verify "kernels rvv -O2" sh -c "$rv -std=c99 -pedantic $strict -O2 -S quant.c -o $out/k.s && \
            $rv -c $out/k.s -o $out/k.o && $(kernels_link "riscv64-linux-gnu-gcc -static")"
        verify "kernels rvv: no fused operation" sh -c "grep -q vfmul $out/k.s && \
            ! grep -E 'vfn?m(acc|sac|add|sub)|fn?m(add|sub)\.s' $out/k.s"
        for bits in 128 256; do
            verify "kernels rvv vlen $bits" sh -c "$(kernels_run rvv \
                "qemu-riscv64 -cpu rv64,v=true,vlen=$bits,vext_spec=v1.0")"
        done
    fi
    check "kernels rvv C++11" $rv -O2 -x c++ -std=c++11 -nostdinc++ -pedantic $strict \
        -c quant.c -o $out/a.o
    check "kernels rvv -O0" $rv -std=c99 -pedantic $strict -O0 -c quant.c -o $out/a.o
else
    skip "kernels rvv" "needs clang-16 gcc-riscv64-linux-gnu libc6-dev-riscv64-cross qemu-user"
fi
if has clang-16 && has wasm-ld-16 && has node && [ -d /usr/include/wasm32-wasi ]; then
    wasm="clang-16 --target=wasm32-wasi"
    for o in -O0 -O2; do
        check "kernels wasm128 $o" sh -c "$wasm -msimd128 $o -std=c99 -pedantic $strict \
            -c quant.c -o $out/k.o && $(kernels_link "$wasm") && \
            $(kernels_run wasm128 "node --no-warnings $out/wasi.mjs")"
        check "kernels wasm128 C++11 $o" $wasm -msimd128 $o -x c++ -std=c++11 -nostdinc++ \
            -pedantic $strict -c quant.c -o $out/a.o
    done
    check "kernels wasm128 freestanding" clang-16 --target=wasm32-unknown-unknown -msimd128 \
        -std=c99 -pedantic $strict -O2 -ffreestanding -DQUANT_FREESTANDING -c quant.c -o $out/k.o
else
    skip "kernels wasm128" "needs clang-16 lld-16 wasi-libc libclang-rt-16-dev-wasm32 nodejs"
fi

# --- the golden tests, compiled in ways that could change bytes -----------------------------------
suites=$(ls tests/test_*.c | tr '\n' ' ')
plain="-std=gnu99 -D_POSIX_C_SOURCE=200809L -D_FILE_OFFSET_BITS=64 -O1"
golden_tests="golden_decode golden_encode write_golden half bfloats splits_do errors_are any_bytes \
    any_finite idempotent type_names products linalg_bytes read_rule tiny_model_in_three_ways"
# tests COMPILER: the tests compiled plainly, once, as one object
tests() {
    made=$out/tests-$1.o
    [ -f $made ] && return
    mkdir -p $out/tests-$1
    for f in $suites; do
        $1 $plain -c $f -o $out/tests-$1/$(basename $f .c).o || return
    done
    $1 -r -nostdlib $out/tests-$1/*.o -o $made
}
# golden_run RUNNER COMPILER OBJECT [WORD...]: a command: the golden tests, and those of the words,
# with an object of the library
golden_run() {
    run=$1 link=$2 object=$3
    shift 3
    echo "rm -f $out/golden && $link $out/tests-$link.o $object -lm -lpthread -o $out/golden && \
        QUANT_TEST_SHORT=${run:+1} $run $out/golden $golden_tests $* >$out/golden.txt; r=\$?
        cat $out/golden.txt
        [ \$r = 0 ]"
}
# golden NAME RUNNER COMPILER FLAGS...: the library with the flags, the tests plainly
golden() {
    what="golden $1" run=$2 cc=$3
    shift 3
    mine "$what" || return 0
    tests $cc
    verify "$what" sh -c "$cc $* -c quant.c -o $out/g.o && { $(golden_run "$run" $cc $out/g.o); }"
}
if has s390x-linux-gnu-gcc && has qemu-s390x; then
    golden "s390x (big-endian)" "qemu-s390x -L /usr/s390x-linux-gnu" s390x-linux-gnu-gcc -O2
else
    skip "golden s390x (big-endian)" "needs gcc-s390x-linux-gnu and qemu-user"
fi
golden "gcc -O3 -march=native" "" gcc -O3 -march=native
golden "gcc -ffast-math" "" gcc -O2 -ffast-math -march=native
golden "gcc -ffp-contract=fast" "" gcc -O2 -ffp-contract=fast -march=native
golden "gcc -fno-builtin" "" gcc -O2 -fno-builtin
if has clang; then
    golden "clang -O3 -march=native" "" clang -O3 -march=native
    golden "clang -ffast-math -ffp-contract=on" "" clang -O3 -march=native -ffast-math \
        -ffp-contract=on -DQUANT_ALLOW_FAST_MATH
    check "clang -ffast-math is refused" sh -c \
        "! clang -O2 -ffast-math -c quant.c -o $out/a.o"
fi

# --- kernels of other machines, under an emulator --------------------------------------------------
# emulate NAME "KERNELS" "RUNNER" LINKER COMPILER...: matrix products; all of the kernels must run
emulate() {
    name="kernels $1" must=$2 run=$3 link=$4
    shift 4
    wanted "$name" || return 0
    tests $link
    check "$name" sh -c "$* -std=c99 -pedantic $strict -c quant.c -o $out/k.o && \
        $link $out/tests-$link.o $out/k.o -lm -lpthread -o $out/kernels && \
        QUANT_TEST_SHORT=1 $run $out/kernels packed_ cpu_sets >$out/kernels.txt || \
        { cat $out/kernels.txt; exit 1; }
        for k in $must; do grep \"matmul: \$k kernels run\" $out/kernels.txt || exit 1; done"
}
arm="aarch64-linux-gnu-gcc"
if has $arm && has qemu-aarch64; then
    qemu="qemu-aarch64 -L /usr/aarch64-linux-gnu"
    # contraction is gcc's default without -std
    if mine "golden aarch64, kernels aarch64 gcc"; then
        rm -f $out/k.o
        verify "kernels aarch64 gcc: -O2" $arm -std=c99 -pedantic $strict -O2 -ffp-contract=fast \
            -c quant.c -o $out/k.o
        tests $arm
        verify "golden aarch64" sh -c "$(golden_run "$qemu" $arm $out/k.o packed_ cpu_sets)"
        verify "kernels aarch64 gcc" sh -c "for k in 'matmul: neon kernels run' \
            'matmul: dotprod kernels run' 'matmul: i8mm kernels run' 'ok packed_products' \
            'ok packed_extremes' 'ok packed_activations' 'ok packed_sizes' 'ok cpu_sets'; do
            grep \"^\$k\" $out/golden.txt || exit 1; done"
    fi
    check "aarch64 gcc -O0" $arm -std=c99 -pedantic $strict -O0 -c quant.c -o $out/a.o
    if has clang; then
        emulate "aarch64 clang" "neon dotprod i8mm" "$qemu" $arm \
            clang --target=aarch64-linux-gnu -O2
        check "aarch64 clang++" clang --target=aarch64-linux-gnu -x c++ -std=c++11 -pedantic \
            $strict -nostdinc++ -O1 -c quant.c -o $out/a.o
    fi
else
    skip "golden aarch64" "needs gcc-aarch64-linux-gnu and qemu-user"
    skip "kernels aarch64" "needs gcc-aarch64-linux-gnu and qemu-user"
fi

# --- C and C++ standards, two compilers, three optimization levels ---------------------------------
# The kernels take four fifths of a compiler's time and know nothing of standards: each level
# compiles them with one standard, and the front end reads them with all.  What is left is compiled
# with every pair.
# full COMPILER STANDARD LEVEL: whether this pair has the kernels
full() {
    case "$1 $2 $3" in
        *\ c99\ -O2 | *\ c11\ -Os | *\ c2x\ -O0 | *\ c++11\ -O2 | *\ c++20\ -O0) true ;;
        *) false ;;
    esac
}
# parts FLAGS...: a command, what stands for a compile with the kernels
parts() {
    echo "$* -fsyntax-only quant.c && $* -DQUANT_NO_SIMD -c quant.c -o $out/a.o"
}
for cc in gcc clang; do
    if ! has $cc; then skip "$cc" "not installed"; continue; fi
    for std in c99 c11 c2x; do for o in -O0 -O2 -Os; do
        how="$cc -std=$std -pedantic $strict $o"
        if ! full $cc $std $o; then
            check "$cc -std=$std $o" sh -c "$(parts $how)"
            continue
        fi
        # the same object is asked for all else that it can show
        case $o in
            -O0) mine "$cc -std=$std $o, golden $cc $o" || continue ;;
            -O2) mine "$cc -std=$std $o, golden $cc $o, stack, exported, writable" || continue ;;
            -Os) mine "$cc -std=$std $o" || continue ;;
        esac
        rm -f $out/f.o
        [ "$cc$o" = gcc-O2 ] && how="$how -fno-pic -Wframe-larger-than=4096 \
            -Wno-error=frame-larger-than="
        verify "$cc -std=$std $o" sh -c "$how -c quant.c -o $out/f.o"
        if [ "$cc$o" = gcc-O2 ]; then
            cp $out/log $out/frames
            verify "stack at most 4 KiB" sh -c "[ -f $out/f.o ] && ! grep 'frame size' $out/frames"
            symbols="nm $out/f.o >$out/symbols &&"
            verify "nothing but quant_ is exported" sh -c \
                "$symbols ! grep ' [TDBRC] ' $out/symbols | grep -v ' T quant_[a-z0-9]'"
            verify "no writable data" sh -c "$symbols ! grep ' [bBdDC] ' $out/symbols"
        elif [ $o != -Os ]; then
            tests $cc
            verify "golden $cc $o" sh -c "$(golden_run "" $cc $out/f.o)"
        fi
    done; done
done
for cxx in g++ clang++; do
    if ! has $cxx; then skip "$cxx" "not installed"; continue; fi
    for std in c++11 c++20; do for o in -O0 -O2; do
        how="$cxx -x c++ -std=$std -pedantic $strict $o"
        if full $cxx $std $o; then how="$how -c quant.c -o $out/a.o"; else how=$(parts $how); fi
        check "$cxx -std=$std $o" sh -c "$how"
    done; done
done

# --- ways to include -------------------------------------------------------------------------------
cat >$out/two_a.c <<'END'
#define QUANT_IMPLEMENTATION
#include "third_party/weights.h"
END
cat >$out/two_b.c <<'END'
#include "third_party/weights.h"
#include "third_party/weights.h"
int main(void) { return quant_type_find("Q4_K") == QUANT_Q4_K ? 0 : 1; }
END
mkdir -p $out/third_party
cp quant.h $out/third_party/weights.h
if mine "renamed file, two translation units, golden own square root"; then
    verify "renamed file, two translation units" sh -c "rm -f $out/two.o && gcc -O2 -I$out \
        '-DQUANT_SELF=\"weights.h\"' '-DQUANT_SQRTF(x)=quant__sqrt_soft(x)' -c $out/two_a.c \
        -o $out/two.o && gcc -I$out $out/two_b.c $out/two.o -o $out/two && $out/two"
    tests gcc
    verify "golden own square root" sh -c "$(golden_run "" gcc $out/two.o)"
fi
check "renamed file, QUANT_NO_SIMD" sh -c "gcc -I$out -DQUANT_NO_SIMD $out/two_a.c $out/two_b.c \
    -o $out/two && $out/two"
if [ "$(uname -m)" = x86_64 ]; then
    check "renamed file without QUANT_SELF says so" sh -c "! gcc -I$out -c $out/two_a.c \
        -o $out/a.o 2>$out/err && grep -q 'define QUANT_SELF' $out/err"
fi
cat >$out/static.c <<'END'
#define QUANT_STATIC
#define QUANT_IMPLEMENTATION
#include "../../../quant.h"
#include "../../../quant.h"
int main(void) { return quant_row_size(QUANT_Q4_K, 256) == 144 ? 0 : 1; }
END
for cc in gcc clang g++ clang++; do
    has $cc || continue
    check "QUANT_STATIC $cc" sh -c "$cc -O2 -x c$(case $cc in *++) echo ++ ;; esac) $strict \
        $out/static.c -o $out/static && $out/static"
done
check "QUANT_STATIC exports nothing" sh -c "gcc -O2 -c $out/static.c -o $out/a.o && \
    ! nm $out/a.o | grep ' [TDBRC] ' | grep -v ' main$'"
check "no private macro is left" sh -c "gcc -E -dM quant.c >$out/macros && \
    grep -q '#define QUANT_VERSION' $out/macros && ! grep '#define QUANT__' $out/macros"

# --- options: what they remove ---------------------------------------------------------------------
# option OPTION PATTERN [kernels]: compiles with it cleanly, and no symbol matches the pattern.  The
# kernels of other instruction sets are compiled where the option could change them.
option() {
    for cc in gcc clang; do
        has $cc || continue
        how="$cc -std=c99 -pedantic $strict -O2 $1"
        if [ $# = 3 ]; then how="$how -c quant.c -o $out/a.o"; else how=$(parts $how); fi
        check "$1 $cc" sh -c "$how && nm $out/a.o >$out/symbols && ! grep -E '$2' $out/symbols"
    done
}
option -DQUANT_NO_IQ 'grid_iq|(de|en)code_iq[123]|quant__book' kernels
option -DQUANT_NO_ENCODE 'quant__encode|quant__search|quant_from_f32'
option -DQUANT_NO_GGUF 'gguf|imatrix|quant_set|quant_mix|mmap|malloc'
option -DQUANT_NO_CALIBRATION 'hessian|cholesky|quant__la_' kernels
option -DQUANT_NO_MATMUL 'matmul|quant_(act|matrix)|quant__(run|p16|job)' kernels
option -DQUANT_NO_GGUF_WRITE 'gguf_(begin|put|header|write|end)'
option -DQUANT_NO_MMAP 'mmap'
option -DQUANT_NO_SIMD 'avx' kernels
option -DQUANT_NO_STDIO 'mmap|fopen|fread|open_file'
check "QUANT_NO_STRINGS has no texts" sh -c "$(parts gcc -O2 -DQUANT_NO_STRINGS) && \
    ! strings $out/a.o | grep -E 'too short|not a valid|is not'"
option "-DQUANT_NO_IQ -DQUANT_NO_ENCODE -DQUANT_NO_GGUF -DQUANT_NO_STRINGS" 'gguf|quant__encode'
option "-DQUANT_FREESTANDING -ffreestanding" 'U (malloc|free|fopen|mmap|sqrtf|log|exp|floor)' \
    kernels

# --- flash sizes -----------------------------------------------------------------------------------
flash() {
    for t in "thumbv7em-none-eabihf -mfpu=fpv4-sp-d16" x86_64-linux-gnu; do
        clang --target=$t -Os -ffreestanding -DQUANT_FREESTANDING $1 -c quant.c -o $out/s.o
        llvm-size-14 $out/s.o | awk 'NR == 2 { printf "%s ", $1 + $2 }'
    done | { read -r a b; printf '  %-52s %9s %9s\n' "${1:-everything}" "$a" "$b"; }
}
if has clang && mine flash; then
    { echo "Flash, bytes of code and constants (clang -Os):"
      printf '  %-52s %9s %9s\n' "" thumbv7em x86-64
      few="-DQUANT_NO_ENCODE -DQUANT_NO_GGUF -DQUANT_NO_CALIBRATION -DQUANT_NO_MATMUL"
      for o in "" "-DQUANT_NO_ENCODE" "-DQUANT_NO_GGUF" "-DQUANT_NO_IQ" "-DQUANT_NO_CALIBRATION" \
          "-DQUANT_NO_MATMUL" "$few" "$few -DQUANT_NO_IQ -DQUANT_NO_STRINGS"; do flash "$o"; done
    } >$out/flash
    if [ "$(grep -cE ' [0-9]+ +[0-9]+$' $out/flash)" = 8 ]; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED  flash"; fi
fi
# --- freestanding cross builds ---------------------------------------------------------------------
# Undefined symbols that are allowed: what compilers emit by themselves.
allowed='memcpy|memset|memmove|memcmp|__aeabi_.*|__gnu_.*|__(add|sub|mul|div)[sdt]f3|__(eq|ne|lt|le|gt|ge|unord)[sdt]f2|__(fix|fixuns|float|floatun|floatuns)[sdt][fi][sdt][fi]|__extendsfdf2|__truncdfsf2|__(u?div|u?mod|mul)[sdt]i3|__(ashl|lshr|ashr)[sdt]i3|__u?divmod[sd]i4|__stack_chk_.*|___chkstk_ms|__chkstk|_fltused|__stack_pointer|__indirect_function_table'
cross() {
    name="freestanding $1"
    shift
    check "$name" sh -c "clang --target=$* -std=c99 -pedantic -Wall -Wextra -Werror -Os \
        -ffreestanding -DQUANT_FREESTANDING -c quant.c -o $out/cross.o || exit 1
        llvm-nm-14 -u $out/cross.o >$out/undefined || exit 1
        ! awk '{ print \$NF }' $out/undefined | grep -vE '^($allowed)$'"
}
if has clang; then
    cross aarch64 aarch64-none-elf
    cross "aarch64 big-endian" aarch64_be-none-elf
    cross thumbv6m thumbv6m-none-eabi
    cross thumbv7em thumbv7em-none-eabihf -mfpu=fpv4-sp-d16
    cross riscv32 riscv32-none-elf -march=rv32imac
    cross riscv64 riscv64-none-elf -march=rv64gc
    cross wasm32 wasm32-unknown-unknown
    cross "wasm32 simd128" wasm32-unknown-unknown -msimd128
    cross s390x s390x-linux-gnu
    cross mingw x86_64-w64-mingw32
    cross i686 i686-none-elf -msse2 -mfpmath=sse
else
    skip "freestanding cross builds" "clang is not installed"
fi
echo "$passed $failed $skipped" >$out/counts
