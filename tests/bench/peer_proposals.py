"""The regions of bench_proposals.c with scikit-image: felzenszwalb at three scales over L*a*b*."""
import os
import time

import numpy as np

try:
    from skimage.color import rgb2lab
    from skimage.segmentation import felzenszwalb
except ImportError:
    raise SystemExit("scikit-image is not there: no peer for proposals")

rgb = np.fromfile(os.environ["BENCH_SCRATCH"] + "/proposals.rgb", np.uint8).reshape(-1, 512, 512, 3)
start = time.perf_counter()
for frame in rgb[:2]:
    lab = rgb2lab(frame)
    for scale in (100, 300, 1000):
        # scikit-image divides the scale by 255: its colours are meant to be 0..1
        felzenszwalb(lab, scale=255 * scale, sigma=0.8, min_size=100, channel_axis=-1)
print(f"proposals 512x512, regions at three scales\t{1e3 * (time.perf_counter() - start) / 2:.2f}\tms")
