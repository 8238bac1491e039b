"""Writes images.json, what Pillow and transformers' image processors make of small images: python -m tests.golden.make_images

Needs Pillow 13 and transformers.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

SIZES = [  # height and width before, and after
    ((9, 12), (6, 8)),
    ((12, 9), (5, 9)),
    ((7, 5), (16, 3)),
    ((30, 11), (4, 5)),
    ((4, 3), (9, 10)),
    ((1, 1), (2, 3)),
    ((40, 25), (5, 6)),
]
PROCESSORS = [
    ("CLIPImageProcessor", {"size": {"shortest_edge": 6}, "crop_size": {"height": 6, "width": 6}}, (19, 13)),
    ("CLIPImageProcessor", {"size": {"shortest_edge": 5}, "crop_size": {"height": 4, "width": 8}, "resample": 2}, (8, 8)),
    ("CLIPImageProcessor", {"do_resize": False, "do_normalize": False, "crop_size": {"height": 7, "width": 4}}, (6, 9)),
    ("ViTImageProcessor", {"size": {"height": 6, "width": 4}}, (19, 13)),
    ("ViTImageProcessor", {"size": {"height": 5, "width": 5}, "resample": 3, "image_std": [0.2, 0.3, 0.4]}, (10, 20)),
    ("ViTImageProcessor", {"do_resize": False, "do_rescale": False}, (3, 4)),
]


def image(size):
    """An image (H, W, 3) uint8 of contrasts, from no random numbers: the filters overshoot, and are clipped."""
    n = np.arange(size[0] * size[1] * 3)
    return np.where(n % 3 == 0, n * n * 37 % 256, n * 91 // 7 % 2 * 255).astype(np.uint8).reshape(*size, 3)


if __name__ == "__main__":
    import PIL
    import transformers
    from PIL import Image

    resized = {}
    for before, after in SIZES:
        for filter, number in (("bilinear", 2), ("bicubic", 3)):
            resized[f"{before} {after} {filter}"] = np.asarray(Image.fromarray(image(before)).resize(after[::-1], number)).ravel().tolist()
    processed = []
    for kind, settings, size in PROCESSORS:
        processor = getattr(transformers, kind + "Pil")(**settings)
        pixels = processor(image(size), return_tensors="np", input_data_format="channels_last").pixel_values
        numbers = [float(f"{v:.8g}") for v in pixels.ravel().tolist()]
        processed.append({"config": processor.to_dict(), "size": size, "shape": pixels.shape, "pixels": numbers})
    head = {
        "Pillow": PIL.__version__,
        "transformers": transformers.__version__,
        "inputs": "see make_images.py; no random numbers, so no seed",
        "sha256 of make_images.py": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
    }
    compact = {"separators": (",", ":")}
    text = json.dumps(head)[:-1] + f', "resized": {json.dumps(resized, **compact)},\n"processed": {json.dumps(processed, **compact)}}}\n'
    Path(__file__).with_name("images.json").write_text(text)
