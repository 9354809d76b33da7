"""Foreground of a frame against a belt with NumPy and OpenCV on one core, as a careful user would write it:
colour conversions, morphology and components by OpenCV, the rest whole-array NumPy. Same pictures, same steps
and numbers as bench_bgmask.c."""
import math
import time

import cv2
import numpy as np

SIDE, FRAMES, ROUNDS, DISCS = 1000, 4, 5, 24
cv2.setNumThreads(1)


def hashed(x):
    x = x.astype(np.uint32)
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def glare():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[100:160, 300:420] = True
    return mask


def paint(frame):
    colours = [(190, 190, 190), (40, 45, 42), (110, 160, 60), (200, 60, 50), (120, 118, 60), (235, 235, 240)]
    h = hashed(np.arange(3 * SIDE * SIDE, dtype=np.uint32) + np.uint32(frame * 3 * SIDE * SIDE))
    noise = (3 * sum((h >> np.uint32(s) & np.uint32(255)).astype(np.int32) for s in (0, 8, 16, 24)) + 13270) // 148 - 100
    rgb = (np.where(glare(), 244, 110)[..., None] + noise.reshape(SIDE, SIDE, 3)).astype(np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    for d in range(DISCS):
        h = int(hashed(np.array([frame * DISCS + d + 77]))[0])
        radius = 15 + (h >> 20) % 60
        square = (y - h % SIDE) ** 2 + (x - h // SIDE % SIDE) ** 2
        rgb[(square <= radius * radius) & ~((d % 2 == 1) & (square < radius * radius // 4))] = colours[d % 6]
    return rgb


def disc(radius):
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


class Belt:
    def __init__(self, luma, scale, saturation):
        self.luma, self.scale, self.bright = luma, scale, luma > 200
        self.limit = min(max(saturation[0] + 6 * 1.4826 * saturation[1], 40.0), 90.0)
        factor = math.sqrt(luma.shape[0] * luma.shape[1]) / 512
        self.open, self.close, self.dilate = (disc(int(r * factor + 0.5)) for r in (1, 3, 1))
        self.hole, self.component = 0.02 * luma.size, 0.0005 * luma.size

    def mask(self, rgb):
        luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        saturation = np.where(hsv[..., 2] < 30, 0, hsv[..., 1])
        distance = np.abs(luma - self.luma)
        fg = (distance / self.scale > 3.5) & (distance > 12)
        fg |= saturation > self.limit
        fg &= ~((luma > 240) & (saturation < 20) & self.bright)
        fg = fg.astype(np.uint8)
        fg = cv2.morphologyEx(fg, cv2.MORPH_OPEN, self.open)
        fg = cv2.morphologyEx(fg, cv2.MORPH_CLOSE, self.close)
        return cv2.dilate(self.drop_small(self.fill_holes(fg)), self.dilate)

    def fill_holes(self, fg):
        count, label, stats, _ = cv2.connectedComponentsWithStats(1 - fg, connectivity=4)
        x, y, w, h, area = stats.T
        inside = (x > 0) & (y > 0) & (x + w < fg.shape[1]) & (y + h < fg.shape[0])
        fill = inside & (area <= self.hole)
        fill[0] = True  # label 0 is the foreground itself
        return fill.astype(np.uint8)[label]

    def drop_small(self, fg):
        count, label, stats, _ = cv2.connectedComponentsWithStats(fg, connectivity=8)
        keep = stats[:, cv2.CC_STAT_AREA] >= self.component
        keep[0] = False
        return keep.astype(np.uint8)[label]


def main():
    belt = Belt(np.where(glare(), 244, 110).astype(np.float32), np.full((SIDE, SIDE), 2.5, np.float32), (8.0, 3.0))
    frames = [paint(k) for k in range(FRAMES)]
    best = math.inf
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ones = sum(int(cv2.countNonZero(belt.mask(rgb))) for rgb in frames)
        best = min(best, time.perf_counter() - start)
    print(f"background mask 1000x1000\t{1e3 * best / FRAMES:.3f}\tms")
    print(f"background mask: foreground found\t{100 * ones / FRAMES / SIDE / SIDE:.4f}\t%")


if __name__ == "__main__":
    main()
