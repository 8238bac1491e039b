"""Images as numbers: what published vision models expect, from pixels.

A pretrained model reads images that were resized, cropped and scaled in one way. `Preprocessing` does
what its published processor does, without Pillow: the same filters, and the same whole numbers in between.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tinygrad_notes.functional.resize import resampling

import numpy as np

FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, which the published files write
STEP = 2.0**-22  # Pillow rounds the filters' weights to multiples of this
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def resize(image: np.ndarray, size: tuple[int, int], filter: str = "bicubic") -> np.ndarray:
    """An image (H, W, C) uint8 at `size` (height, width), uint8: Pillow's antialiased "bilinear" or "bicubic".

    Pillow filters along the rows, rounds to whole numbers, and filters along the columns; from version 13 on in
    the other order where the height shrinks more than twice as much as the width. Weights, products and sums are
    multiples of 2^-22 here as there, which float64 holds exactly, so the results are the same numbers.
    """
    height, width = size
    if filter not in FILTERS.values():
        raise ValueError(f"resize: filter={filter!r}, expected one of {', '.join(map(repr, FILTERS.values()))}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.size == 0 or min(size) < 1:
        raise ValueError(
            f"resize: image is {image.dtype} {image.shape}, size is {size}; expected uint8 (H, W, C) and at least 1 pixel each"
        )
    H, W, C = image.shape
    columns_first = height < H and H - height > 2 * (W - width)
    for axis in (0, 1) if columns_first else (1, 0):
        image = np.swapaxes(apply(np.swapaxes(image, 0, axis), size[axis], filter), 0, axis)
    return image


def apply(image: np.ndarray, n: int, filter: str) -> np.ndarray:
    """Resample the first axis of a uint8 array (N, ...) to n, rounded to uint8."""
    N, *rest = image.shape
    weights = np.round(resampling(N, n, filter, True, np.dtype(np.float64)) / STEP) * STEP
    y = np.floor(weights @ image.reshape(N, -1).astype(np.float64) + 0.5)
    return np.clip(y, 0, 255).astype(np.uint8).reshape(n, *rest)


def centre_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle (height, width) of an image (H, W, C); where the image is smaller, zeros surround it."""
    for axis, n in enumerate(size):
        missing = max(0, n - image.shape[axis])
        before = math.ceil(missing / 2)
        image = np.pad(image, [(before, missing - before) if a == axis else (0, 0) for a in range(image.ndim)])
        start = (image.shape[axis] - n) // 2
        image = np.take(image, range(start, start + n), axis=axis)
    return image


def whole_size(H: int, W: int, shortest: int) -> tuple[int, int]:
    """(height, width) with the shorter side `shortest` and the sides' ratio kept, the longer rounded down."""
    return (shortest, int(shortest * W / H)) if H <= W else (int(shortest * H / W), shortest)


@dataclass(frozen=True)
class Preprocessing:
    """Images to what a model reads: resize, crop the middle, scale to [0, 1], subtract `mean`, divide by `std`.

    >>> Preprocessing.clip()([np.zeros((480, 640, 3), np.uint8)]).shape
    (1, 3, 224, 224)
    """

    size: int | tuple[int, int] | None  # the shorter side, or (height, width), or None: as it is
    crop: tuple[int, int] | None = None
    filter: str = "bicubic"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @staticmethod
    def vit(size: int = 224) -> "Preprocessing":
        """Of google/vit-*: squeezed into a square, to [-1, 1]."""
        return Preprocessing((size, size), filter="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)

    @staticmethod
    def clip(size: int = 224) -> "Preprocessing":
        """Of openai/clip-*: the shorter side resized, the middle square, its own means and spreads."""
        return Preprocessing(size, (size, size), mean=CLIP_MEAN, std=CLIP_STD)

    @staticmethod
    def from_published(config: dict[str, Any]) -> "Preprocessing":
        """What a published preprocessor_config.json says, given as a dict. Settings it leaves out are the processor's own."""
        kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
        name = next((n for n in ("ViT", "CLIP") if kind.startswith((f"{n}ImageProcessor", f"{n}FeatureExtractor"))), None)
        if name is None:
            raise ValueError(
                f"Preprocessing: the processor is {kind}, expected ViTImageProcessor or CLIPImageProcessor; set the steps yourself"
            )
        own = Preprocessing.clip() if name == "CLIP" else Preprocessing.vit()
        given = {key: value for key, value in config.items() if value is not None}
        if given.get("resample", 3) not in FILTERS:
            raise ValueError(f"Preprocessing: resample is {given['resample']}, expected 2 (bilinear) or 3 (bicubic)")

        def where(switch, step, default, off):
            """A step that is on unless its switch says otherwise."""
            return step if given.get(switch, default) else off

        return Preprocessing(
            size=where("do_resize", sides(given.get("size", own.size), square=name == "ViT"), True, None),
            crop=where("do_center_crop", sides(given.get("crop_size", own.crop), square=True), own.crop is not None, None),
            filter=FILTERS[given["resample"]] if "resample" in given else own.filter,
            scale=where("do_rescale", given.get("rescale_factor", 1 / 255), True, 1.0),
            mean=where("do_normalize", tuple(given.get("image_mean", own.mean)), True, (0.0,) * 3),
            std=where("do_normalize", tuple(given.get("image_std", own.std)), True, (1.0,) * 3),
        )

    def __call__(self, images: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
        """Images (B, H, W, C) or a list of images of any sizes, (H, W, C) or grey (H, W), uint8 -> (B, C, height, width) float32.

        A grey image becomes one of as many equal channels as `mean` has.
        """
        ready = [self.one(image) for image in images]
        shapes = {image.shape for image in ready}
        if len(shapes) != 1:
            raise ValueError(
                f"Preprocessing: images come out as {sorted(shapes) or 'none'}, expected one shape; set size to (height, width), or crop"
            )
        return np.stack(ready)

    def one(self, image: np.ndarray) -> np.ndarray:
        """One image (H, W, C) or (H, W) uint8 -> (C, height, width) float32."""
        C = len(self.mean)
        image = np.asarray(image)
        if image.ndim == 2:
            image = np.repeat(image[:, :, None], C, axis=2)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != C or image.size == 0:
            raise ValueError(
                f"Preprocessing: an image is {image.dtype} {image.shape}, expected uint8 (H, W, {C}) or grey (H, W); colours last, 0 to 255"
            )
        H, W, C = image.shape
        if self.size is not None:
            image = resize(image, whole_size(H, W, self.size) if isinstance(self.size, int) else self.size, self.filter)
        if self.crop is not None:
            image = centre_crop(image, self.crop)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        return (np.moveaxis(image, 2, 0).astype(np.float32) * np.float32(self.scale) - mean) / std


def sides(size: Any, square: bool) -> Any:
    """A published size: {"height": h, "width": w}, {"shortest_edge": n}, or in older files a number."""
    if isinstance(size, int):
        return (size, size) if square else size
    if isinstance(size, dict):
        if "shortest_edge" in size and "longest_edge" not in size:
            return int(size["shortest_edge"])
        if "height" in size and "width" in size:
            return int(size["height"]), int(size["width"])
        raise ValueError(f"Preprocessing: size is {size}, expected height and width, or shortest_edge")
    return size
