"""Checkpoint files: their tensors are read, and nothing in them is run."""

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from vqdit.pretrained.archive import Inert, Stored, _Unpickler, read_tensors


def write_zip(file, pickled, storages=(), root="archive"):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickled)
        for key, data in dict(storages).items():
            archive.writestr(f"{root}/data/{key}", data)
    return file


class Evil:
    """Runs a command when it is unpickled as usual."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["value", "key", "nested", "list"])
def test_a_checkpoint_cannot_run_code(where, protocol, tmp_path):
    evil = Evil(os.mkdir, str(tmp_path / "made"))
    content = {
        "value": {"state_dict": evil},
        "key": {(evil, 1): 1},
        "nested": {"state_dict": collections.OrderedDict(a=evil, b=[evil])},
        "list": [1, {1: evil}],
    }[where]
    pickled = pickle.dumps(content, protocol=protocol)
    with pytest.raises(ValueError, match="no named tensors"):
        read_tensors(write_zip(tmp_path / "evil.ckpt", pickled))
    assert not (tmp_path / "made").exists()
    pickle.loads(pickled)  # the same bytes, read as usual
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "name",
    ["os system", "posix system", "builtins eval", "builtins getattr", "torch load",
     "torch._utils _import_dotted_name", "collections namedtuple", "numpy load",
     "torch.storage _load_from_bytes", "collections OrderedDict.__init__", "functools partial"],
)  # fmt: skip
def test_every_other_name_is_inert(name, tmp_path):
    assert _Unpickler(io.BytesIO(), tmp_path, "").find_class(*name.split()) is Inert


def test_inert_objects_take_whatever_a_pickle_does_to_them(tmp_path):
    class Config:
        pass

    class Table(dict):
        pass

    class Rows(list):
        pass

    for cls in (Config, Table, Rows):
        cls.__qualname__ = cls.__name__
        globals()[cls.__name__] = cls
    config, table, rows = Config(), Table(a=1), Rows([1, 2])
    config.field = table.field = 3
    pickled = pickle.dumps([config, table, rows, {config: 1}, {1, 2}, np.float64(3), Config])
    found = _Unpickler(io.BytesIO(pickled), tmp_path, "").load()
    assert len(found) == 7
    assert all(isinstance(item, Inert) for item in found[:3])


def tensor(offset, shape, stride, storage="FloatStorage", count=4):
    """A pickle of {"a": tensor}, as torch writes it, with any numbers."""
    ascii_ = lambda text: f"V{text}\n".encode()  # noqa: E731
    number = lambda n: f"I{n}\n".encode()  # noqa: E731
    tuple_ = lambda items: b"(" + b"".join(number(item) for item in items) + b"t"  # noqa: E731
    persistent = (
        b"(" + ascii_("storage") + f"ctorch\n{storage}\n".encode() + ascii_("0") + ascii_("cpu")
        + number(count) + b"tQ"
    )  # fmt: skip
    rebuilt = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + number(offset) + tuple_(shape)
        + tuple_(stride) + b"I00\nccollections\nOrderedDict\n(tRtR"
    )  # fmt: skip
    return b"\x80\x02}" + ascii_("a") + rebuilt + b"s."


def test_a_tensor_is_a_view_of_its_storage(tmp_path):
    data = {"0": np.arange(4, dtype=np.float32).tobytes()}
    file = write_zip(tmp_path / "a.pt", tensor(1, (3,), (1,)), data)
    found = read_tensors(file)["a"]
    assert isinstance(found, Stored) and found.shape == (3,)
    np.testing.assert_array_equal(found.read(), [1, 2, 3])
    file = write_zip(tmp_path / "b.pt", tensor(0, (2, 2), (1, 2)), data)
    np.testing.assert_array_equal(read_tensors(file)["a"].read(), [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(1, (4,), (1,)), (0, (2, 2), (1, 3)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (10**9,), (1,))],
)
def test_a_tensor_beyond_its_storage_is_damage(offset, shape, stride, tmp_path):
    file = write_zip(tmp_path / "a.pt", tensor(offset, shape, stride), {"0": bytes(16)})
    with pytest.raises(ValueError, match="a.pt is damaged: a tensor "):
        read_tensors(file)


def test_a_storage_that_is_cut_short_is_damage(tmp_path):
    file = write_zip(tmp_path / "a.pt", tensor(0, (4,), (1,)), {"0": bytes(12)})
    with pytest.raises(
        ValueError, match="a.pt is damaged: archive/data/0 has 12 bytes instead of 16"
    ):
        read_tensors(file)["a"].read()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    file = tmp_path / "weights.ckpt"
    with pytest.raises(FileNotFoundError, match="no file .*weights.ckpt"):
        read_tensors(file)
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="neither a .safetensors file nor .* torch 1.6"):
        read_tensors(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(ValueError, match=r"not a torch checkpoint: it has no data\.pkl"):
        read_tensors(file)
    write_zip(file, b"\x80\x02}")
    with pytest.raises(ValueError, match="is damaged"):
        read_tensors(file)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"\xff" * 20)
    with pytest.raises(ValueError, match="safetensors is damaged"):
        read_tensors(file)


def test_safetensors_are_read_in_any_precision(tmp_path):
    import jax.numpy as jnp
    from safetensors.flax import save_file

    half = {
        name: jnp.arange(6, dtype=name).reshape(2, 3) for name in ("float32", "float16", "bfloat16")
    }
    save_file(half, tmp_path / "a.safetensors")
    found = read_tensors(tmp_path / "a.safetensors")
    assert set(found) == set(half)
    for name, value in found.items():
        assert value.shape == (2, 3) and value.read().dtype == jnp.dtype(name)
        np.testing.assert_array_equal(value.read().astype(np.float32), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named_when_it_is_read(wrong, tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "a.safetensors"
    good, bad = np.ones((2, 3), np.float32), np.ones((2, 3), np.float16)
    bad[1, 2] = wrong
    save_file({"good": good, "bad": bad, "count": np.asarray([7])}, file)
    tensors = read_tensors(file)
    np.testing.assert_array_equal(tensors["good"].read(), good)
    assert tensors["count"].read() == [7]
    with pytest.raises(ValueError, match="'bad' in .* is not finite: 1 of its 6 values"):
        tensors["bad"].read()


def test_what_torch_saves_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    saved = {
        "plain": base, "transposed": base.T, "part": base[1:3, 2:5], "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(base + 1.0),
        **{str(kind): base.to(kind) for kind in kinds},
    }  # fmt: skip
    optimizer = torch.optim.Adam([torch.nn.Parameter(base)])
    whole = {"epoch": 3, "optimizer": optimizer.state_dict(), "args": collections.Counter("ab")}
    for wrapped in ({"state_dict": saved}, {"model": saved}, saved):
        torch.save({**wrapped, **whole}, tmp_path / "a.ckpt")
        found = read_tensors(tmp_path / "a.ckpt")
        assert set(found) == set(saved)
        for name, value in saved.items():
            expected = value.detach().float().numpy()
            assert found[name].shape == expected.shape
            np.testing.assert_array_equal(found[name].read().astype(np.float32), expected)


def test_averaged_weights_come_first(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}}, tmp_path / "a.pt")
    assert read_tensors(tmp_path / "a.pt")["a"].read() == 1.0
