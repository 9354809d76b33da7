"""Reference results of the dense CRF with pydensecrf: writes crf.npy, flat, in the order in which tests/unit/test_crf.c
reads them.

A picture of 24 x 32 with flat regions and noise; for two labels (unaries from probabilities) and for three (from labels,
0.7 sure), for each preset of kernels (space, weight; bilateral, colour, weight): Q [labels,24,32] after five iterations.
"""
import pathlib

import numpy as np
import pydensecrf.densecrf as dcrf
from pydensecrf.utils import unary_from_labels, unary_from_softmax

from generator import states, values

H, W = 24, 32
PRESETS = [(3, 3, 80, 13, 10), (3, 3, 50, 5, 10), (4, 3, 83, 5, 3), (3, 5, 60, 5, 15)]

y, x, c = np.meshgrid(np.arange(H), np.arange(W), np.arange(3), indexing="ij")
noise = (states("crf image", H * W * 3) >> 27).reshape(H, W, 3)
picture = np.ascontiguousarray((noise + 60 * ((x // 11 + y // 7) % 3) + 20 * c).astype(np.uint8))
p = (0.5 + values("crf p", (H, W), 0.45)).astype(np.float32)
label = (states("crf label", H * W) >> 24) % 3
unaries = [unary_from_softmax(np.stack([1 - p, p]), clip=1e-5),
           unary_from_labels(label, 3, 0.7, zero_unsure=False)]

out = []
for unary in unaries:
    for space, space_weight, bilateral, colour, bilateral_weight in PRESETS:
        d = dcrf.DenseCRF2D(W, H, unary.shape[0])
        d.setUnaryEnergy(np.ascontiguousarray(unary.astype(np.float32)))
        d.addPairwiseGaussian(sxy=space, compat=space_weight)
        d.addPairwiseBilateral(sxy=bilateral, srgb=colour, rgbim=picture, compat=bilateral_weight)
        out.append(np.array(d.inference(5), np.float32))
flat = np.concatenate([a.ravel() for a in out])
np.save(pathlib.Path(__file__).with_suffix(".npy"), flat)
print(flat.shape, [float(a[0].mean()) for a in out])
