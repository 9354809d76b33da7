"""The number generator that both sides of a golden fixture fill their tensors from.

s0 = FNV-1a of the tensor's key; s <- s * 1664525 + 1013904223 mod 2^32; value = ((s >> 8) / 2^24 - 1/2) * 2 * b.
Weights of convolutions and linear layers take b = sqrt(6 / fan_in), biases 0.1, batch-norm weights 1 + value with
b = 0.2, running means 0.1, running variances 1 + |value| with b = 0.5. tests/unit/generator.h is the same in C.
"""
import math

import numpy as np


def fnv1a(text):
    h = 0x811C9DC5
    for byte in text.encode():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def states(key, count):
    """By doubling: the next n states are a^n times the last n plus one number, all modulo 2^32."""
    out = np.empty(count, np.uint32)
    a, c, n = 1664525, 1013904223, 1
    out[:1] = (fnv1a(key) * a + c) & 0xFFFFFFFF
    while n < count:
        more = min(n, count - n)
        out[n : n + more] = out[:more] * np.uint32(a) + np.uint32(c)
        a, c, n = a * a & 0xFFFFFFFF, (a * c + c) & 0xFFFFFFFF, n + more
    return out


def values(key, shape, b):
    count = int(np.prod(shape)) if len(shape) else 1
    v = ((states(key, count) >> 8).astype(np.float64) / 2**24 - 0.5) * 2 * b
    return v.reshape(shape)


def fill(state):
    """The value of every entry of a state dict: {key: shape} -> {key: float64 array}."""
    out = {}
    for key, shape in state.items():
        shape = tuple(shape)
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith("running_mean"):
            out[key] = values(key, shape, 0.1)
        elif key.endswith("running_var"):
            out[key] = 1 + np.abs(values(key, shape, 0.5))
        elif len(shape) >= 2:
            out[key] = values(key, shape, math.sqrt(6 / np.prod(shape[1:])))
        elif key.endswith("weight"):
            out[key] = 1 + values(key, shape, 0.2)
        else:
            out[key] = values(key, shape, 0.1)
    return out


def image(height, width, key="image"):
    """u8 [height, width, 3]: the top byte of each state."""
    return (states(key, height * width * 3) >> 24).astype(np.uint8).reshape(height, width, 3)
