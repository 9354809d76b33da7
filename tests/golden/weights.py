"""Small weight files by their real writers: torch.save (both containers) and the safetensors package, and a hostile one.

Values are index * 0.5 - 3 (or as written below), so that the test needs no second file. Run: python3 tests/golden/weights.py
"""
import os

import numpy as np
import torch
from safetensors.torch import save_file

HERE = os.path.join(os.path.dirname(__file__), "weights")


def ramp(*shape, dtype=torch.float32):
    count = int(np.prod(shape))
    return (torch.arange(count, dtype=torch.float64) * 0.5 - 3).to(dtype).reshape(shape)


def types():
    """One tensor of every element type, and every way a tensor may lie in its storage."""
    out = {"f32": ramp(2, 3), "f64": ramp(2, 3, dtype=torch.float64), "f16": ramp(2, 3, dtype=torch.float16),
           "bf16": ramp(2, 3, dtype=torch.bfloat16)}
    for name, dtype in {"u8": torch.uint8, "i8": torch.int8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64}.items():
        out[name] = torch.arange(6).reshape(2, 3).to(dtype)
    out["bool"] = torch.tensor([True, False, True])
    out["scalar"] = torch.tensor(2.5)
    out["empty"] = torch.zeros(0, 4)
    return out


def views():
    base = ramp(4, 6)
    return {"transposed": base.t(), "rows": base[1:3], "columns": base[:, 1::2], "whole": base}


def network():
    """The parts of a ResNet, reduced: convolution, batch normalisation, linear layer."""
    net = torch.nn.ModuleDict({"conv1": torch.nn.Conv2d(3, 4, 3, bias=False), "bn1": torch.nn.BatchNorm2d(4),
                               "fc": torch.nn.Linear(4, 3)})
    state = net.state_dict()
    for name, value in state.items():
        state[name] = torch.tensor(7) if value.dtype == torch.int64 else ramp(*value.shape)
    return state


class Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)


def main():
    os.makedirs(HERE, exist_ok=True)
    path = lambda name: os.path.join(HERE, name)
    torch.save({**types(), **views()}, path("types.pth"))
    torch.save({**types(), **views()}, path("types.stream.pth"), _use_new_zipfile_serialization=False)
    save_file({**types(), **{k: v.contiguous() for k, v in views().items() if k != "whole"}}, path("types.safetensors"),
              metadata={"made": "by safetensors"})
    torch.save(network(), path("network.pth"))
    torch.save({"epoch": 3, "state_dict": network()}, path("nested.pth"))
    save_file(network(), path("network.safetensors"))
    torch.save({"weight": Hostile()}, path("hostile.pth"))
    torch.save({"weight": Hostile()}, path("hostile.stream.pth"), _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
