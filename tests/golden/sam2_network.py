"""Fixtures from the official SAM 2 (package sam2, facebookresearch), all four sizes.

Weights, image and masks come from generator.py (rounded to float32, as the C side gets them). The image of 300x420 pixels
is stretched to 1024x1024 for tiny and to 256x256 for every size (the package can be built for any side), by the official
predictor. Stored: the embedding and its two finer maps, and for five kinds of prompts low-resolution logits, predicted
IoU and the object score; of each tensor every step-th element, see sample(). Computed in float64; NAME.f32 is how far the
official code itself is off in float32.
Run: python3 tests/golden/sam2_network.py    (needs torch, torchvision, sam2 with hydra-core and iopath; 8 GB)
"""
import gc

import numpy as np
import torch
from safetensors.numpy import save_file
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

import generator

HEIGHT, WIDTH = 300, 420
CONFIGS = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}

POINTS = dict(
    point_coords=np.array([[[210.5, 140.25]], [[10, 290]], [[400, 3]]]),
    point_labels=np.array([[1], [1], [0]]),
    multimask_output=True,
)
BOXES = dict(
    point_coords=np.array([[[120, 100], [60, 200]], [[350, 150], [0, 0]]]),
    point_labels=np.array([[1, 0], [0, 1]]),
    box=np.array([[50, 40, 200, 220], [300, 10, 419, 299]]),
    multimask_output=False,
)
NONE = dict(multimask_output=False)


def masks(side):
    return dict(
        point_coords=np.array([[[33, 44]], [[250, 160]]]),
        point_labels=np.array([[1], [0]]),
        mask_input=generator.values("mask", (2, 1, side // 4, side // 4), 8),
        multimask_output=True,
    )


def network(size, side, dtype):
    config = f"configs/sam2.1/sam2.1_hiera_{CONFIGS[size]}.yaml"
    net = build_sam2(config, device="cpu", hydra_overrides_extra=[f"model.image_size={side}"])
    state = net.state_dict()
    for key, value in generator.fill({k: v.shape for k, v in state.items()}).items():
        state[key].copy_(torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)))
    return net.to(dtype).eval()


def sample(x):
    x = x.detach().flatten().double().numpy()
    return np.ascontiguousarray(x[:: len(x) // 256 | 1] if len(x) > 512 else x)


def decode(predictor, prompts):
    """What the predictor's predict() does, but for the object score, which it drops, and the clamping."""
    kept = {}

    def hook(module, inputs, outputs):
        kept["logits"], kept["iou"], _, kept["object"] = outputs

    handle = predictor.model.sam_mask_decoder.register_forward_hook(hook)
    predictor.predict(**prompts)
    handle.remove()
    return kept


def results(size, side, dtype):
    torch.set_default_dtype(dtype)
    torch.float32 = torch.float = dtype  # the package asks for float32 in places
    predictor = SAM2ImagePredictor(network(size, side, dtype))
    predictor._bb_feat_sizes = [(side // n, side // n) for n in (4, 8, 16)]
    predictor.set_image(generator.image(HEIGHT, WIDTH))
    out = {"image": predictor._features["image_embed"]}
    out["fine"], out["half"] = predictor._features["high_res_feats"]
    for name, prompts in (("points", POINTS), ("boxes", BOXES), ("masks", masks(side)), ("none", NONE)):
        for key, value in decode(predictor, prompts).items():
            out[f"{name}.{key}"] = value
    # A mask for all prompts that hangs on the threshold: the best of the others takes its place.
    last = predictor.model.sam_mask_decoder.output_hypernetworks_mlps[0].layers[2]
    with torch.no_grad():
        last.weight /= 1024
        last.bias /= 1024
    for key, value in decode(predictor, BOXES).items():
        out[f"unstable.{key}"] = value
    torch.float32 = torch.float = SINGLE
    return {f"{size}{side}.{k}": sample(v) for k, v in out.items()}


SINGLE = torch.float32


def main():
    out = {}
    torch.manual_seed(0)
    for size, side in [("tiny", 1024)] + [(size, 256) for size in CONFIGS]:
        double = results(size, side, torch.float64)
        gc.collect()
        single = results(size, side, SINGLE)
        gc.collect()
        for key, value in double.items():
            gap = np.abs(value - single[key]).max() / max(1, np.abs(value).max())
            out[key], out[key + ".f32"] = value, np.array(gap)
            print(f"{key}: up to {np.abs(value).max():.3g}; in float32 off by {gap:.2e}", flush=True)
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, "tests/golden/sam2_network.safetensors")


if __name__ == "__main__":
    main()
