"""Fixtures T05 (forward, running statistics) and T06 (training mode) from torchvision's ResNet-50, in float64.

Weights and the image come from generator.py (rounded to float32, as the C side gets them), three classes, two images
of 64x64: the image and its mirror. Stored: logits, every 17th element of layer4 (17: all places, all channels in turn), and for training mode the running
statistics after one pass, one gradient per kind of layer. Run: python3 tests/golden/resnet.py
"""
import numpy as np
import torch
import torchvision
from safetensors.numpy import save_file

import generator

MEAN = np.array([0.485, 0.456, 0.406], np.float32).astype(np.float64)
STD = np.array([0.229, 0.224, 0.225], np.float32).astype(np.float64)


def network():
    net = torchvision.models.resnet50(num_classes=3)
    filled = generator.fill({k: v.shape for k, v in net.state_dict().items()})
    state = {k: torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for k, v in filled.items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
    return net.double()


def images():
    rgb = generator.image(64, 64).astype(np.float64) / 255
    x = ((rgb - MEAN) / STD).transpose(2, 0, 1)
    return torch.from_numpy(np.stack([x, x[:, :, ::-1]]))


def run(net, x):
    kept = {}
    hook = net.layer4.register_forward_hook(lambda m, i, o: kept.update(layer4=o))
    logits = net(x)
    hook.remove()
    return logits, kept["layer4"]


def evaluate(net, x):
    with torch.no_grad():
        net.eval()
        logits, layer4 = run(net, x)
    return {"t05.logits": logits, "t05.layer4": layer4.flatten()[::17]}


def train(net, x):
    out = {}
    net.train()
    logits, layer4 = run(net, x)
    out["t06.logits"] = logits
    out["t06.layer4"] = layer4.flatten()[::17]
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    state = net.state_dict()
    for name in ("bn1", "layer1.0.downsample.1", "layer2.3.bn2", "layer4.2.bn3"):
        out["t06." + name + ".running_mean"] = state[name + ".running_mean"][:64]
        out["t06." + name + ".running_var"] = state[name + ".running_var"][:64]
    for name in ("conv1.weight", "layer1.0.bn1.weight", "layer3.0.downsample.0.weight", "layer4.2.bn3.bias", "fc.weight"):
        out["t06.grad." + name] = net.get_parameter(name).grad.flatten()[:64]
    return out


def results(dtype):
    net, x = network().to(dtype), images().to(dtype)
    both = {**evaluate(net, x), **train(net, x)}
    return {k: v.detach().double().numpy() for k, v in both.items()}


def main():
    out, single = results(torch.float64), results(torch.float32)
    for key in list(out):
        gap = np.abs(out[key] - single[key]).max() / max(1, np.abs(out[key]).max())
        out[key + ".f32"] = np.array(gap)
        print(f"{key}: torchvision in float32 differs by {gap:.2e}")
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, "tests/golden/resnet.safetensors")


if __name__ == "__main__":
    main()
