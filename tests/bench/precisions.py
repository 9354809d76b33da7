"""What the peers share: which precisions networks are timed in."""


def precisions():
    """bfloat16 only where the processor has instructions for it; elsewhere it is emulated."""
    with open("/proc/cpuinfo") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
    return ("f32", "bf16") if {"avx512_bf16", "amx_bf16"} & set(flags) else ("f32",)
