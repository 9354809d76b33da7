#!/usr/bin/env bash
# Mean end-point error of ws2-flow: the simulated belt at several speeds, with everything on it rolling or sliding, and
# real pairs with truth where WS2_TESTDATA names them. Frames and the order of figures as in peer_flow.py.
set -eu -o pipefail
. "$(dirname "$0")/belt.sh"

# The mean over all pixels with truth, and over those seen in the other frame.
errors() { # what, file
    ws2-epe "$2" | awk -F '\t' -v what="$1" 'NR > 1 && ($3 == "all" || $3 == "visible") && $5 != "-" {
        printf "%s, %s\t%s\tpx\n", what, $3, $5 }'
}

simulated() { # what, ws2-synth options...
    local what=$1
    shift
    ws2-synth --frames 3 --seed 7 --tensors rgb,flow.next,flow.next.valid "$@" -o "$folder/synth"
    ws2-pick --rename flow.next=flow.truth.next --rename flow.next.valid=flow.truth.next.valid "$folder/synth" |
        ws2-flow -j 2 | ws2-pick --frames 0:1 -o "$folder/flow"
    errors "flow error $what" "$folder/flow"
}

for size in 512 1000; do
    for shift in 5 12 20 37 60 90 120; do
        simulated "${size}x$size belt $shift px" --size $size --speed "$(awk "BEGIN { print $shift / $size }")"
    done
done
for shift in 12 37; do
    simulated "512x512 all rolls or slides $shift px" --size 512 --rolling 1 --sliding 1 \
        --speed "$(awk "BEGIN { print $shift / 512 }")"
done

real() { # what, first frame, second frame, truth
    local pair=$WS2_TESTDATA/flow/$1
    ws2-read --seq pair "$pair/$2" "$pair/$3" -o "$folder/frames"
    first=$(ws2-ls "$folder/frames" | awk -F '\t' 'NR == 2 { print $8 }')
    ws2-flow --read "$pair/$4" --name flow.truth "$folder/frames" | ws2-flow |
        ws2-pick --frames "$first:$((first + 1))" -o "$folder/flow"
    errors "flow error $1" "$folder/flow"
}
if [ -n "${WS2_TESTDATA:-}" ]; then
    real mb_RubberWhale frame10.png frame11.png flow10.flo
    real mb_Venus frame10.png frame11.png flow10.flo
    real sintel_easy frame_0002.png frame_0003.png flow_0002.flo
    real kitti frame1.png frame2.png flow_gt.png
fi
