#!/usr/bin/env bash
# Frames per second of ws2-cam from stream to stream, scales 0.5, 1 and 2, in the steady state: the time of many
# frames less that of one batch, so that neither libtorch's start nor the reading of the weights counts. Settings as
# for peer_cam.py.
set -eu -o pipefail
. "$(dirname "$0")/belt.sh"
BATCH=${BATCH:-8} FRAMES=${FRAMES:-64}

belt $((FRAMES + BATCH))
ws2-pick --frames 0:"$BATCH" -o "$folder/first.ws2" "$folder/before.ws2"
for method in standard puzzle; do
    ws2-train -q --method $method --size "$SIZE" --backbone "$BACKBONE" --stride "$STRIDE" --init none --epochs 0 \
        -o "$folder/$method.weights"
done

rate() { # precision, options...
    local cam="ws2-cam -q --precision $1 --batch $BATCH --scales 0.5,1,2 --flip no --device cpu -j $THREADS ${*:2}"
    local many few
    few=$(spent $cam -o "$folder/maps" "$folder/first.ws2")
    many=$(spent $cam -o "$folder/maps" "$folder/before.ws2")
    awk "BEGIN { print 1000 * $FRAMES / ($many - $few) }"
}

for precision in f32 $(bf16_is_native && echo bf16); do
    print "cam gradcam $precision" "$(rate $precision --method gradcam -w "$folder/standard.weights")" images/s
    print "cam gradcam at layer3 $precision" \
        "$(rate $precision --method gradcam --layer layer3 -w "$folder/standard.weights")" images/s
    print "cam puzzle $precision" "$(rate $precision --kernel cubic -w "$folder/puzzle.weights")" images/s
done
