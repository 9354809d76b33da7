"""Fixtures from torchvision's RAFT, small and large, in float64.

Weights and images come from generator.py (rounded to float32, as the C side gets them), those of the flow head's last
convolution divided by 8. Stored, for images of 136x128:
every 17th element of the features of the first image, every 37th of the flow after 1, 2 and 12 updates (as all that the
network gives with 12), and of the flow back after 2; and for images of 141x100, padded by repeating their edges, of the
flow after 3. NAME.f32 is how far torchvision itself is off in float32. Run: python3 tests/golden/raft.py
"""
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from safetensors.numpy import save_file
from torchvision.models.optical_flow import raft

import generator

# torchvision makes this grid in float32 always; here it has the default type, as all else.
grid = raft.make_coords_grid
raft.make_coords_grid = lambda *size: grid(*size).to(torch.get_default_dtype())


def network(size):
    net = getattr(torchvision.models.optical_flow, "raft_" + size)(weights=None)
    filled = generator.fill({k: v.shape for k, v in net.state_dict().items()})
    # Flows of an untrained network leave the picture and its float32 numbers drift apart; smaller steps keep them in.
    for key in ("update_block.flow_head.conv2.weight", "update_block.flow_head.conv2.bias"):
        filled[key] = filled[key] / 8
    state = {k: torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for k, v in filled.items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
    return net.eval()


def image(height, width, key):
    x = (generator.image(height, width, key).astype(np.float64) / 255 - 0.5) / 0.5
    return torch.from_numpy(x.transpose(2, 0, 1))[None]


def padded(x):
    height, width = x.shape[2:]
    rows, columns = (max(128, (n + 7) // 8 * 8) - n for n in (height, width))
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), mode="replicate")


def odd(net, dtype):
    a, b = (image(100, 141, key).to(dtype) for key in ("image1", "image2"))
    flow = net(padded(a), padded(b), num_flow_updates=3)[-1]
    top, left = (flow.shape[2] - 100) // 2, (flow.shape[3] - 141) // 2
    return flow[:, :, top : top + 100, left : left + 141]


def results(size, dtype):
    torch.set_default_dtype(dtype)
    net = network(size).to(dtype)
    a, b = (image(128, 136, key).to(dtype) for key in ("image1", "image2"))
    with torch.no_grad():
        out = {"fmap": net.feature_encoder(a).flatten()[::17]}
        flows = net(a, b, num_flow_updates=12)
        for updates in (1, 2, 12):
            out[f"flow{updates}"] = flows[updates - 1].flatten()[::37]
        out["back2"] = net(b, a, num_flow_updates=2)[-1].flatten()[::37]
        out["odd3"] = odd(net, dtype).flatten()[::37]
    return {f"{size}.{k}": v.double().numpy() for k, v in out.items()}


def main():
    out = {}
    for size in ("small", "large"):
        double, single = results(size, torch.float64), results(size, torch.float32)
        for key, value in double.items():
            gap = np.abs(value - single[key]).max() / max(1, np.abs(value).max())
            out[key], out[key + ".f32"] = value, np.array(gap)
            print(f"{key}: up to {np.abs(value).max():.3g}; torchvision in float32 differs by {gap:.2e}")
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, "tests/golden/raft.safetensors")


if __name__ == "__main__":
    main()
