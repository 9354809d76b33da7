"""Reference results of resizing and colour jitter: Pillow, torch, OpenCV, torchvision.

Writes image_f32.npy and image_u8.npy, flat, in the order in which tests/unit/test_image_resize.c reads them.
"""
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import functional as T

from generator import image, values

SIZES = [((5, 7), (9, 12)), ((9, 12), (5, 7))]  # height, width


def f32():
    out = []
    for size, to in SIZES:
        x = torch.from_numpy(values("map", (2, *size), 1.0))[None]
        for mode, antialias in (("bilinear", False), ("bicubic", False), ("bilinear", True), ("bicubic", True)):
            y = F.interpolate(x, size=to, mode=mode, align_corners=False, antialias=antialias)
            out.append(y.numpy())
        out.append(F.interpolate(x, size=to, mode="nearest-exact").numpy())
        if to < size:
            out.append(np.stack([cv2.resize(p, to[::-1], interpolation=cv2.INTER_AREA) for p in x[0].numpy()]))
    return np.concatenate([a.astype(np.float32).ravel() for a in out])


def pil(x, to, mode):
    return np.asarray(Image.fromarray(x).resize(to[::-1], mode))


def u8():
    out = []
    for size, to in SIZES + [((21, 40), (23, 11)), ((16, 16), (16, 9))]:
        x = image(*size)
        alpha = np.dstack([x, image(*size, key="alpha")[..., 0]])
        for mode in (Image.BILINEAR, Image.BICUBIC):
            out.append(pil(x, to, mode))
            out.append(pil(x[..., 0], to, mode))
            # Pillow multiplies by alpha before it resizes RGBA; its CMYK is four plain channels.
            out.append(np.asarray(Image.fromarray(alpha, "CMYK").resize(to[::-1], mode)))
        for mode in (cv2.INTER_LINEAR, cv2.INTER_CUBIC):
            out.append(cv2.resize(x, to[::-1], interpolation=mode))
        if to[0] < size[0] and to[1] < size[1]:
            out.append(cv2.resize(x, to[::-1], interpolation=cv2.INTER_AREA))
    steps = {"b": T.adjust_brightness, "c": T.adjust_contrast, "s": T.adjust_saturation, "h": T.adjust_hue}
    x = image(16, 16)
    for order, factors in (("b", [0.7]), ("b", [1.3]), ("c", [0.8]), ("c", [1.25]), ("s", [0.75]), ("s", [1.3]),
                           ("h", [0.1]), ("h", [-0.07]), ("bcsh", [1.2, 0.9, 1.1, 0.05]), ("hscb", [-0.1, 0.7, 1.3, 0.85])):
        picture = Image.fromarray(x)
        for step, factor in zip(order, factors):
            picture = steps[step](picture, factor)
        out.append(np.asarray(picture))
    out.append(np.asarray(Image.fromarray(x).convert("L")))
    return np.concatenate([a.ravel() for a in out])


if __name__ == "__main__":
    np.save("image_f32.npy", f32())
    np.save("image_u8.npy", u8())
