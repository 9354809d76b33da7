"""Learning of pixels in PyTorch: writes dense.safetensors. All in float64; NAME.f32 is what float32 is off by.

    pu.LOGITS.PRIOR.FORM [4]  total, before, wanted and negative of the positive-unlabelled loss of [4,1,9,11] logits; LOGITS
                              plain; near, negative a little below 0; over, far below it. FORM absolute, kiryo with beta
                              0.1 and gamma 0.5, or plain, whatever the prior
    gradient.LOGITS.PRIOR.FORM   of the total, every value
    balanced, balanced.gradient  cross-entropy of pixels with weights, of the plain logits
    frames.LOGITS.SHARE, .gradient   the frames' own loss, with items of the other camera laid beside
    labels, labels.gradient   cross-entropy of known pixels, of the plain logits
    fpn.REACH                 logits of a pyramid on ResNet-18, every 7th of [2,1,64,64]; the second picture is mirrored
    fpn.REACH.odd             of one picture of 50x70 pixels
    fpn.REACH.train           of the same as the first, in training; .mean: the last running mean after it; .grad.NAME: the
                              first 64 gradients of the mean square of all logits

Weights, pictures, logits, masks and weights of pixels come from generator.py. Run: python3 tests/golden/dense.py
"""
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from safetensors.numpy import save_file

import generator
from resnet import MEAN, STD, images

torch.set_num_threads(1)

SHAPE = (4, 1, 9, 11)
AFTER, BEFORE = 0, 1
LABELS = torch.tensor([BEFORE, AFTER, AFTER, BEFORE])
BETA, GAMMA = 0.1, 0.5
SHIFTS = {"plain": 0.0, "near": 0.4, "over": 2.0}  # of before upwards, of after downwards


# ---- losses -----------------------------------------------------------------------------------------------------


def numbers(key, kinds):
    """Whole numbers below `kinds` for every pixel."""
    return torch.tensor((generator.states(key, int(np.prod(SHAPE))) >> 24) % kinds).long().reshape(SHAPE)


def logits(kind):
    z = torch.tensor(generator.values("dense logits", SHAPE, 3.0).astype(np.float32)).double()
    sign = torch.where(LABELS == BEFORE, 1.0, -1.0).double().reshape(4, 1, 1, 1)
    return (z + sign * SHIFTS[kind]).float().double().requires_grad_()


def positive_unlabelled(z, prior, form):
    keep = numbers("dense keep", 4) > 0
    camera = LABELS.reshape(4, 1, 1, 1).expand(SHAPE)
    b, a = z[keep & (camera == BEFORE)], z[keep & (camera == AFTER)]
    before, wanted = F.softplus(-b).mean(), F.softplus(a).mean()
    negative = before - prior * F.softplus(-a).mean()
    total = prior * wanted + negative.abs()
    if form == "kiryo":
        total = -GAMMA * negative if negative < -BETA else prior * wanted + negative
    if form == "plain":
        total = wanted + before
    return torch.stack([total, before, wanted, negative])


def balanced(z):
    wanted, unwanted = numbers("dense wanted", 3) / 2, numbers("dense unwanted", 4) / 3
    unwanted = unwanted.float().double()
    return (torch.sum(wanted * F.softplus(z)) / wanted.sum() + torch.sum(unwanted * F.softplus(-z)) / unwanted.sum()) / 2


def frames(z, share):
    keep = torch.where(numbers("dense keep", 4) > 0, 1 + LABELS.reshape(4, 1, 1, 1), 0)
    keep = torch.where((keep == 0) & (numbers("dense pasted", 2) > 0), 1 + AFTER, keep)
    loss = []
    for k, camera in enumerate(LABELS.tolist()):
        own = z[k][keep[k] == 1 + camera]
        top = torch.topk(own, max(1, int(share * len(own)))).values.mean()
        loss.append(F.softplus(-top if camera == BEFORE else top))
    return torch.stack(loss).mean()


def labels(z):
    label = numbers("dense labels", 3)  # 2: unknown
    known = (numbers("dense keep", 4) > 0) & (label < 2)
    return F.binary_cross_entropy_with_logits(z[known], label[known].double())


def with_gradient(name, z, loss):
    loss.backward()
    return {name: loss.detach(), f"{name}.gradient": z.grad}


