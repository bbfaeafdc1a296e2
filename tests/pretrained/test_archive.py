"""Checkpoint files: their tensors are read, and nothing in them is run."""

import collections
import json
import os
import pickle
import time
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.pretrained import pickles
from vqdit.pretrained.archive import Stored, read_tensors
from vqdit.pretrained.pickles import INERT


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
    ["os system", "builtins eval", "torch load", "torch.storage _load_from_bytes",
     "numpy dtype", "torch BFloat16Storage", "collections OrderedDict.__init__"],
)  # fmt: skip
@pytest.mark.parametrize("instructions", [b"c{}\n{}\n", b"c{}\n{}\n(tR", b"(i{}\n{}\n"])
def test_no_name_is_looked_up_or_changed(name, instructions):
    """BUILD changes the object that stands on the stack: none outlives the reading."""
    made = instructions.decode().format(*name.split()).encode()
    state = b"(I1\nVbfloat16\nN(I1\ntN}Va\nI1\nsI-1\nI-1\nI0\nt"
    before = jnp.ones(3, jnp.bfloat16).sum(), os.system, repr(np.dtype(jnp.bfloat16))
    for built in (state + b"b", b"}Valignment\nI0\nsb", b"N}Vx\nI1\ns\x86b"):
        pickled = b"\x80\x02" + made + built + b"."
        found = pickles.read(pickled, persistent=lambda _: INERT, call=lambda *_: INERT)
        assert found is INERT or found == pickles.Global(*name.split())
    after = jnp.ones(3, jnp.bfloat16).sum(), os.system, repr(np.dtype(jnp.bfloat16))
    assert before == after and not hasattr(np.dtype(jnp.bfloat16), "x")


def test_other_objects_are_inert():
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
    whole = (config, table, rows, [1], {config: 1, "a": 2}, {1, 2}, np.float64(3), b"a", 1.5)
    for protocol in range(6):
        pickled = pickle.dumps(whole, protocol=protocol)
        found = pickles.read(pickled, persistent=lambda _: INERT, call=lambda *_: INERT)
        assert [value is INERT for value in found.values] == [True] * 4 + [False] + [True] * 4
        assert found.values[4] == {"a": 2}


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


