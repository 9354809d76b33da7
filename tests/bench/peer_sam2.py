"""The same as nn_bench_sam2.c by the official package sam2 (facebookresearch), with random weights, in float32.

Needs sam2 with hydra-core and iopath beside torch and torchvision; without it nothing is printed.
SIZE=512 SIDE=1024 GRID=4 SECONDS_EACH=4 MODELS=tiny,small,base_plus,large (tiny unless set)
"""
import os
import sys
import time

import numpy as np
import torch

try:
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from sam2.build_sam import build_sam2
except ImportError as error:
    print(f"peer_sam2: {error}", file=sys.stderr)
    sys.exit(0)

SIZE, SIDE, GRID, SECONDS = (
    int(os.environ.get(k, v)) for k, v in (("SIZE", 512), ("SIDE", 1024), ("GRID", 4), ("SECONDS_EACH", 4))
)
CONFIGS = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
PROMPTS = 16

torch.manual_seed(0)
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
points = np.array([[[SIZE * (i % 4) / 4, SIZE * (i // 4) / 4]] for i in range(PROMPTS)], np.float32)


def measure(name, unit, each, run):
    run()
    began, rounds = time.perf_counter(), 0
    while rounds < 1 or time.perf_counter() - began < SECONDS:
        run()
        rounds += 1
    print(f"sam2 {name}\t{each * rounds / (time.perf_counter() - began):.4f}\t{unit}", flush=True)


for size in os.environ.get("MODELS", "tiny").split(","):
    net = build_sam2(
        f"configs/sam2.1/sam2.1_hiera_{CONFIGS[size]}.yaml",
        device="cpu",
        hydra_overrides_extra=[f"model.image_size={SIDE}"],
    )
    maker = SAM2AutomaticMaskGenerator(net, points_per_side=max(GRID, 1), pred_iou_thresh=0, stability_score_thresh=0)
    predictor = maker.predictor
    predictor._bb_feat_sizes = [(SIDE // n, SIDE // n) for n in (4, 8, 16)]

    def decode():
        at = predictor._transforms.transform_coords(torch.from_numpy(points), True, (SIZE, SIZE))
        sparse, dense = net.sam_prompt_encoder(
            points=(at, torch.ones(PROMPTS, 1, dtype=torch.int)), boxes=None, masks=None
        )
        with torch.no_grad():
            net.sam_mask_decoder(
                image_embeddings=predictor._features["image_embed"],
                image_pe=net.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
                repeat_image=True,
                high_res_features=predictor._features["high_res_feats"],
            )

    measure(f"{size} encode", "pictures/s", 1, lambda: predictor.set_image(picture))
    predictor.set_image(picture)
    measure(f"{size} decode", "prompts/s", PROMPTS, decode)
    if GRID > 0:
        measure(f"{size} generate", "pictures/s", 1, lambda: maker.generate(picture))