def losses():
    out = {}
    for kind in SHIFTS:
        for prior in (0.0, 0.6):
            for form in ("absolute", "kiryo", "plain"):
                z = logits(kind)
                terms = positive_unlabelled(z, prior, form)
                terms[0].backward()
                name = f"{kind}.{prior:g}.{form}"
                out[f"pu.{name}"], out[f"gradient.{name}"] = terms.detach(), z.grad
        for share in (0.01, 0.2, 1.0):
            z = logits(kind)
            out |= with_gradient(f"frames.{kind}.{share:g}", z, frames(z, share))
    for name, loss in (("balanced", balanced), ("labels", labels)):
        z = logits("plain")
        out |= with_gradient(name, z, loss(z))
    return out


# ---- the network ------------------------------------------------------------------------------------------------


class Pyramid(torch.nn.Module):
    def __init__(self, reach):
        super().__init__()
        trunk = torchvision.models.resnet18()
        self.conv1, self.bn1, self.relu, self.maxpool = trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool
        self.layer1, self.lateral1 = trunk.layer1, torch.nn.Conv2d(64, 64, 1)
        if reach >= 8:
            self.layer2, self.lateral2 = trunk.layer2, torch.nn.Conv2d(128, 64, 1)
        if reach == 16:
            self.layer3, self.lateral3 = trunk.layer3, torch.nn.Conv2d(256, 64, 1)
        self.smooth, self.smooth_bn = torch.nn.Conv2d(64, 64, 3, padding=1, bias=False), torch.nn.BatchNorm2d(64)
        self.logit = torch.nn.Conv2d(64, 1, 1)
        self.levels = {4: 1, 8: 2, 16: 3}[reach]

    def forward(self, x):
        y = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        side = []
        for k in range(1, self.levels + 1):
            y = getattr(self, f"layer{k}")(y)
            side.append(getattr(self, f"lateral{k}")(y))
        top = side.pop()
        while side:
            finer = side.pop()
            top = finer + F.interpolate(top, finer.shape[2:], mode="nearest")
        top = self.logit(F.relu(self.smooth_bn(self.smooth(top))))
        return F.interpolate(top, x.shape[2:], mode="bilinear", align_corners=False)


def network(reach, dtype):
    """With the generator's numbers rounded to float32, as the C side gets them."""
    net = Pyramid(reach)
    filled = generator.fill({k: v.shape for k, v in net.state_dict().items()})
    state = {k: torch.tensor(np.ascontiguousarray(v), dtype=torch.float32) for k, v in filled.items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
    return net.to(dtype)


def odd_image():
    x = (generator.image(50, 70, "odd image").astype(np.float64) / 255 - MEAN) / STD
    return torch.from_numpy(x.transpose(2, 0, 1)[None].copy())


def networks(dtype):
    out = {}
    for reach in (4, 8, 16):
        net, name = network(reach, dtype).eval(), f"fpn.{reach}"
        with torch.no_grad():
            out[name] = net(images().to(dtype)).flatten()[::7]
            out[f"{name}.odd"] = net(odd_image().to(dtype)).flatten()[::7]
        z = net.train()(images().to(dtype))
        z.square().mean().backward()
        out[f"{name}.train"] = z.flatten()[::7]
        out[f"{name}.mean"] = net.smooth_bn.running_mean.clone()
        for key in ("conv1.weight", f"lateral{net.levels}.weight", "lateral1.bias", "logit.weight"):
            out[f"{name}.grad.{key}"] = net.get_parameter(key).grad.flatten()[:64]
    return {k: v.detach().double().numpy() for k, v in out.items()}


def main():
    out, single = networks(torch.float64), networks(torch.float32)
    for key, value in single.items():
        gap = np.abs(out[key] - value).max() / max(1, np.abs(out[key]).max())
        out[key + ".f32"] = np.array(gap)
        print(f"{key}: float32 differs by {gap:.2e}, largest {np.abs(out[key]).max():.3g}")
    learning = {k: v.numpy() for k, v in losses().items()}
    for key in (k for k in learning if k.startswith("pu")):
        print(key, learning[key])
    out |= learning
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, "tests/golden/dense.safetensors")


if __name__ == "__main__":
    main()
