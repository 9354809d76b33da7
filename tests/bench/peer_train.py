"""The same training as ws2-train in PyTorch, as its user would write it: images (of pof: triplets) per second.

Same network (torchvision), same losses and optimiser step, same colour jitter (torchvision on PIL pictures, in
DataLoader workers), same size, batch, threads and precision; channels last, which is the faster layout here too
(LAYOUT=contiguous for the other). Frames, and flow on the grid of the maps, are in memory already, in the peer's
favour: ours are decoded from a stream file, and the flow is resized. SIZE, BATCH, BACKBONE, STRIDE and STEPS come from the environment, as for bench_train.sh.
"""
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image

from precisions import precisions

SIZE, BATCH, STEPS = (int(os.environ.get(k, v)) for k, v in (("SIZE", "128"), ("BATCH", "16"), ("STEPS", "12")))
BACKBONE, STRIDE = os.environ.get("BACKBONE", "resnet18"), int(os.environ.get("STRIDE", "16"))
LAYOUT = getattr(torch, {"contiguous": "contiguous_format"}.get(os.environ.get("LAYOUT"), "channels_last"))
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Frames(torch.utils.data.Dataset):
    """Pictures with the belt blacked out, three classes; or triplets of them with two flows."""

    def __init__(self, count, triplets):
        rng = np.random.default_rng(0)
        self.rgb = rng.integers(0, 256, (64, SIZE, SIZE, 3), dtype=np.uint8)
        self.fg = rng.integers(0, 2, (64, SIZE, SIZE, 1), dtype=np.uint8)
        self.flow = rng.uniform(-1.5, 1.5, (64, 2, 2, SIZE // STRIDE, SIZE // STRIDE)).astype(np.float32)
        self.count, self.triplets = count, triplets
        self.transform = torchvision.transforms.Compose(
            [
                torchvision.transforms.ColorJitter(0.3, 0.3, 0.3),
                torchvision.transforms.ToTensor(),
                torchvision.transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return self.count

    def picture(self, i):
        return self.transform(Image.fromarray(self.rgb[i % 64] * self.fg[i % 64]))

    def __getitem__(self, i):
        if self.triplets:
            return self.picture(i), i % 3, self.picture(i - 1), self.picture(i + 1), *self.flow[i % 64]
        return self.picture(i), i % 3


def backbone():
    net = getattr(torchvision.models, BACKBONE)(num_classes=3)
    if STRIDE == 16:
        block = net.layer4[0]
        (block.conv2 if hasattr(block, "conv3") else block.conv1).stride = (1, 1)
        block.downsample[0].stride = (1, 1)
    return net


class Puzzle(torch.nn.Module):
    def __init__(self):
        super().__init__()
        net = backbone()
        width = net.fc.in_features
        self.body = torch.nn.Sequential(*list(net.children())[:-2])
        self.classifier = torch.nn.Conv2d(width, 3, 1, bias=False)

    def forward(self, x):
        return self.classifier(self.body(x))


def tiles(x):
    h, w = x.shape[2] // 2, x.shape[3] // 2
    return torch.cat([x[:, :, :h, :w], x[:, :, :h, w:], x[:, :, h:, :w], x[:, :, h:, w:]])


def merge(f):
    a, b, c, d = f.chunk(4)
    return torch.cat([torch.cat([a, b], 3), torch.cat([c, d], 3)], 2)


def norm(f):
    f = F.relu(f)
    return F.relu(f - 1e-5) / (f.amax((2, 3), keepdim=True) + 1e-5)


def warp(maps, flow):
    h, w = maps.shape[2:]
    x = torch.arange(w)[None, None, :] + flow[:, 0]
    y = torch.arange(h)[None, :, None] + flow[:, 1]
    return F.grid_sample(maps.float(), torch.stack([2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1], 3), align_corners=True)


def puzzle_terms(net, x, y):
    f, p = net(x), merge(net(tiles(x)))
    loss = F.multilabel_soft_margin_loss(f.mean((2, 3)), y) + F.multilabel_soft_margin_loss(p.mean((2, 3)), y)
    return f, loss + 2 * (torch.abs(f - p) * y[:, :, None, None]).mean()


def puzzle_loss(net, x, label):
    return puzzle_terms(net, x, F.one_hot(label, 3).float())[1]


def pof_loss(net, x, label, left, right, flow_left, flow_right):
    y = F.one_hot(label, 3).float()
    f, loss = puzzle_terms(net, x, y)
    fused = torch.maximum(warp(F.relu(net(left)), flow_left), warp(F.relu(net(right)), flow_right))
    return loss + 6 * (torch.abs(norm(f.float()) - norm(fused)) * y[:, :, None, None]).mean()


def standard_loss(net, x, label):
    return F.cross_entropy(net(x), label)


def run(name, net, loss_of, precision):
    net = net.train().to(memory_format=LAYOUT)
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    data = Frames((STEPS + 3) * BATCH, name == "pof")
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=1, drop_last=True)
    began = None
    for i, batch in enumerate(loader):
        if i == 3:
            began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(net, *(x.to(memory_format=LAYOUT) if x.shape[1:2] == (3,) else x for x in batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
    rate = STEPS * BATCH / (time.perf_counter() - began)
    print(f"train {name} {precision}\t{rate:.3f}\timages/s")
    return rate


torch.manual_seed(0)
torch.set_num_threads(THREADS)
for precision in precisions():
    run("standard", backbone(), standard_loss, precision)
    puzzle = run("puzzle", Puzzle(), puzzle_loss, precision)
    pof = run("pof", Puzzle(), pof_loss, precision)
    print(f"train pof step over puzzle step {precision}\t{puzzle / pof:.3f}\ttimes")
print(f"# {BACKBONE} stride {STRIDE} {SIZE} px batch {BATCH} torch {torch.__version__}", file=sys.stderr)
