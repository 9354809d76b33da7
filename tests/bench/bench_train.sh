#!/usr/bin/env bash
# Images per second of ws2-train (of pof: triplets), in the steady state: the rate that its log reports for the second
# epoch, in which the loader's start counts and the program's does not. The frames are decoded from a stream file.
# Settings as for peer_train.py. On a CPU with bfloat16 also in that, and what it gains.
set -eu -o pipefail
. "$(dirname "$0")/belt.sh"
BATCH=${BATCH:-16} STEPS=${STEPS:-12}

# before + after + belt of both: one epoch has 4 pictures of each frame number; two frames are no centres of triplets.
belt $(((STEPS * BATCH + 3) / 4 + 2)) flow.next,flow.prev
for role in before after; do
    mv "$folder/$role.ws2" "$folder/$role.flow"
    ws2-pick --drop flow.next,flow.prev -o "$folder/$role.plain" "$folder/$role.flow"
    for kind in flow plain; do ws2-pick --frames 0:3 -o "$folder/$role.val.$kind" "$folder/$role.$kind"; done
done

rate() { # method, precision
    local kind=plain
    [ "$1" = pof ] && kind=flow
    ws2-train -q --method "$1" --precision "$2" --size "$SIZE" --backbone "$BACKBONE" --stride "$STRIDE" --batch "$BATCH" \
        --epochs 2 --init none --optimiser scratch --device cpu -j "$THREADS" --log "$folder/log" -o "$folder/weights" \
        --validation "$folder/before.val.$kind" --validation "$folder/after.val.$kind" "$folder/before.$kind" "$folder/after.$kind"
    awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "images_per_second") c = i } END { print $c }' "$folder/log"
}

over() { # above, below
    awk "BEGIN { print $1 / $2 }"
}

precisions=f32
bf16_is_native && precisions="f32 bf16"
declare -A got
for precision in $precisions; do
    for method in standard puzzle pof; do
        got[$method.$precision]=$(rate $method "$precision")
        print "train $method $precision" "${got[$method.$precision]}" images/s
        [ "$precision" = f32 ] || print "train $method bf16 over f32" "$(over "${got[$method.bf16]}" "${got[$method.f32]}")" times
    done
    print "train pof step over puzzle step $precision" "$(over "${got[puzzle.$precision]}" "${got[pof.$precision]}")" times
done
