"""The walk of bench_walk.c as the publications do it: a dense 4096x4096 matrix of f32, squared eight times, on one core."""
import os
import time

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
import numpy as np  # noqa: E402

SIDE, RADIUS, BETA, COLOUR = 64, 5, 8, 13
folder = os.environ["BENCH_SCRATCH"]
rgb = np.fromfile(folder + "/walk.rgb", np.uint8).reshape(-1, 3).astype(np.float64)
first = np.fromfile(folder + "/walk.map", np.float32)
ours = np.fromfile(folder + "/walk.walked", np.float32)


def affinities():
    y, x = np.divmod(np.arange(SIDE * SIDE), SIDE)
    near = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 < RADIUS**2
    square = sum((c[:, None] - c) ** 2 for c in rgb.T)
    return np.where(near, np.exp(-square / (2 * COLOUR**2)), 0).astype(np.float32)


def walk(affinity):
    step = affinity**BETA
    step /= step.sum(axis=0, keepdims=True)
    for _ in range(8):
        step = step @ step
    return first @ step


affinity = affinities()
start = time.perf_counter()
walked = walk(affinity)
print(f"random walk 64x64, radius 5, 256 steps, 1 map\t{1e3 * (time.perf_counter() - start):.3f}\tms")
print(f"random walk: largest difference, relative\t{np.abs(walked - ours).max() / np.abs(walked).max():.3g}\tof 1")
