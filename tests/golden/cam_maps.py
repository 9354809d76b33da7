"""Class activation maps of pytorch-grad-cam on torchvision's ResNet-18: writes cam_maps.safetensors.

Weights and picture come from generator.py, so that the fixture holds results only: every 4th row and column of
each map, as f32 [3 classes, 16, 12] for a picture of 64 x 48 (height x width).

    NAME.LAYER          gradcam, gradcampp, layercam at layer4, layer3, layer2.1; target = the logit
    prob.NAME.layer4    the same with the softmax probability as target
    mean.gradcam        two layers at once, layer3 and layer4
    multi.gradcam       scales 0.5, 1, 2 as the WS2 authors evaluate the standard classifier
    puzzle              scales 0.5, 1, 2 and flip as they evaluate PuzzleCAM, on the same net without the bias
    logits              [3]
    post.in, post.out   a 3 x 3 map and what the library's post-processing makes of it at 7 x 7
"""
import pathlib

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, LayerCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.numpy import save_file

import generator

torch.manual_seed(0)
torch.set_num_threads(1)
H, W, CLASSES = 64, 48, 3

net = torchvision.models.resnet18(num_classes=CLASSES)
keys = {k: v.shape for k, v in net.state_dict().items()}
net.load_state_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in generator.fill(keys).items()}, strict=False)
net.eval()

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
picture = (generator.image(H, W).astype(np.float32) / 255 - MEAN) / STD  # f32 [H, W, 3]
out = {}


def thin(maps):
    return np.ascontiguousarray(maps[..., ::4, ::4], dtype=np.float32)


def to_tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))[None])


METHODS = {"gradcam": GradCAM, "gradcampp": GradCAMPlusPlus, "layercam": LayerCAM}
LAYERS = {"layer4": net.layer4, "layer3": net.layer3, "layer2.1": net.layer2[1]}


def maps_of(method, model, layers, x):
    with method(model=model, target_layers=layers) as cam:
        return np.stack([cam(input_tensor=x, targets=[ClassifierOutputTarget(c)])[0] for c in range(CLASSES)])


x = to_tensor(picture)
soft = torch.nn.Sequential(net, torch.nn.Softmax(dim=1)).eval()
for name, method in METHODS.items():
    for layer, module in LAYERS.items():
        out[f"{name}.{layer}"] = thin(maps_of(method, net, [module], x))
    out[f"prob.{name}.layer4"] = thin(maps_of(method, soft, [net.layer4], x))
out["mean.gradcam"] = thin(maps_of(GradCAM, net, [net.layer3, net.layer4], x))
with torch.no_grad():
    out["logits"] = net(x)[0].numpy()

total = torch.zeros(1, CLASSES, H, W)
for s in (0.5, 1.0, 2.0):
    size = (int(W / (1 / s)), int(H / (1 / s)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    m = maps_of(GradCAM, net, [net.layer4], to_tensor(scaled))
    total += F.interpolate(torch.from_numpy(m)[None], (H, W), mode="bilinear", align_corners=False)
out["multi.gradcam"] = thin((total / (total.amax((2, 3), keepdim=True) + 1e-5))[0].numpy())


def features(x):
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
    return F.conv2d(x, net.fc.weight[:, :, None, None])


total = torch.zeros(1, CLASSES, H, W)
with torch.no_grad():
    for s in (0.5, 1.0, 2.0):
        size = (int(W / (1 / s)), int(H / (1 / s)))
        x = to_tensor(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC))
        m = F.relu(features(x)) + F.relu(features(x.flip(-1))).flip(-1)
        total += F.interpolate(m, (H, W), mode="bilinear", align_corners=False)
out["puzzle"] = thin((total / (total.amax((2, 3), keepdim=True) + 1e-5))[0].numpy())

low = (generator.values("post", (1, 3, 3), 1.0)).astype(np.float32)
out["post.in"] = low
step = scale_cam_image(np.maximum(low, 0), (7, 7))[:, None]
out["post.out"] = np.asarray(scale_cam_image(np.mean(np.maximum(step, 0), axis=1)), np.float32)

save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, pathlib.Path(__file__).with_suffix(".safetensors"))
for k, v in out.items():
    print(k, v.shape, float(v.min()), float(v.mean()), float(v.max()))
