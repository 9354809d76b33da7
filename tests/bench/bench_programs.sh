#!/usr/bin/env bash
# Programs as a user meets them: start-up, a pipe of five, the median of a stored stream beside decoding it.
set -eu -o pipefail
SIZE=512
. "$(dirname "$0")/belt.sh"

# ---- start-up of every program without a network ---------------------------------------------------------------

start_up() { # program: median of 51 runs in ms
    local i
    for ((i = 0; i < 51; i++)); do spent "$1" --version; done | sort -n | sed -n 26p
}

slowest=0
for program in "$B"/bin/ws2-*; do
    name=$(basename "$program")
    case $name in ws2-train | ws2-cam | ws2-raft) continue ;; esac
    ms=$(start_up "$name")
    slowest=$(awk "BEGIN { print ($ms > $slowest ? $ms : $slowest) }")
    [ "$name" = ws2-ls ] && print "start-up of ws2-ls" "$ms" ms
done
print "start-up of the slowest program without a network" "$slowest" ms

# ---- five filters in a pipe ------------------------------------------------------------------------------------

# What a filter costs that leaves frames as they are. bench_stream does the same with noise, in one program.
pick() {
    ws2-pick -q "$@"
}
one() {
    pick -o /dev/null "$folder/frames.ws2"
}
five() {
    pick "$folder/frames.ws2" | pick | pick | pick | pick -o /dev/null
}
ws2-synth --size $SIZE --frames 101 --seed 1 --tensors rgb -j "$THREADS" -z 3 -o "$folder/frames.ws2"
five
print "5 filters in a pipe, 512x512 frame" "$(awk "BEGIN { print $(spent five) / 101 }")" ms
print "1 filter, 512x512 frame" "$(awk "BEGIN { print $(spent one) / 101 }")" ms

# ---- ws2-median beside decoding --------------------------------------------------------------------------------

median() { # passes
    ws2-median -q --passes "$1" -o "$folder/belt.ws2" "$folder/frames.ws2"
}
decoding=$(spent ws2-check "$folder/frames.ws2")
print "decoding 101 frames 512x512 (ws2-check)" "$decoding" ms
for passes in 1 2; do
    ms=$(spent median $passes)
    print "ws2-median of them, passes $passes" "$ms" ms
    print "ws2-median over decoding, passes $passes" "$(awk "BEGIN { print $ms / $decoding }")" times
done
