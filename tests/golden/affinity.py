"""Affinities in PyTorch: writes affinity.safetensors. All in float64; NAME.f32 is what float32 is off by.

    features.8, features.16   AffinityNet's head on torchvision's ResNet-18, whose layer4 does not shrink, on grids of 8 and
                              16 pixels: every 101st value of [1,512,h,w]
    edges                     logits of IRN's edge head on the same, [2,1,16,16]; the second picture is mirrored
    loss.N.KIND [4]           belt, thing, other and total of random features [2,7,13,15] or edges [2,23,25] (KIND), within
                              a radius of N = 5, 10
    gradient.N.KIND           of the total, every value

Weights, pictures, features, edges and labels come from generator.py. Run: python3 tests/golden/affinity.py
"""
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from safetensors.numpy import save_file

import generator
from resnet import images

torch.set_num_threads(1)


# ---- networks ---------------------------------------------------------------------------------------------------


def trunk():
    net = torchvision.models.resnet18(num_classes=3)
    block = net.layer4[0]
    block.conv1.stride = block.downsample[0].stride = (1, 1)
    return net


def features_head():
    layers = {"f8_3": (64, 128), "f8_4": (128, 256), "f8_5": (320, 512), "f9": (512, 512)}
    return torch.nn.ModuleDict({k: torch.nn.Conv2d(i, o, 1, bias=False) for k, (o, i) in layers.items()})


def edges_head():
    wide = (64, 64, 128, 256, 512)
    head = {f"fc_edge{k + 1}": torch.nn.Sequential(torch.nn.Conv2d(n, 32, 1, bias=False), torch.nn.GroupNorm(4, 32))
            for k, n in enumerate(wide)}
    return torch.nn.ModuleDict({**head, "fc_edge6": torch.nn.Conv2d(160, 1, 1)})


def fill(net, dtype):
    """In evaluation mode, with the generator's numbers rounded to float32, as the C side gets them."""
    filled = generator.fill({k: v.shape for k, v in net.state_dict().items()})
    missing, unexpected = net.load_state_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in filled.items()}, strict=False)
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
    return net.to(dtype).eval()


def levels(net, x):
    out = [net.maxpool(net.relu(net.bn1(net.conv1(x))))]
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        out.append(layer(out[-1]))
    return out


def bring(x, like):
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def features(head, level, cell):
    grid = level[2 if cell == 8 else 3]
    parts = [bring(F.elu(head[f"f8_{k + 1}"](level[k])), grid) for k in (2, 3, 4)]
    return F.elu(head["f9"](torch.cat(parts, 1)))


def edges(head, level):
    parts = [F.relu(bring(head[f"fc_edge{k + 1}"](x), level[1])) for k, x in enumerate(level)]
    return head["fc_edge6"](torch.cat(parts, 1))


def networks(dtype):
    level = levels(fill(trunk(), dtype), images().to(dtype))
    head = fill(features_head(), dtype)
    out = {f"features.{cell}": features(head, [x[:1] for x in level], cell).flatten()[::101] for cell in (8, 16)}
    return {**out, "edges": edges(fill(edges_head(), dtype), level)}


# ---- losses -----------------------------------------------------------------------------------------------------


def offsets(radius):
    """The half plane downwards and to the right, nearer than the radius."""
    reach = range(1 - radius, radius)
    return [(y, x) for y in range(radius) for x in reach if (y > 0 or x > 0) and y * y + x * x < radius * radius]


def way(y, x):
    """Cells less than 1 from the straight line to (y, x), the farthest first."""
    box = [(v, u) for v in range(y + 1) for u in range(min(0, x), max(0, x) + 1)]
    near = [(v, u) for v, u in box if (y * u - x * v) ** 2 < y * y + x * x]
    return sorted(near, key=lambda c: -c[0] - abs(c[1]))


def places(radius, height, width, y, x):
    """Flat indices of (y, x) as seen from all pixels that start pairs."""
    rows = torch.arange(0, height - radius + 1) + y
    columns = torch.arange(radius - 1, width - radius + 1) + x
    return (rows[:, None] * width + columns).flatten()


def feature_affinity(x, radius):
    height, width = x.shape[2:]
    flat = x.flatten(2)
    first = flat.index_select(2, places(radius, height, width, 0, 0))
    second = [flat.index_select(2, places(radius, height, width, *o)) for o in offsets(radius)]
    return torch.stack([torch.exp(-(first - s).abs().mean(1)) for s in second], 1)


def edge_affinity(x, radius):
    height, width = x.shape[1:]
    flat = x.flatten(1)
    out = []
    for o in offsets(radius):
        on_the_way = torch.stack([flat.index_select(1, places(radius, height, width, *c)) for c in way(*o)], 1)
        out.append(1 - on_the_way.max(1).values)
    return torch.stack(out, 1)


def losses(affinity, label, radius):
    height, width = label.shape[1:]
    flat = label.flatten(1)
    a = flat.index_select(1, places(radius, height, width, 0, 0))[:, None]
    b = torch.stack([flat.index_select(1, places(radius, height, width, *o)) for o in offsets(radius)], 1)
    known = (a != 255) & (b != 255)
    near, far = -torch.log(affinity + 1e-5), -torch.log(1 + 1e-5 - affinity)
    kinds = [(known & (a == b) & (a == 0), near), (known & (a == b) & (a != 0), near), (known & (a != b), far)]
    belt, thing, other = (torch.sum(loss * which) / (which.sum() + 1e-5) for which, loss in kinds)
    return torch.stack([belt, thing, other, belt / 4 + thing / 4 + other / 2])


def values(key, shape):
    """Rounded to float32, -1..1."""
    return torch.tensor(generator.values(key, shape, 1.0).astype(np.float32)).double()


def labels(key, shape):
    return torch.tensor(np.array([0, 1, 2, 255])[(generator.states(key, int(np.prod(shape))) >> 24) % 4]).reshape(shape)


def learning():
    cases = {"features": (feature_affinity, values("affinity features", (2, 7, 13, 15)), (2, 13, 15)),
             "edges": (edge_affinity, values("affinity edges", (2, 23, 25)).abs(), (2, 23, 25))}
    out = {}
    for radius, kind in ((5, "features"), (5, "edges"), (10, "edges")):
        affinity, x, shape = cases[kind]
        x = x.clone().requires_grad_()
        terms = losses(affinity(x, radius), labels(f"affinity labels {kind}", shape), radius)
        terms[3].backward()
        out[f"loss.{radius}.{kind}"], out[f"gradient.{radius}.{kind}"] = terms.detach(), x.grad
    return out


def main():
    double, single = networks(torch.float64), networks(torch.float32)
    out = {k: v.detach().numpy() for k, v in {**double, **learning()}.items()}
    for key, value in single.items():
        gap = np.abs(out[key] - value.detach().double().numpy()).max() / max(1, np.abs(out[key]).max())
        out[key + ".f32"] = np.array(gap)
        print(f"{key}: float32 differs by {gap:.2e}")
    for key in (k for k in out if k.startswith("loss")):
        print(key, out[key])
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, "tests/golden/affinity.safetensors")


if __name__ == "__main__":
    main()
