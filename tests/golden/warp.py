"""Reference results of warping and resizing flow with PyTorch: writes warp.npy, flat, in the order in which
tests/unit/test_warp.c reads them.

For each of two flows on a 9 x 7 map (height x width) of 2 planes, one of any length up to 3 pixels, one of half pixels:

    plain    grid_sample with align_corners=True of p + F(p): zeros outside
    compat   the warp published with WS2: coordinates normalised with n - 1 and sampled with align_corners=False,
             times the plane of ones warped likewise and cut at 0.9999
    ones     that plane, u8 as f32

then a flow of 8 x 6 resized to 4 x 3, to 13 x 5 and to 8 x 6 (interpolate, align_corners=False, and in pixels of the
new size).
"""
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from generator import values

H, W = 9, 7


def warp(x, flow, compat):
    """x [1,c,H,W], flow [2,H,W]; the grid as the publication makes it."""
    yy, xx = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    place = torch.stack([xx, yy]).to(x.dtype) + flow
    grid = torch.stack([2.0 * place[0] / max(W - 1, 1) - 1.0, 2.0 * place[1] / max(H - 1, 1) - 1.0], -1)[None]
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=not compat)


def resize(flow, h, w):
    y = F.interpolate(flow[None], size=(h, w), mode="bilinear", align_corners=False)[0]
    return torch.stack([y[0] * (w / flow.shape[2]), y[1] * (h / flow.shape[1])])


out = []
x = torch.from_numpy(values("map", (1, 2, H, W), 1.0).astype(np.float32))
flow = torch.from_numpy(values("flow", (2, H, W), 3.0).astype(np.float32))
for f in (flow, torch.round(flow * 2) / 2):
    ones = (warp(torch.ones(1, 1, H, W), f, True) >= 0.9999).float()
    out += [warp(x.double(), f.double(), False), warp(x, f, True) * ones, ones]
small = torch.from_numpy(values("small", (2, 6, 8), 5.0).astype(np.float32))
for size in ((3, 4), (5, 13), (6, 8)):
    out.append(resize(small, *size))
flat = np.concatenate([a.numpy().astype(np.float32).ravel() for a in out])
np.save(pathlib.Path(__file__).with_suffix(".npy"), flat)
print(flat.shape, [float(a.abs().mean()) for a in out])
