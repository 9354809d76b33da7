#!/usr/bin/env bash
# Dense learning. Images per second of ws2-seg-train, as the log reports them for the second epoch (see bench_train.sh): as it is
# when nothing is asked for (plain), and of round 0, positive-unlabelled, and round 1, balanced with a teacher, both with the
# frames' own loss. Frames per second of
# ws2-seg from stream to stream at 512x512, as in bench_cam.sh; the camera gives 12. Settings as for peer_dense.py.
set -eu -o pipefail
. "$(dirname "$0")/belt.sh"
BATCH=${BATCH:-16} STEPS=${STEPS:-12} FRAMES=${FRAMES:-48} PICTURE=${PICTURE:-512}
REACHES=${REACHES:-8 4}

learn() { # options...
    ws2-seg-train -q --prior 0.6 --backbone "$BACKBONE" --device cpu -j "$THREADS" "$@"
}

time_learning() { # name, reach, precision, output, options...
    learn --resume --reach "$2" --precision "$3" --size "$SIZE" --batch "$BATCH" --epochs 2 --log "$folder/log" -o "$folder/$4" "${@:5}" \
        --validation "$folder/before.val" --validation "$folder/after.val" "$folder/before.ws2" "$folder/after.ws2"
    print "dense $1, reach $2 $3" "$(awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++)
        if ($i == "images_per_second") c = i } END { print $c }' "$folder/log")" images/s
}

# Round 1 reads the network of round 0, whose name is the last one's with its number.
rounds() { # reach, precision
    time_learning plain "$@" plain.safetensors
    time_learning "round 0" "$@" dense.0.safetensors --form absolute --frames 1
    time_learning "round 1" "$@" dense.safetensors --form absolute --frames 1 --rounds 1
    rm "$folder"/{plain,dense}.*
}

rate() { # reach, precision
    local seg="ws2-seg -q --precision $2 --device cpu -j $THREADS -w $folder/seg.$1"
    local many few
    few=$(spent $seg -o "$folder/marked" "$folder/before.few")
    many=$(spent $seg -o "$folder/marked" "$folder/before.ws2")
    awk "BEGIN { print 1000 * $FRAMES / ($many - $few) }"
}

precisions=f32
bf16_is_native && precisions="f32 bf16"

# Both cameras take turns: half of an epoch is of either.
belt $(((STEPS * BATCH + 1) / 2))
for role in before after; do ws2-pick --frames 0:4 -o "$folder/$role.val" "$folder/$role.ws2"; done
for reach in $REACHES; do
    for precision in $precisions; do rounds "$reach" "$precision"; done
done

few=$((2 * THREADS))
SIZE=$PICTURE belt $((FRAMES + few))
for role in before after; do ws2-pick --frames 0:$few -o "$folder/$role.few" "$folder/$role.ws2"; done
for reach in $REACHES; do
    learn --reach "$reach" --size "$PICTURE" --batch 2 --epochs 1 -o "$folder/seg.$reach" \
        --validation "$folder/before.few" --validation "$folder/after.few" "$folder/before.few" "$folder/after.few"
    for precision in $precisions; do
        print "ws2-seg ${PICTURE}x$PICTURE, reach $reach $precision (camera: 12)" "$(rate "$reach" "$precision")" images/s
    done
done
