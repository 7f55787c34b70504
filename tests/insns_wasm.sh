#!/bin/sh
# Instructions of WebAssembly for a weight and token of a matrix product: what tests/insns.c counts
# under an emulator is counted here by the module itself, in node.  Usage, in the project's folder:
#   tests/insns_wasm.sh TYPE TOKENS [TYPE TOKENS...]
# prints all instructions but those that name locals or only give structure, then of these those on
# vectors.  Needs clang-16, lld-16, wasi-libc, libclang-rt-16-dev-wasm32, wabt and nodejs (Debian).
set -e
out=build/insns_wasm
mkdir -p $out
clang-16 --target=wasm32-wasi -msimd128 -O2 tests/insns.c quant.c -lm -o $out/plain.wasm
wasm2wat --enable-all $out/plain.wasm >$out/plain.wat
# Two counters; each way out of a straight run of instructions first adds what the run had.
awk '
function add(name, n) {
    if (n) printf "global.get %s i64.const %d i64.add global.set %s\n", name, n, name
}
function leave() { add("$insns", all); add("$vectors", wide); all = wide = 0 }
/^  \(export/ && !exported++ {
    print "(global $insns (export \"insns\") (mut i64) (i64.const 0))"
    print "(global $vectors (export \"vectors\") (mut i64) (i64.const 0))"
}
/^  \(func/ { inside = 1; all = wide = 0; print; next }
/^  \(/ { inside = 0 }
!inside || $1 ~ /^\(/ { print; next }
{
    gsub(/\(;[^;]*;\)|;;.*/, "")
    sub(/ +$/, "")
    closing = gsub(/\)/, ")") - gsub(/\(/, "(")      # the last instruction of a function closes it
    word = $1
    sub(/\)+$/, "", word)
    if (word ~ /^(br|br_if|br_table|return|end|else|if|block|loop|unreachable)$/) {
        if (word ~ /^(br|return|if)/) all++
        leave()
    } else {
        if (word !~ /^local\./) all++
        if (word ~ /^(v128|[if][0-9]+x[0-9]+)\./) wide++
    }
    if (!closing) { print; next }
    print substr($0, 1, length($0) - closing)
    leave()
    print substr($0, length($0) - closing + 1)
}' $out/plain.wat >$out/counted.wat
wat2wasm --enable-all $out/counted.wat -o $out/counted.wasm
cat >$out/run.mjs <<'END'
import { WASI } from 'node:wasi';
import { readFileSync } from 'node:fs';
const [type, tokens] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(new URL('counted.wasm', import.meta.url)));
function run(repeats) {
    const wasi = new WASI({ version: 'preview1', args: ['insns', type, '64', tokens, repeats],
        returnOnExit: true });
    const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport });
    if (wasi.start(instance)) throw new Error('no such type');
    return [instance.exports.insns.value, instance.exports.vectors.value];
}
const once = run('1'), twice = run('2');
console.log(type, tokens, ...once.map((n, i) =>
    (Number(twice[i] - n) / (64 * 2048 * tokens)).toFixed(3)));
END
while [ $# -ge 2 ]; do
    node --no-warnings $out/run.mjs "$1" "$2"
    shift 2
done
