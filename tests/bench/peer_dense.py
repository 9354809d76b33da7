"""The same dense learning as ws2-seg-train in PyTorch, as its user would write it, and the same marking as ws2-seg.

Same network (a pyramid on torchvision's ResNet), same losses, AdamW, augmentation (NumPy, in a DataLoader worker), size,
batch, threads and precision; the teacher of round 1 is a network of the same shape and sees pictures before the sorter alone.
Channels last (LAYOUT=contiguous for the other). Frames are in memory already and marks are not written, in the peer's favour:
ours are decoded from a stream file and written to one. Marking takes frames one at a time, with all threads at each. SIZE,
BATCH, BACKBONE, STEPS, FRAMES, PICTURE and REACHES come from the environment, as for bench_dense.sh.
"""
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchvision

from precisions import precisions

SIZE, BATCH, STEPS = (int(os.environ.get(k, v)) for k, v in (("SIZE", "128"), ("BATCH", "16"), ("STEPS", "12")))
FRAMES, PICTURE = (int(os.environ.get(k, v)) for k, v in (("FRAMES", "48"), ("PICTURE", "512")))
BACKBONE, REACHES = os.environ.get("BACKBONE", "resnet18"), os.environ.get("REACHES", "8 4").split()
LAYOUT = getattr(torch, {"contiguous": "contiguous_format"}.get(os.environ.get("LAYOUT"), "channels_last"))
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
FILL = np.uint8(255 * MEAN + 0.5)
AFTER, BEFORE = 0, 1
PRIOR, TOP, PASTE, LOW, HIGH, THRESHOLD = 0.6, 0.2, 0.5, 0.4, 0.6, 0.5


