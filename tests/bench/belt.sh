# Sourced by the benchmarks that run programs: a scratch folder, a stream from a simulated belt, a clock.

SIZE=${SIZE:-128} BACKBONE=${BACKBONE:-resnet18} STRIDE=${STRIDE:-16} PRECISION=${PRECISION:-f32}
THREADS=${OMP_NUM_THREADS:-$(nproc)}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

print() { # what, value, unit
    printf '%s\t%s\t%s\n' "$@"
}

# Milliseconds that the command took.
spent() {
    local start=${EPOCHREALTIME/./}
    "$@" >"$folder/printed"
    echo $((${EPOCHREALTIME/./} - start)) | awk '{ printf "%.3f\n", $1 / 1000 }'
}

# $folder/before.ws2 and after.ws2: frames with foreground masks, as the training has them, and what else is named.
belt() { # frames [tensors]
    local role
    for role in before after; do
        ws2-synth --size "$SIZE" --frames "$1" --role $role --seed 1 --tensors "rgb${2:+,$2}" -j "$THREADS" -o "$folder/$role.rgb"
        ws2-median -q -j "$THREADS" -o "$folder/$role.belt" "$folder/$role.rgb"
        ws2-bgmask -q -b "$folder/$role.belt" -j "$THREADS" -o "$folder/$role.ws2" "$folder/$role.rgb"
    done
}

bf16_is_native() {
    grep -qE '^flags.* (avx512_bf16|amx_bf16)' /proc/cpuinfo
}