TINY = b"\x80\x02"


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (TINY + b"\x96" + (2**32).to_bytes(8, "little") + b"a" * 8, "expected 4294967296 bytes"),
        (TINY + b"\x8e" + (2**40).to_bytes(8, "little"), "expected 1099511627776 bytes"),
        (TINY + b"Nr\xff\xff\xff\x7f.", "no named tensors"),
        (TINY + b"}" + b")" + b"\x85" * 50_000 + b"Ns.", "no named tensors"),
        (TINY + b"N" * 60_000 + b".", "more than 55,000 instructions"),
        (TINY + b"I" + b"9" * 5000 + b"\n.", "is damaged"),
        (TINY + b"h\x07.", "refers to an object that it has not stored"),
        (TINY + b"t.", "refers to an object that it has not stored"),
        (TINY + b".", "refers to an object that it has not stored"),
        (TINY + b"\x82\x01.", "no named tensors"),
        (TINY + b"\x97.", "no named tensors"),
    ],
    ids=["bytes", "long", "memory", "nested", "many", "digits", "get", "mark", "empty",
         "extension", "buffer"],
)  # fmt: skip
def test_a_pickle_that_claims_much_is_refused_at_once(pickled, message, tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MOST", 55_000)  # the type checks of the tests are slow
    file, started = write_zip(tmp_path / "a.pt", pickled), time.monotonic()
    with pytest.raises(ValueError, match=f"a.pt .*{message}"):
        read_tensors(file)
    assert time.monotonic() - started < 4.0


def test_a_zip_that_inflates_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "a.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor(0, (4,), (1,), count=250_000))
        archive.writestr("archive/data/0", bytes(1_000_000))
    with pytest.raises(
        ValueError, match=r"entries of the archive declare 1,000,\d+ bytes, but the file"
    ):
        read_tensors(file)


@pytest.mark.parametrize(
    ("shape", "stride", "message"),
    [
        ((10**6, 8), (0, 1), "it declares 8,000,000 values, but has "),
        ((0, 10**12), (1, 1), "it declares 1,000,000,000,000 values, but has "),
        ((1,) * 9, (1,) * 9, "a tensor has an invalid offset, shape or stride"),
        ((2**64,), (1,), "a tensor has an invalid offset, shape or stride"),
        ((2, 2), (1,), "a tensor has the invalid shape .* or stride"),
    ],
)
def test_a_tensor_of_more_values_than_its_file_has_bytes_is_refused(
    shape, stride, message, tmp_path
):
    file = write_zip(tmp_path / "a.pt", tensor(0, shape, stride, count=16), {"0": bytes(64)})
    with pytest.raises(ValueError, match=f"a.pt is damaged: {message}"):
        read_tensors(file)


def safetensors(file, header, body=b"", claimed=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if claimed is None else claimed
    file.write_bytes(length.to_bytes(8, "little") + text + body)
    return file


def entry(start, stop, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 16, (4,))}, "'a' declares the bytes 0 to 16, .* end within 8"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, "'b' declares the bytes 4 to 12"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, "'b' declares the bytes 0 to 8, .* begin at 8"),
        ({"a": entry(0, 8, (2**40,))}, "does not describe a tensor"),
        ({"a": entry(0, 0, (0, 10**12))}, "it declares 1,000,000,000,000 values, but has"),
        (
            {"a": entry(0, 8, (8,), "F8_E4M3")},
            "unsupported data type 'F8_E4M3'; supported: F64, F32, F16",
        ),
        ({"a": entry(-8, 0)}, "does not describe a tensor"),
        ({"a": 1}, "a must be an object, got 1"),
        ([1], "not a description of tensors"),
        (b"{" + b'"a":[' * 100_000, "not a description of tensors"),
        (b'{"\xff": 1}', "not a description of tensors"),
        ({"a\x1b[31m": entry(0, 8)}, r"a tensor has the invalid name 'a\\x1b\[31m'"),
    ],
)
def test_what_a_header_claims_is_compared_with_the_file(header, message, tmp_path):
    file = safetensors(tmp_path / "a.safetensors", header, bytes(8))
    with pytest.raises(ValueError, match=f"a.safetensors is damaged: .*{message}") as error:
        read_tensors(file)
    assert str(error.value).isprintable()


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    file = safetensors(tmp_path / "a.safetensors", {}, claimed=2**40)
    with pytest.raises(ValueError, match="declares 1,099,511,627,776 bytes, but the file has 10"):
        read_tensors(file)


def test_the_content_decides_and_not_the_name(tmp_path):
    file = safetensors(tmp_path / "a.pt", {"a": entry(0, 8)}, np.arange(2, dtype="<f4").tobytes())
    np.testing.assert_array_equal(read_tensors(file)["a"].read(), [0, 1])
    data = {"0": np.arange(4, dtype=np.float32).tobytes()}
    file = write_zip(tmp_path / "b.safetensors", tensor(0, (4,), (1,)), data)
    np.testing.assert_array_equal(read_tensors(file)["a"].read(), np.arange(4))
    for start, message in (
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS; run `git"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"\x1f\x8b\x08\x00", "is compressed by gzip; unpack it"),
    ):
        file.write_bytes(start)
        with pytest.raises(ValueError, match=f"b.safetensors {message}"):
            read_tensors(file)


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."]
)
def test_what_training_adds_to_names_is_removed(prefix, tmp_path):
    file = safetensors(tmp_path / "a.safetensors", {f"{prefix}a.b": entry(0, 8)}, bytes(8))
    assert list(read_tensors(file)) == ["a.b"]
    both = {f"{prefix}a": entry(0, 8), "a": entry(8, 16)}
    with pytest.raises(ValueError, match="two tensors with the same name"):
        read_tensors(safetensors(file, both, bytes(16)))


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


@pytest.mark.peers
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


@pytest.mark.peers
def test_averaged_weights_come_first(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}}, tmp_path / "a.pt")
    assert read_tensors(tmp_path / "a.pt")["a"].read() == 1.0
