"""The same flows as nn_bench_raft.c by torchvision, its model as it comes: pairs of frames per second, in float32.

One way is a call with a pair; both ways is a call with a batch of the pair and the pair turned round. From bytes to
flow in memory, as ours. SIZE=256 UPDATES=12 SECONDS_EACH=4 LAYOUT=contiguous|channels_last
"""
import os
import time

import numpy as np
import torch
import torchvision

SIZE, UPDATES, SECONDS = (int(os.environ.get(k, v)) for k, v in (("SIZE", 256), ("UPDATES", 12), ("SECONDS_EACH", 4)))
LAYOUT = torch.channels_last if os.environ.get("LAYOUT") == "channels_last" else torch.contiguous_format

torch.manual_seed(0)
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
noise = np.random.default_rng(0).integers(0, 256, SIZE * SIZE * 3 + 9, dtype=np.uint8)
frames = [noise[i : i + SIZE * SIZE * 3].reshape(SIZE, SIZE, 3) for i in (0, 9)]


def images(*chosen):
    x = torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2).float()
    return x.div_(255).sub_(0.5).div_(0.5).contiguous(memory_format=LAYOUT)


def one_way(net):
    return net(images(frames[0]), images(frames[1]), num_flow_updates=UPDATES)[-1].numpy()


def both_ways(net):
    return net(images(*frames), images(*frames[::-1]), num_flow_updates=UPDATES)[-1].numpy()


def measure(size, what, call):
    net = getattr(torchvision.models.optical_flow, "raft_" + size)(weights=None).eval().to(memory_format=LAYOUT)
    with torch.inference_mode():
        call(net)
        rounds, began = 0, time.perf_counter()
        while rounds < 2 or time.perf_counter() - began < SECONDS:
            call(net)
            rounds += 1
        seconds = time.perf_counter() - began
    print(f"raft {size} {what}\t{rounds / seconds:.4f}\tpairs/s", flush=True)


for size in ("small", "large"):
    measure(size, "one way", one_way)
    measure(size, "both ways", both_ways)
