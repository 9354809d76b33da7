"""OpenCV's DIS optical flow, medium preset, on the frames of bench_flow.c and bench_flow.sh: fields a second on two
threads, and mean end-point errors. DIS gives one field for a call and no mask."""
import os
import subprocess
import tempfile
import time

import cv2
import numpy as np

cv2.setNumThreads(2)
B = os.environ.get("B", "build")
DIS = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def tensors(names, frames, *options):
    """Tensors of the first frames of a simulated belt, by name."""
    with tempfile.TemporaryDirectory() as folder:
        stream = os.path.join(folder, "s.ws2")
        subprocess.run([f"{B}/bin/ws2-synth", "--frames", str(frames), "-o", stream, *options], check=True)
        out = {}
        for name in names:
            subprocess.run([f"{B}/bin/ws2-write", "-q", "--npy", f"{folder}/{name}", "-t", name, stream], check=True)
            files = sorted(os.listdir(f"{folder}/{name}"))
            out[name] = [np.load(f"{folder}/{name}/{f}") for f in files]
        return out


def grey(rgb):
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def speed(side):
    frames = tensors(["rgb"], 9, "--size", str(side), "--seed", "1")["rgb"]
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        before = grey(frames[0])
        for frame in frames[1:]:
            after = grey(frame)
            DIS.calc(before, after, None)
            DIS.calc(after, before, None)
            before = after
        best = min(best, time.perf_counter() - start)
    print(f"flow {side}x{side}, 2 threads\t{2 * (len(frames) - 1) / best:.2f}\tfields/s")


def errors(what, before, after, truth, known, visible=None):
    error = np.hypot(*np.moveaxis(DIS.calc(grey(before), grey(after), None) - truth, 2, 0))
    print(f"flow error {what}, all\t{error[known].mean():.4f}\tpx")
    if visible is not None:
        print(f"flow error {what}, visible\t{error[known & visible].mean():.4f}\tpx")


def simulated(what, *options):
    t = tensors(["rgb", "flow.next", "flow.next.valid"], 3, "--seed", "7", *options)
    truth = np.moveaxis(t["flow.next"][0].astype(np.float32), 0, 2)
    errors(what, t["rgb"][0], t["rgb"][1], truth, np.ones(truth.shape[:2], bool), t["flow.next.valid"][0] > 0)


def flo(path):
    data = open(path, "rb").read()
    width, height = np.frombuffer(data, "<i4", 2, 4)
    flow = np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2)
    known = (np.abs(flow) < 1e9).all(2)
    return np.where(known[..., None], flow, 0), known


def real(name, first, second, truth):
    folder = os.path.join(os.environ["WS2_TESTDATA"], "flow", name)
    before, after = (cv2.cvtColor(cv2.imread(os.path.join(folder, f)), cv2.COLOR_BGR2RGB) for f in (first, second))
    if truth.endswith(".png"):
        png = cv2.imread(os.path.join(folder, truth), -1)[..., ::-1].astype(np.float32)
        flow, known = (png[..., :2] - 32768) / 64, png[..., 2] > 0
    else:
        flow, known = flo(os.path.join(folder, truth))
    errors(name, before, after, flow, known)


for side in (512, 1000):
    speed(side)
for side in (512, 1000):
    for shift in (5, 12, 20, 37, 60, 90, 120):
        simulated(f"{side}x{side} belt {shift} px", "--size", str(side), "--speed", f"{shift / side:.6g}")
for shift in (12, 37):
    simulated(f"512x512 all rolls or slides {shift} px", "--size", "512", "--rolling", "1", "--sliding", "1",
              "--speed", f"{shift / 512:.6g}")
if os.environ.get("WS2_TESTDATA"):
    real("mb_RubberWhale", "frame10.png", "frame11.png", "flow10.flo")
    real("mb_Venus", "frame10.png", "frame11.png", "flow10.flo")
    real("sintel_easy", "frame_0002.png", "frame_0003.png", "flow_0002.flo")
    real("kitti", "frame1.png", "frame2.png", "flow_gt.png")
