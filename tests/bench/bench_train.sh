#!/usr/bin/env bash
# Images per second of ws2-train, both methods, in the steady state: the rate that its log reports for the second
# epoch, in which the loader's start counts and the program's does not. The frames are decoded from a stream file.
# Settings as for peer_train.py. On a CPU with bfloat16 also in that, and what it gains.
set -eu -o pipefail
. "$(dirname "$0")/belt.sh"
BATCH=${BATCH:-16} STEPS=${STEPS:-12}

# before + after + belt of both: one epoch has 4 pictures of each frame number.
belt $(((STEPS * BATCH + 3) / 4))
for role in before after; do
    ws2-pick --frames 0:1 -o "$folder/$role.val" "$folder/$role.ws2"
done

rate() { # method, precision
    ws2-train -q --method "$1" --precision "$2" --size "$SIZE" --backbone "$BACKBONE" --stride "$STRIDE" --batch "$BATCH" \
        --epochs 2 --init none --recipe scratch --device cpu -j "$THREADS" --log "$folder/log" -o "$folder/weights" \
        --validation "$folder/before.val" --validation "$folder/after.val" "$folder/before.ws2" "$folder/after.ws2"
    awk -F '\t' 'END { print $11 }' "$folder/log"
}

for method in standard puzzle; do
    f32=$(rate $method f32)
    print "train $method f32" "$f32" images/s
    bf16_is_native || continue
    bf16=$(rate $method bf16)
    print "train $method bf16" "$bf16" images/s
    print "train $method bf16 over f32" "$(awk "BEGIN { print $bf16 / $f32 }")" times
done
