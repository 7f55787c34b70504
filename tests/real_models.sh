#!/bin/sh
# Compares generate and perplexity with stock llama.cpp on real models; REAL_MODELS.md says where
# they come from and what came out.  Needs, in the environment:
#
#     LLAMA_SRC   a source tree of llama.cpp          LLAMA_LIB   the folder of its built libllama.so
#     MODELS      the models to run, in quotes        TEXT        a text for perplexity (story.txt)
#     CHUNKS      chunks of 512 tokens of it (8)
#
# What cannot run is skipped with a line that says so.  A quantized model is compared as it is and as
# a copy with F32 weights: with quantized weights both programs round activations to 8 bits, which is
# chaotic (see REAL_MODELS.md), so give it many chunks; the copy must agree to the last digits.
set -u
cd "$(dirname "$0")/.." || exit 1
out=build/real
mkdir -p $out
passed=0 failed=0 skipped=0
text=${TEXT:-examples/models/story.txt}
chunks=${CHUNKS:-8}

say() {                                         # say 0|1 WHAT: counts and prints
    if [ "$1" = 0 ]; then passed=$((passed + 1)); echo "ok $2"
    else failed=$((failed + 1)); echo "FAILED $2"; fi
}

skip() {
    skipped=$((skipped + 1))
    echo "SKIPPED: $1"
}

mixed() {                                       # what tokenizers stumble over
    printf "It's they're WE'VE I'll he'd don't I'M you'Re 'tis  1 12 123 12345 3.14 2024-01-02\n"
    printf 'Straße, Größe, naïve café, „Gänsefüßchen“ und Übermut; ½ ² Ⅷ ٣٤٥ १२३ ǅ ﬁ\n'
    printf '敏捷的棕色狐狸跳过了懒狗。12345个例子，日本語のテキストと한국어 텍스트도.\n'
    printf '😀🎉👩‍👩‍👧‍👦🇩🇪 ☃ ❤️ ﷽ a\314\201 \342\200\213zero\302\240nbsp\343\200\200wide\357\273\277\n'
    printf 'int main(void)\t{\n    for (i = 0; i < 10; i++) {\n\t\tprintf("%%d", i * 0x1F);\n    }\n'
    printf '}\n\n\n  two   three    four \t tab\t\t\tend   \n \n  \n\n\n   x\r\nlines\r\n\r\n'
    printf '<s> </s> <|im_end|> <start_of_turn> [INST] <unk> <0x0A> <b>html</b> $100 +=-<>^~|`#@   '
}

prompts() {
    printf 'Once upon a time, in a small village\001def fibonacci(n):\n\001'
    printf 'Die Hauptstadt von Deutschland ist'
}

tokens() {                                      # tokens MODEL NAME FILE
    $out/ref tokens "$1" "$3" > $out/a && build/generate "$1" --tokens "$3" > $out/b &&
        cmp -s $out/a $out/b
    say $? "$2: $(wc -l < $out/a) tokens of $(basename "$3")"
}

greedy() {                                      # greedy MODEL NAME GAP, of what is a tie
    i=0
    while [ $i -lt 3 ]; do
        i=$((i + 1))
        prompts | tr '\n\001' '\002\n' | sed -n "${i}p" | tr -d '\n' | tr '\002' '\n' > $out/p
        $out/ref greedy "$1" $out/p 64 > $out/a
        build/generate "$1" --prompt-file $out/p -n 64 --temp 0 --trace -c 512 2> /dev/null > $out/b
        paste -d ' ' $out/a $out/b | awk -v most="$3" -v what="$2: prompt $i" '
            $1 != $5 { print what ", token " NR ": the gap is " $2 - $4; bad = $2 - $4 > most
                       differ = 1; exit }
            END { if (!differ) print what ", " NR " tokens equal"; exit bad || NR == 0 }' > $out/line
        say $? "$(cat $out/line)"
    done
}

perplexity() {                                  # perplexity MODEL NAME BOUND
    $out/ref ppl "$1" "$text" 512 "$chunks" > $out/a
    build/perplexity "$1" "$text" --chunks "$chunks" 2> /dev/null > $out/b
    paste -d ' ' $out/a $out/b | awk -v what="$2" -v most="$3" '
        { print what ": " $2 " and " $8 " tokens, perplexity " $6 " and " $12
          r = $6 / $12 - 1; exit !($2 == $8 && $2 > 0 && r < most && r > -most) }' > $out/line
    say $? "$(cat $out/line)"
}

if [ -z "${LLAMA_SRC:-}" ] || [ -z "${LLAMA_LIB:-}" ]; then
    skip "no stock llama.cpp: set LLAMA_SRC and LLAMA_LIB"
elif ! ${CC:-cc} -O1 -I"$LLAMA_SRC/include" -I"$LLAMA_SRC/ggml/include" tests/llama_ref.c \
        -L"$LLAMA_LIB" -lllama -lggml -lggml-base -Wl,-rpath,"$LLAMA_LIB" -lm -o $out/ref; then
    skip "tests/llama_ref.c does not link with $LLAMA_LIB/libllama.so"
else
    make -s all || exit 1
    mixed > $out/mixed.txt
    [ -n "${MODELS:-}" ] || skip "no models: set MODELS"
    for m in examples/models/tiny-f16.gguf ${MODELS:-}; do
        name=$(basename "$m" .gguf)
        if ! [ -f "$m" ]; then skip "$m is not there"; continue; fi
        tokens "$m" "$name" $out/mixed.txt
        tokens "$m" "$name" "$text"
        case $name in
        *f16*)
            perplexity "$m" "$name" 0.001
            greedy "$m" "$name" 0.01
            continue ;;
        esac
        perplexity "$m" "$name" 0.001
        greedy "$m" "$name" 0.5
        build/quantize --quiet "$m" $out/f32.gguf F32 2> /dev/null
        perplexity $out/f32.gguf "$name as F32" 0.001
        greedy $out/f32.gguf "$name as F32" 0.01
        rm -f $out/f32.gguf
    done
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
