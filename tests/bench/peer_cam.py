"""The same maps as ws2-cam in PyTorch: pictures per second, scales 0.5, 1, 2.

"cam gradcam" shares one forward pass over the classes by the closed form, as ours does; "at layer3" takes one
backward pass per class with autograd, as pytorch-grad-cam would, but shares the forward pass; "cam puzzle" is the
class convolution's maps. Settings as for peer_train.py; frames are in memory already and maps are not written, in
the peer's favour.
"""
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchvision

from precisions import precisions

SIZE, BATCH, FRAMES = (int(os.environ.get(k, v)) for k, v in (("SIZE", "128"), ("BATCH", "8"), ("FRAMES", "64")))
BACKBONE, STRIDE = os.environ.get("BACKBONE", "resnet18"), int(os.environ.get("STRIDE", "16"))
LAYOUT = getattr(torch, {"contiguous": "contiguous_format"}.get(os.environ.get("LAYOUT"), "channels_last"))
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
SCALES = (0.5, 1.0, 2.0)

torch.manual_seed(0)
torch.set_num_threads(THREADS)
net = getattr(torchvision.models, BACKBONE)(num_classes=3).eval()
if STRIDE == 16:
    block = net.layer4[0]
    (block.conv2 if hasattr(block, "conv3") else block.conv1).stride = (1, 1)
    block.downsample[0].stride = (1, 1)
net = net.to(memory_format=LAYOUT)
for p in net.parameters():
    p.requires_grad_(False)
WEIGHT = net.fc.weight[:, :, None, None]
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
frames = np.random.default_rng(0).integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)


def stem(x):
    return net.layer3(net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))))


def unit(m):
    m = F.relu(m)
    m = m - m.amin((2, 3), keepdim=True)
    return m / (1e-7 + m.amax((2, 3), keepdim=True))


def post(m, size):
    return unit(F.interpolate(unit(m), size, mode="bilinear", align_corners=False))


def gradcam(x):
    a = net.layer4(stem(x)).float()
    net.fc(a.mean((2, 3)))
    return post(F.conv2d(a, WEIGHT), x.shape[2:])


def layer3(x):
    a = stem(x).detach().requires_grad_(True)
    with torch.enable_grad():
        z = net.fc(net.layer4(a).mean((2, 3)))
        scores = [z[:, c].sum() for c in range(3)]
    maps = []
    for c in range(3):
        (g,) = torch.autograd.grad(scores[c], a, retain_graph=c < 2)
        maps.append((g.float().mean((2, 3), keepdim=True) * a.detach().float()).sum(1))
    return post(torch.stack(maps, 1), x.shape[2:])


def puzzle(x):
    m = F.conv2d(net.layer4(stem(x)), WEIGHT)
    m.mean((2, 3))
    return F.relu(m.float())


def run(name, maps_of, precision, kernel="bilinear"):
    def batch(rgb):
        x = (torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
        total = torch.zeros(len(rgb), 3, SIZE, SIZE)
        for s in SCALES:
            side = int(SIZE / (1 / s))
            y = x if s == 1 else F.interpolate(x, (side, side), mode=kernel, align_corners=False)
            m = maps_of(y.to(memory_format=LAYOUT))
            total += F.interpolate(m, (SIZE, SIZE), mode="bilinear", align_corners=False)
        return (total / (total.amax((2, 3), keepdim=True) + 1e-5)).half().numpy()

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        batch(frames[:BATCH])
        began = time.perf_counter()
        for i in range(0, FRAMES, BATCH):
            batch(frames[i : i + BATCH])
        seconds = time.perf_counter() - began
    print(f"cam {name} {precision}\t{FRAMES / seconds:.3f}\timages/s")


for precision in precisions():
    run("gradcam", gradcam, precision)
    run("gradcam at layer3", layer3, precision)
    run("puzzle", puzzle, precision, "bicubic")
