"""The resizing and the Inception of FID, as in the public programs; weights that are refused."""

import importlib.util
import sys
import types

import numpy as np
import pytest
from PIL import Image

from vqdit.evaluation.feature_networks import inception_network, on_devices
from vqdit.evaluation.frechet import frechet_estimate
from vqdit.evaluation.resizing import bilinear, resize


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_bilinear_weights_of_both_programs():
    """Of two pixels on four: borders aligned, or first pixels aligned."""
    torch = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_allclose(bilinear(2, 4, "pytorch"), torch)
    np.testing.assert_allclose(bilinear(2, 4, "tensorflow"), [[1, 0], [0.5, 0.5], [0, 1], [0, 1]])
    np.testing.assert_allclose(bilinear(7, 7, "pytorch"), np.eye(7), atol=1e-6)
    small = bilinear(10, 5, "tensorflow")  # no antialiasing: every second pixel
    np.testing.assert_allclose(small, np.eye(10)[::2])


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("size", [(37, 53), (301, 299), (64, 401)])
def test_clean_resizing_is_pillows_before_rounding(random, tmp_path, size, suffix):
    noise = random.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    picture = Image.fromarray(noise).resize(size[::-1], Image.Resampling.BICUBIC)
    picture.save(tmp_path / f"x.{suffix}")
    pixels = np.asarray(Image.open(tmp_path / f"x.{suffix}"))
    found = resize(pixels[None], 299, "clean")[0]
    rounded = np.asarray(Image.fromarray(pixels).resize((299, 299), Image.Resampling.BICUBIC))
    assert found.dtype == np.float32 and np.abs(np.round(found) - rounded).max() <= 1.0
    assert np.abs(found - np.round(found)).mean() > 0.1  # it is not rounded


def test_a_network_runs_on_all_devices_with_batches_of_one_shape(random, eight_devices):
    shapes = []

    def apply(params, x):
        shapes.append(x.shape)
        return x.mean(axis=(1, 2)) * params, x[:, 0, 0]

    run = on_devices(apply, np.float32(2.0), 6, "clean")
    pictures = random.integers(0, 256, (13, 6, 6, 3)).astype(np.uint8)
    parts = [run(pictures[:8]), run(pictures[8:])]
    means, corners = (np.concatenate(part) for part in zip(*parts, strict=True))
    np.testing.assert_allclose(means, 2 * pictures.mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(corners, pictures[:, 0, 0])
    assert shapes == [(8, 6, 6, 3)]


def test_weights_that_are_not_known_or_no_inception(tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "weights.safetensors"
    save_file({"fc.weight": np.zeros((8, 4), np.float32)}, file)
    with pytest.raises(ValueError, match=r"has the unknown SHA-256 .* add --unknown-weights$"):
        inception_network(file)
    with pytest.raises(ValueError, match="no weights of FID's Inception: it lacks 'Conv2d_1a_3x3'"):
        inception_network(file, unknown_weights=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The network of torch-fidelity with random weights, and the file of its weights."""
    torch = pytest.importorskip("torch")
    base = importlib.util.find_spec("torch_fidelity")
    if base is None:
        pytest.skip("needs torch-fidelity")
    package = types.ModuleType("torch_fidelity")  # its own __init__ needs torchvision
    package.__path__ = list(base.submodule_search_locations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_fidelity", package)
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        torch.manual_seed(0)
        patch.setattr(torch, "load", lambda *args, **options: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
        net = FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], "given")
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    net.train()
    noise = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    net(noise)
    net.eval()
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(net.state_dict(), file)
    return net, file


@pytest.mark.slow
@pytest.mark.peers
def test_features_classes_and_distance_are_those_of_torch_fidelity(published, random):
    import torch

    net, file = published
    network = inception_network(file, "tensorflow", unknown_weights=True, spatial=True)
    waves = np.sin(np.arange(40)[:, None] * random.uniform(0, 1, (24, 1, 1, 3)))
    pictures = (127 + 90 * waves * waves.transpose(0, 2, 1, 3)).astype(np.uint8)
    pictures += random.integers(0, 30, pictures.shape).astype(np.uint8)
    found = [network.function(pictures[start : start + 8]) for start in (0, 8, 16)]
    features, logits, spatial = (np.concatenate(parts) for parts in zip(*found, strict=True))
    seen = []
    net.Mixed_6d.branch1x1.register_forward_hook(lambda _, __, y: seen.append(y[:, :7].numpy()))
    with torch.no_grad():
        theirs = net(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()))
    expected, answers = (part.numpy() for part in theirs)
    assert expected.std() > 0.05
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(logits, answers, rtol=0, atol=1e-4 * np.abs(answers).max())
    (maps,) = seen  # ADM's evaluator takes seven channels of TensorFlow's tensor mixed_6/conv
    expected_maps = maps.transpose(0, 2, 3, 1).reshape(24, 17 * 17 * 7)
    np.testing.assert_allclose(spatial, expected_maps, rtol=0, atol=1e-4 * expected_maps.max())
    assert expected_maps.std() > 0.05
    ours = frechet_estimate(features[:12], features[12:]).value
    first, second = (np.cov(part.T.astype(np.float64)) for part in (expected[:12], expected[12:]))
    means = ((expected[:12].mean(axis=0) - expected[12:].mean(axis=0)) ** 2).sum()
    roots = np.sqrt(np.maximum(np.linalg.eigvals(first @ second).real, 0)).sum()
    theirs = means + np.trace(first) + np.trace(second) - 2 * roots
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("size", [(40, 53), (320, 310)])
def test_bilinear_resizing_is_that_of_torch(random, size):
    torch = pytest.importorskip("torch")
    pictures = random.integers(0, 256, (2, *size, 3)).astype(np.uint8)
    x = torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32))
    theirs = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
    found = resize(pictures, 299, "pytorch")
    np.testing.assert_allclose(found, theirs.numpy().transpose(0, 2, 3, 1), atol=0.02)
