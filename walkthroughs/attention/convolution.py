"""Attention contains convolution, and learns which one.

RUNNING TIME: 3 seconds (--quick: 2 seconds)

After Cordonnier, Loukas and Jaggi, "On the relationship between self-attention and convolutional layers" (2020). You will see three heads
that are a convolution of three numbers; nine that are a 3 x 3 convolution of an image, pixel for pixel, but for the border; and two heads that
know nothing find the neighbours that a convolution used. On the way the belief is put to the test that attention has a limited field.

Before it: walkthroughs/attention/attention.py, which builds the heads. A whole network that reads images with them:
walkthroughs/vision/vit.py.

    python -m walkthroughs attention/convolution            the whole story
    python -m walkthroughs attention/convolution --quick    the mechanics only
"""

# %% Settings
import time

import tinygrad_notes as tn
from tinygrad_notes import functional as F
from tinygrad_notes import optim
from walkthroughs.attention import _pictures as pictures
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

options = options_of(parser_for("attention/convolution", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began = time.process_time()

# %% The idea by hand
# Five numbers in a row, and a kernel (1, 2, -1): y_i = x_(i-1) + 2 x_i - x_(i+1). A head whose weights are all on the neighbour to the left
# fetches x_(i-1), whatever x is; a second one fetches x_i, a third x_(i+1). The output map mixes what the heads found: with 1, 2 and -1.
row = np.array([3.0, 1, 4, 1, 5])
places = np.arange(5.0)
to_the_left, to_itself, to_the_right = (F.softmax(-50 * (places - places[:, None] - shift) ** 2) for shift in (-1, 0, 1))
mixed = 1 * to_the_left @ row + 2 * to_itself @ row - 1 * to_the_right @ row
print(
    f"where the first head looks\n{to_the_left.round(2)}\nthree heads of {row}: {mixed}; the convolution: {np.convolve(row, [-1, 2, 1], 'valid')} within"
)
assert np.array_equal(mixed[1:-1], np.convolve(row, [-1, 2, 1], "valid"))

# %% Attention contains convolution
# Cordonnier, Loukas, Jaggi (2020): let a head's scores depend on places only, s_ij = -a |(place_j - place_i) - shift|^2. For large a
# its softmax is 1 at one neighbour and 0 elsewhere: the head fetches the pixel at `shift`. K^2 heads fetch a K x K neighbourhood,
# and W_o mixes them as a kernel does. Images and kernels are whole numbers here, so that equal means equal.
H = W = 8
places = np.stack(np.meshgrid(np.arange(H), np.arange(W), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)  # (H W, 2)
shifts = np.array([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)], float)  # (nh, 2)


def fetches(shifts, sharpness):
    """Where heads look, by places alone: (nh, H W, H W)."""
    off = places - places[:, None] - shifts[:, None, None]  # (nh, H W, H W, 2)
    return F.softmax(-sharpness * np.sum(off**2, axis=-1))


image = rng.integers(-9, 10, (3, H, W)).astype(float)
kernel = rng.integers(-9, 10, (2, 3, 3, 3)).astype(float)
mix = kernel.reshape(2, 3, 9)  # (out, in, nh): what W_v and W_o of each head do
convolved = F.conv2d(image[None], kernel, padding=1)[0]
replicated = F.conv2d(np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")[None], kernel)[0]
print(
    "\nnine heads against a 3 x 3 convolution: the largest difference"
    "\n    sharpness   inner pixels   all, zeros around   all, the border repeated"
)
for sharpness in (0.5, 2.0, 8.0, 50.0):
    heads = np.einsum("hij,cj->hci", fetches(shifts, sharpness), image.reshape(3, -1))  # (nh, in, H W)
    attended = np.einsum("och,hci->oi", mix, heads).reshape(2, H, W)
    inner, whole, edge = (np.abs(d).max() for d in ((attended - convolved)[:, 1:-1, 1:-1], attended - convolved, attended - replicated))
    print(f"    {sharpness:9} {inner:14.3g} {whole:19.3g} {edge:26.3g}")
assert inner == 0 and edge == 0 and whole > 1

# Beyond the border there is no pixel to look at, and the softmax must look somewhere: it takes the nearest. So it is a convolution
# with the border repeated.

# %% A common mistake: "in a CNN, self-attention is limited to a learnable receptive field"
# It is often written in this order. The other way round: a CNN is attention whose field is small, the same for all, and fixed by hand;
# attention learns its field, and a fixed small one is what it can choose. Two heads that know nothing are given images and
# what a convolution made of them, x(r, c + 2) - x(r - 1, c) / 2, and find the two shifts.
inside = np.zeros((H, W), bool)
inside[1:, :-2] = True


def loss_of(field, B=16):
    x = rng.normal(size=(B, H, W))
    y = np.roll(x, -2, axis=2) - 0.5 * np.roll(x, 1, axis=1)
    heads = np.einsum("hij,bj->hbi", fetches(field["shifts"], np.exp(field["sharpness"])), x.reshape(B, -1))
    return np.mean((np.einsum("h,hbi->bi", field["mix"], heads).reshape(B, H, W) - y)[:, inside] ** 2)


def learn(sharpness):
    """Two heads, before and after training, and the loss of each step."""
    field = {
        "shifts": tn.Tensor(0.1 * rng.normal(size=(2, 2))),
        "sharpness": tn.Tensor(np.array([np.log(sharpness)])),
        "mix": tn.Tensor(np.array([0.5, -0.5])),
    }
    losses, optimizer = [], optim.Adam(field, lr=0.05)
    before = {k: v.value.copy() for k, v in field.items()}
    for _ in tqdm(range(20 if QUICK else 400), desc="learning a field", unit="step", disable=None):
        loss = loss_of(field)
        optimizer.step(tn.gradients(loss, field, unused="raise"))
        losses.append(loss.item())
    return before, tn.frozen(field), losses


before, found, wide = learn(0.22)
print(f"\nlearned shifts {found['shifts'].round(2).tolist()}, mixed with {found['mix'].round(3)}; mean square error {wide[-1]:.1e}")
if FULL:
    assert {tuple(shift) for shift in found["shifts"].round()} == {(0, 2), (-1, 0)} and wide[-1] < 1e-2

# %% Break it
# The same two heads, but as sure of themselves from the start as the nine above: sharpness 50 in the place of 0.22. Each looks at its own pixel
# only, where nothing is to be found; every other pixel has the weight e^-50 or less, and so has the gradient that could move the head there. With
# sharpness 8 or even 2 the near shift is found, the far one never. A field must begin wide to become narrow in the right place.
_, stuck, narrow = learn(50.0)
print(f"begun at sharpness 50: shifts {stuck['shifts'].round(2).tolist()}, mean square error {narrow[-1]:.1e}")
if FULL:
    assert narrow[-1] > 0.5

# %% Figures
if not options.no_plots:
    centre = (H // 2) * W + W // 2
    fixed, at_first, at_last = (
        [m[centre].reshape(H, W) for m in maps]
        for maps in (fetches(shifts, 50.0), *(fetches(f["shifts"], np.exp(f["sharpness"])) for f in (before, found)))
    )
    panels = {}
    for row, others, name in ((0, at_first, "at first"), (1, at_last, "learned"), (2, [], "")):
        panels |= {f"shift {tuple(map(int, shifts[n]))}": fixed[n] for n in range(3 * row, 3 * row + 3)}
        panels |= {f"head {n + 1}, {name}": m for n, m in enumerate(others)}
    pictures.maps(options.out / "convolution.png", panels, size=1.5, rows=3, xlabel="")
    pictures.lines(
        options.out / "learning.png",
        [
            {
                "title": "two heads look for two shifts",
                "x": "step",
                "y": "mean square error",
                "log": "y",
                "lines": {
                    name: (np.arange(len(y)), y, "-", colour)
                    for name, y, colour in (("begun wide", wide, pictures.BLUE), ("begun at one pixel", narrow, pictures.RED))
                },
            }
        ],
    )
    print(f"\nfigures: {options.out}/convolution.png, learning.png")

# %% Exercises
# 1. Convolutions mostly put zeros around the image. What would the nine heads have to be given to do the same?
# 2. What do nine heads with the shifts -2, 0 and 2 compute?
# 3. What does a single head of shift (0, 0) compute where its sharpness a is not large?
# 4. A convolution of 3 x 3 from C to C channels has 9 C^2 weights. How many have the nine heads, if each keeps all C channels?
# 5. Here scores depend on places alone. What can a head do whose scores also depend on what the pixels show, and no convolution?
#
# Answers
# 1. Something of value 0 to look at: a ring of pixels of zeros around the image, as keys and values (not as queries).
# 2. A dilated convolution: the kernel's nine weights stand two pixels apart, with the border repeated twice.
# 3. A blur: e^(-a r^2), divided by its sum, is a Gaussian of standard deviation sqrt(1 / (2 a)) pixels, 1 for a = 1/2.
# 4. The same 9 C^2 in W_V W_O, whose product is all that counts, one C x C matrix for each head; and two numbers of the shift for each.
# 5. Look for something wherever it is: from an edge to where the edge goes on, from one eye to the other.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
