#!/bin/sh
# make demo: inspects the tiny model, quantizes it to five types and prints sizes and errors.
set -e
cd "$(dirname "$0")/.."
model=examples/models/tiny-f16.gguf
out=build/demo
mkdir -p $out
echo "== build/inspect $model"
build/inspect $model
echo
echo "== build/quantize $model OUT.gguf TYPE, for five types"
printf '%-8s %12s %6s %9s   %s\n' type bytes bpw error 'largest error of a tensor'
for type in Q8_0 Q6_K Q5_K_M Q4_K_M Q2_K; do
    build/quantize --quiet --report $out/$type.tsv $model $out/tiny-$type.gguf $type
    # weights, bytes, and the root of the mean square of the tensors' relative errors
    awk -F'\t' -v type=$type 'NR > 1 {
            n = split($2, d, "x"); w = 1; for (i = 1; i <= n; i++) w *= d[i]
            if ($4 != "F32") { bytes += $5; weights += w; square += w * $6 * $6
                if ($6 > top) { top = $6; name = $1 } }
        } END { printf "%-8s %12d %6.2f %9.5f   %.5f %s\n",
            type, bytes, 8 * bytes / weights, sqrt(square / weights), top, name }' $out/$type.tsv
done
echo "(bytes and bits per weight of the matrices; relative RMS error against the F16 model)"
echo
echo "The files are in $out; try: build/inspect --tensors $out/tiny-Q4_K_M.gguf"
