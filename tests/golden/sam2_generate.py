"""Fixtures from the official automatic mask generator (package sam2, facebookresearch).

numbers.*: its functions on logits made by rule (see logits(), the same in tests/unit/nn_sam2_generate.c): masks at the
size of a crop, stability, boxes, edges, what remains of boxes alike, and the cleaning of small regions.
crops.*: the crops of a picture. generate.*: the whole class on the tiny network at side 256 with weights and a picture of
generator.py, with crops.
Run: python3 tests/golden/sam2_generate.py    (needs torch, torchvision, opencv, sam2 with hydra-core and iopath)
"""
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.build_sam import build_sam2
from sam2.utils import amg
from torchvision.ops.boxes import batched_nms

import generator

HEIGHT, WIDTH, SIDE, COUNT = 80, 120, 16, 20
CROPS = {"whole": [0, 0, 120, 80], "part": [10, 8, 112, 74]}


def logits(name):
    """Discs in clusters of four, each with noise, which makes holes and islands."""
    u = generator.values(name, (COUNT, 4), 0.5) + 0.5
    noise = generator.values(name + ".noise", (COUNT, SIDE, SIDE), 2)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    out = np.empty((COUNT, SIDE, SIDE), np.float32)
    for i in range(COUNT):
        first = u[i // 4 * 4]
        cx, cy = 16 * first[0] + 1.5 * u[i][0], 16 * first[1] + 1.5 * u[i][1]
        radius = 2 + 4 * first[2] + u[i][2]
        distance = (x - cx) * (x - cx) + (y - cy) * (y - cy)
        out[i] = (4 - 4 * distance / (radius * radius) + noise[i]).astype(np.float32)
    out[COUNT - 1] = -9  # an empty mask
    return torch.from_numpy(out)


def scores(name):
    u = generator.values(name + ".score", (COUNT,), 0.5) + 0.5
    return torch.from_numpy((np.floor(8 * u) / 8).astype(np.float32))  # with equal ones


def packed(masks):
    return np.packbits(np.asarray(masks, np.uint8).reshape(len(masks), -1), axis=1)


def numbers(name, crop, out):
    size = (crop[3] - crop[1], crop[2] - crop[0])
    x = F.interpolate(logits(name)[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    out["stability"] = amg.calculate_stability_score(x, 0.0, 1.0)
    masks = x > 0
    boxes = amg.batched_mask_to_box(masks)
    out["box"] = boxes
    out["edge"] = amg.is_box_near_crop_edge(boxes, crop, [0, 0, WIDTH, HEIGHT])
    keep = batched_nms(boxes.float(), scores(name), torch.zeros_like(boxes[:, 0]), iou_threshold=0.7)
    out["keep"] = keep
    masks = amg.uncrop_masks(masks, crop, HEIGHT, WIDTH)
    out["mask"] = packed(masks)
    data = amg.MaskData(
        rles=amg.mask_to_rle_pytorch(masks), boxes=amg.uncrop_boxes_xyxy(boxes, crop), index=torch.arange(COUNT)
    )
    SAM2AutomaticMaskGenerator.postprocess_small_regions(data, 30, 0.7)
    out["clean.index"] = data["index"]
    out["clean.mask"] = packed([amg.rle_to_mask(rle) for rle in data["rles"]])
    out["clean.box"] = amg.batched_mask_to_box(
        torch.stack([torch.from_numpy(amg.rle_to_mask(rle)) for rle in data["rles"]])
    )
    print(name, "kept", len(keep), "edges", int(out["edge"].sum()), "after cleaning", len(data["rles"]))


def network():
    net = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", hydra_overrides_extra=["model.image_size=256"])
    state = net.state_dict()
    for key, value in generator.fill({k: v.shape for k, v in state.items()}).items():
        state[key].copy_(torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)))
    return net.eval()


def generate(net, out, **options):
    maker = SAM2AutomaticMaskGenerator(net, points_per_side=6, points_per_batch=5, **options)
    maker.predictor._bb_feat_sizes = [(64, 64), (32, 32), (16, 16)]
    # A picture with some shape: noise alone gives masks of noise.
    small = torch.from_numpy(generator.image(6, 8)).permute(2, 0, 1)[None].float()
    picture = small.repeat_interleave(16, 2).repeat_interleave(16, 3)[0].permute(1, 2, 0).byte().numpy()
    found = maker.generate(picture)
    box = np.array([m["bbox"] for m in found], np.int64)
    out["box"] = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], 1)
    out["score"] = np.array([m["predicted_iou"] for m in found], np.float32)
    out["stability"] = np.array([m["stability_score"] for m in found], np.float32)
    out["point"] = np.array([m["point_coords"][0] for m in found], np.float32)
    out["area"] = np.array([m["area"] for m in found], np.int64)
    crop = np.array([m["crop_box"] for m in found], np.int64)
    out["crop"] = np.concatenate([crop[:, :2], crop[:, :2] + crop[:, 2:]], 1)
    for i in range(min(len(found), 12)):
        print(out["box"][i], out["score"][i], out["stability"][i], out["point"][i], out["area"][i], out["crop"][i])
    print(len(found), "found")


def main():
    out = {}

    def add(prefix, part):
        for key, value in part.items():
            value = value.numpy() if torch.is_tensor(value) else np.asarray(value)
            value = value.astype(np.int64) if value.dtype in (np.bool_, np.int32) else value
            out[f"{prefix}.{key}"] = np.ascontiguousarray(value)

    for name, crop in CROPS.items():
        part = {}
        numbers(name, crop, part)
        add("numbers." + name, part)
    for height, width, layers in ((480, 640, 2), (61, 33, 1)):
        boxes, layer = amg.generate_crop_boxes((height, width), layers, 512 / 1500)
        add(f"crops.{height}x{width}", {"box": np.array(boxes), "layer": np.array(layer)})
    torch.manual_seed(0)
    net = network()
    plain, crops = {}, {}
    generate(net, plain, pred_iou_thresh=0.3, stability_score_thresh=0.8, stability_score_offset=0.5, box_nms_thresh=0.9)
    add("generate.plain", plain)
    generate(
        net, crops, pred_iou_thresh=0.25, stability_score_thresh=0.0, crop_n_layers=1, crop_n_points_downscale_factor=2,
        box_nms_thresh=0.95, crop_nms_thresh=0.97,
    )
    add("generate.crops", crops)
    save_file(out, "tests/golden/sam2_generate.safetensors")


if __name__ == "__main__":
    main()
