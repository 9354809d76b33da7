"""Losses and optimiser steps in PyTorch: writes train_steps.safetensors.

    loss.x [2,3], loss.y [2,3]; loss.mlsm, loss.ce, loss.bce (scalars) and the gradients loss.d_mlsm, loss.d_ce, loss.d_bce
    l1.a, l1.b [2,3,2,2]; l1.value: mean over all entries of |a - b| * y
    poly [5]: one weight from 1.0, gradient 1, the PolyOptimizer of PuzzleCAM (lr 0.1, wd 1e-4, T = 5)
    puzzle.terms [4]: class, tile class, reconstruction, total of one PuzzleCAM step (f64 net, alpha 2)
    puzzle.grad.KEY [8]: first values of the gradient; puzzle.norm.KEY: its Euclidean norm
    puzzle.mean: running mean of bn1 after the two passes, first 8
    puzzle.totals [4]: total loss at steps 0..3 of the paper's optimiser at lr 0.001 (so that four steps stay tame), T = 8
    cam.value: reconstruction term at "cam" level
    warp.maps [2,3,5,4], warp.flow [2,2,5,4]; warp.plain, warp.compat: the maps at p + flow(p)
    pof.terms [5]: class, tile class, reconstruction, temporal, total of one POF-CAM step (alpha 2, beta 6)
    pof.grad.KEY, pof.norm.KEY, pof.mean (after the four passes), pof.totals: as for the puzzle
    pof.variants [4]: temporal term with the papers' warp; with maps normalised before the warp; with both; total
        without tiles
    resize.flow [2,6,8] -> resize.cells [2,4,4] in cells
"""
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from safetensors.numpy import save_file

import generator

torch.set_num_threads(1)
out = {}

x = torch.tensor(generator.values("loss.x", (2, 3), 3.0), requires_grad=True)
y = torch.tensor([[1.0, 0, 0], [0, 0, 1]], dtype=torch.float64)
for name, loss in {
    "mlsm": F.multilabel_soft_margin_loss(x, y),
    "ce": F.cross_entropy(x, y),
    "bce": F.binary_cross_entropy(torch.softmax(x, 1), y),
}.items():
    (g,) = torch.autograd.grad(loss, x)
    out[f"loss.{name}"], out[f"loss.d_{name}"] = loss.detach().numpy(), g.numpy()
out["loss.x"], out["loss.y"] = x.detach().numpy(), y.numpy()

a, b = (torch.tensor(generator.values(k, (2, 3, 2, 2), 1.0)) for k in ("l1.a", "l1.b"))
out["l1.a"], out["l1.b"] = a.numpy(), b.numpy()
out["l1.value"] = (torch.abs(a - b) * y[:, :, None, None]).mean().numpy()


class PolyOptimizer(torch.optim.SGD):
    """As the WS2 authors' training code runs it: the third positional argument of SGD is the momentum."""

    def __init__(self, groups, lr, weight_decay, max_step, power=0.9, nesterov=True):
        super().__init__(groups, lr, weight_decay, nesterov=nesterov)
        self.step_number, self.max_step, self.power = 0, max_step, power
        self.first = [g["lr"] for g in self.param_groups]

    def step(self, closure=None):
        if self.step_number < self.max_step:
            factor = (1 - self.step_number / self.max_step) ** self.power
            for g, lr in zip(self.param_groups, self.first):
                g["lr"] = lr * factor
        super().step(closure)
        self.step_number += 1


w = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
opt = PolyOptimizer([{"params": [w], "lr": 0.1, "weight_decay": 1e-4}], 0.1, 1e-4, 5)
track = []
for _ in range(5):
    w.grad = torch.ones_like(w)
    opt.step()
    track.append(float(w.detach()))
out["poly"] = np.array(track)