def scenes(count, size):
    """Noise, on a belt of which a sixth holds items, squares of 16 pixels."""
    rng = np.random.default_rng(0)
    fg = rng.random((count, (size + 15) // 16, (size + 15) // 16)) < 1 / 6
    fg = fg.repeat(16, 1).repeat(16, 2)[:, :size, :size]
    return rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8), fg


class Frames(torch.utils.data.Dataset):
    """Pictures of both cameras in turn, the belt blanked, augmented; and which camera saw each pixel, plus 1."""

    def __init__(self, count):
        self.rgb, self.fg = scenes(64, SIZE)
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        label, fg = i % 2, self.fg[i % 64]
        keep = np.where(fg, np.uint8(1 + label), np.uint8(0))
        rgb = np.where(fg[..., None], self.rgb[i % 64], FILL)
        if rng.random() < PASTE:
            other = 2 * int(rng.integers(32))  # of after
            step = rng.choice([-1, 1]), rng.choice([-1, 1])
            beside = self.fg[other][:: step[0], :: step[1]] & ~fg
            rgb[beside] = self.rgb[other][:: step[0], :: step[1]][beside]
            keep[beside] = 1 + AFTER
        step = rng.choice([-1, 1]), rng.choice([-1, 1])
        rgb, keep = rgb[:: step[0], :: step[1]], keep[:: step[0], :: step[1]]
        gain = (1 + rng.normal(0, 0.05, 3)) * (1 + rng.normal(0, 0.1))
        values = np.arange(256)[:, None] * gain + 255 * rng.normal(0, 0.03) + 0.5
        table = values.clip(0, 255).astype(np.uint8)
        rgb = np.where(keep[..., None] > 0, table[rgb, [0, 1, 2]], rgb)
        if rng.random() < 0.5:
            rgb, keep = rgb.swapaxes(0, 1), keep.T
        x = (rgb.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(x).permute(2, 0, 1), torch.from_numpy(keep.copy()), label


class Pyramid(torch.nn.Module):
    def __init__(self, reach):
        super().__init__()
        trunk = getattr(torchvision.models, BACKBONE)()
        self.stem = torch.nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        self.layers = torch.nn.ModuleList([trunk.layer1, trunk.layer2, trunk.layer3][: {4: 1, 8: 2, 16: 3}[reach]])
        width = [trunk.fc.in_features >> 3 - i for i in range(3)]
        self.laterals = torch.nn.ModuleList(torch.nn.Conv2d(w, 64, 1) for w in width[: len(self.layers)])
        self.smooth, self.smooth_bn = torch.nn.Conv2d(64, 64, 3, padding=1, bias=False), torch.nn.BatchNorm2d(64)
        self.logit = torch.nn.Conv2d(64, 1, 1)

    def forward(self, x):
        y, side = self.stem(x), []
        for layer, lateral in zip(self.layers, self.laterals):
            y = layer(y)
            side.append(lateral(y))
        top = side.pop()
        while side:
            finer = side.pop()
            top = finer + F.interpolate(top, finer.shape[2:], mode="nearest")
        top = self.logit(F.relu(self.smooth_bn(self.smooth(top))))
        return F.interpolate(top.float(), x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def network(reach):
    return Pyramid(reach).to(memory_format=LAYOUT)


def frame_loss(z, keep, label):
    losses = []
    for logits, camera, seen in zip(z, keep, label.tolist()):
        own = logits[camera == 1 + seen]
        if len(own) >= 0.001 * logits.numel():
            top = own.topk(max(1, int(TOP * len(own))), sorted=False).values.mean()
            losses.append(F.softplus(-top if seen == BEFORE else top))
    return torch.stack(losses).mean()


def plain_loss(net, teacher, x, keep, label):
    z = net(x)
    return F.softplus(-z[keep == 1 + BEFORE]).mean() + F.softplus(z[keep == 1 + AFTER]).mean()


def mixture_loss(net, teacher, x, keep, label):
    z = net(x)
    before, after = z[keep == 1 + BEFORE], z[keep == 1 + AFTER]
    negative = F.softplus(-before).mean() - PRIOR * F.softplus(-after).mean()
    return PRIOR * F.softplus(after).mean() + negative.abs() + frame_loss(z, keep, label)


def round_loss(net, teacher, x, keep, label):
    p, rows = torch.zeros(keep.shape), label == BEFORE
    with torch.no_grad():
        p[rows] = torch.sigmoid(teacher(x[rows]))
    before, after = keep == 1 + BEFORE, keep == 1 + AFTER
    wanted, unwanted = 0.5 * after + (before & (p < LOW)), (before & (p >= HIGH)).float()
    z = net(x)
    loss = (wanted * F.softplus(z)).sum() / wanted.sum().clamp_min(0.5)
    loss = (loss + (unwanted * F.softplus(-z)).sum() / unwanted.sum().clamp_min(1)) / 2
    return loss + frame_loss(z, keep, label)


def learn(name, loss_of, reach, precision):
    net, teacher = network(reach).train(), network(reach).eval()
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-3)
    loader = torch.utils.data.DataLoader(Frames((STEPS + 3) * BATCH), BATCH, num_workers=1, drop_last=True)
    began = None
    for i, (x, keep, label) in enumerate(loader):
        if i == 3:
            began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(net, teacher, x.to(memory_format=LAYOUT), keep, label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
    rate = STEPS * BATCH / (time.perf_counter() - began)
    print(f"dense {name}, reach {reach} {precision}\t{rate:.3f}\timages/s")


def mark(reach, precision):
    net, (rgb, fg) = network(reach).eval(), scenes(8, PICTURE)
    mean, std = torch.from_numpy(MEAN)[:, None, None], torch.from_numpy(STD)[:, None, None]

    def one(i):
        picture = torch.from_numpy(np.where(fg[i % 8][..., None], rgb[i % 8], FILL))
        x = ((picture.permute(2, 0, 1) / 255 - mean) / std)[None].to(memory_format=LAYOUT)
        item = torch.from_numpy(fg[i % 8])
        p = torch.sigmoid(net(x))[0] * item
        prob = torch.stack([(1 - p) * item, p]).half()
        return prob.numpy(), (item & (p >= THRESHOLD)).byte().numpy()

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for i in range(4):
            one(i)
        began = time.perf_counter()
        for i in range(FRAMES):
            one(i)
        seconds = time.perf_counter() - began
    print(f"ws2-seg {PICTURE}x{PICTURE}, reach {reach} {precision} (camera: 12)\t{FRAMES / seconds:.3f}\timages/s")


torch.manual_seed(0)
torch.set_num_threads(THREADS)
for reach in map(int, REACHES):
    for precision in precisions():
        for name, loss_of in (("plain", plain_loss), ("round 0", mixture_loss), ("round 1", round_loss)):
            learn(name, loss_of, reach, precision)
for reach in map(int, REACHES):
    for precision in precisions():
        mark(reach, precision)
print(f"# {BACKBONE} {SIZE} px batch {BATCH} torch {torch.__version__}", file=sys.stderr)
