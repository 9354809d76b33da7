"""pydensecrf on the picture and unaries of bench_crf.c, on one core, and how far its Q is from ours."""
import os
import time

import numpy as np

try:
    import pydensecrf.densecrf as densecrf
except ImportError:
    raise SystemExit("pydensecrf is not there: PYTHON should name an interpreter that has it")

SIDE, ROUNDS = 512, 3
folder = os.environ["BENCH_SCRATCH"]
rgb = np.fromfile(folder + "/crf.rgb", np.uint8).reshape(SIDE, SIDE, 3)
unary = np.fromfile(folder + "/crf.unary", np.float32).reshape(2, -1)
ours, weak = (np.fromfile(folder + name, np.float32).reshape(2, -1) for name in ("/crf.q", "/crf.weak"))


def infer(space=3, colour=10):
    crf = densecrf.DenseCRF2D(SIDE, SIDE, 2)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=3, compat=space)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=rgb, compat=colour)
    return np.array(crf.inference(5))


best = float("inf")
for _ in range(ROUNDS):
    start = time.perf_counter()
    q = infer()
    best = min(best, time.perf_counter() - start)
print(f"dense CRF 512x512, 2 labels, 5 iterations\t{1e3 * best:.3f}\tms")
print(f"dense CRF: largest difference of Q\t{np.abs(q - ours).max():.3g}\tof 1")
print(f"dense CRF: the same with weights of 1\t{np.abs(infer(1, 1) - weak).max():.3g}\tof 1")