class Puzzle(torch.nn.Module):
    """ResNet-18 with the first stride of layer4 set to 1 and a bias-free 1 x 1 class convolution."""

    def __init__(self):
        super().__init__()
        net = torchvision.models.resnet18()
        net.layer4[0].conv1.stride = net.layer4[0].downsample[0].stride = (1, 1)
        for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
            setattr(self, name, getattr(net, name))
        self.classifier = torch.nn.Conv2d(512, 3, 1, bias=False)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.classifier(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


net = Puzzle().double()
keys = {k: v.shape for k, v in net.state_dict().items()}
net.load_state_dict({k: torch.tensor(v) for k, v in generator.fill(keys).items()}, strict=False)
net.train()
X = torch.tensor(generator.values("puzzle.x", (2, 3, 64, 64), 2.0))


def tiles(x):
    h, w = x.shape[2] // 2, x.shape[3] // 2
    return torch.cat([x[:, :, :h, :w], x[:, :, :h, w:], x[:, :, h:, :w], x[:, :, h:, w:]])


def merge(f):
    a, b, c, d = f.chunk(4)
    return torch.cat([torch.cat([a, b], 3), torch.cat([c, d], 3)], 2)


def norm(f):
    f = F.relu(f)
    return F.relu(f - 1e-5) / (f.amax((2, 3), keepdim=True) + 1e-5)


def step(level="feature"):
    f, p = net(X), merge(net(tiles(X)))
    l1 = F.multilabel_soft_margin_loss(f.mean((2, 3)), y)
    l2 = F.multilabel_soft_margin_loss(p.mean((2, 3)), y)
    if level == "cam":
        f, p = norm(f), norm(p)
    re = (torch.abs(f - p) * y[:, :, None, None]).mean()
    return l1, l2, re, l1 + l2 + 2 * re


terms = step()
terms[3].backward()
out["puzzle.terms"] = np.array([float(t.detach()) for t in terms])
named = dict(net.named_parameters())
for key in ("conv1.weight", "bn1.bias", "layer2.0.downsample.0.weight", "layer4.1.conv2.weight", "classifier.weight"):
    g = named[key].grad.flatten()
    out[f"puzzle.grad.{key}"], out[f"puzzle.norm.{key}"] = g[:8].numpy().copy(), np.array(float(g.norm()))
out["puzzle.mean"] = net.bn1.running_mean[:8].numpy().copy()

groups = [[], [], [], []]
for key, p in named.items():
    groups[(2 if key.startswith("classifier") else 0) + (0 if key.endswith("weight") else 1)].append(p)
opt = PolyOptimizer(
    [
        {"params": groups[0], "lr": 0.001, "weight_decay": 1e-4},
        {"params": groups[1], "lr": 0.002, "weight_decay": 0},
        {"params": groups[2], "lr": 0.01, "weight_decay": 1e-4},
    ],
    0.001,
    1e-4,
    8,
)
totals = [float(terms[3].detach())]
opt.step()
for _ in range(3):
    opt.zero_grad()
    t = step()
    t[3].backward()
    opt.step()
    totals.append(float(t[3].detach()))
out["puzzle.totals"] = np.array(totals)

net.load_state_dict({k: torch.tensor(v) for k, v in generator.fill(keys).items()}, strict=False)
out["cam.value"] = np.array(float(step("cam")[2].detach()))


def warp(maps, flow, compat=False):
    """Backward: the value at p + flow(p). compat: as the WS2 authors' code, which mixes two conventions."""
    h, w = maps.shape[2:]
    x = torch.arange(w, dtype=maps.dtype)[None, None, :] + flow[:, 0]
    y = torch.arange(h, dtype=maps.dtype)[None, :, None] + flow[:, 1]
    grid = torch.stack([2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1], 3)
    if not compat:
        return F.grid_sample(maps, grid, align_corners=True)
    inside = F.grid_sample(torch.ones_like(maps), grid, align_corners=False)
    return F.grid_sample(maps, grid, align_corners=False) * (inside >= 0.9999)


maps = torch.tensor(generator.values("warp.maps", (2, 3, 5, 4), 1.0))
flow = torch.tensor(generator.values("warp.flow", (2, 2, 5, 4), 2.0))
out["warp.maps"], out["warp.flow"] = maps.numpy(), flow.numpy()
out["warp.plain"], out["warp.compat"] = warp(maps, flow).numpy(), warp(maps, flow, True).numpy()

flow = torch.tensor(generator.values("resize.flow", (2, 6, 8), 20.0)).half().double()
out["resize.flow"] = flow.numpy()
small = F.interpolate(flow[None], (4, 4), mode="bilinear", align_corners=False)[0]
out["resize.cells"] = (small * torch.tensor([4 / 8, 4 / 6])[:, None, None]).numpy()

frames = [torch.tensor(generator.values(f"pof.{k}", (2, 3, 64, 64), 2.0)) for k in ("left", "centre", "right")]
flows = [torch.tensor(generator.values(f"pof.flow_{k}", (2, 2, 4, 4), 1.5)) for k in ("left", "right")]


def pof(compat=False, first=False, with_tiles=True):
    f = net(frames[1])
    zero = torch.zeros((), dtype=f.dtype)
    l1, l2, spatial = F.multilabel_soft_margin_loss(f.mean((2, 3)), y), zero, zero
    if with_tiles:
        p = merge(net(tiles(frames[1])))
        l2 = F.multilabel_soft_margin_loss(p.mean((2, 3)), y)
        spatial = (torch.abs(f - p) * y[:, :, None, None]).mean()
    sides = [net(frames[0]), net(frames[2])]
    sides = [norm(s) if first else F.relu(s) for s in sides]
    fused = torch.maximum(*[warp(s, v, compat) for s, v in zip(sides, flows)])
    fused = fused if first else norm(fused)
    temporal = (torch.abs(norm(f) - fused) * y[:, :, None, None]).mean()
    return l1, l2, spatial, temporal, l1 + l2 + 2 * spatial + 6 * temporal


def fresh():
    net.load_state_dict({k: torch.tensor(v) for k, v in generator.fill(keys).items()}, strict=False)
    net.zero_grad()


def value(term):
    return float(term.detach())


fresh()
terms = pof()
terms[4].backward()
out["pof.terms"] = np.array([value(t) for t in terms])
for key in ("conv1.weight", "bn1.bias", "layer2.0.downsample.0.weight", "layer4.1.conv2.weight", "classifier.weight"):
    g = named[key].grad.flatten()
    out[f"pof.grad.{key}"], out[f"pof.norm.{key}"] = g[:8].numpy().copy(), np.array(float(g.norm()))
out["pof.mean"] = net.bn1.running_mean[:8].numpy().copy()
opt = PolyOptimizer(
    [
        {"params": groups[0], "lr": 0.001, "weight_decay": 1e-4},
        {"params": groups[1], "lr": 0.002, "weight_decay": 0},
        {"params": groups[2], "lr": 0.01, "weight_decay": 1e-4},
    ],
    0.001,
    1e-4,
    8,
)
totals = [value(terms[4])]
opt.step()
for _ in range(3):
    opt.zero_grad()
    t = pof()
    t[4].backward()
    opt.step()
    totals.append(value(t[4]))
out["pof.totals"] = np.array(totals)
fresh()
out["pof.variants"] = np.array(
    [
        value(pof(compat=True)[3]),
        value(pof(first=True)[3]),
        value(pof(compat=True, first=True)[3]),
        value(pof(with_tiles=False)[4]),
    ]
)

save_file({k: np.atleast_1d(np.ascontiguousarray(v)) for k, v in out.items()}, pathlib.Path(__file__).with_suffix(".safetensors"))
for k, v in out.items():
    print(k, np.asarray(v).ravel()[:4])
