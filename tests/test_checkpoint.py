"""Checkpoints: exact, atomic, verified, and restored onto any devices."""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit import parallel
from vqdit.parallel import Mesh
from vqdit.runs import checkpoints as module
from vqdit.runs.array_trees import flatten
from vqdit.runs.checkpoint_retention import Keep
from vqdit.runs.checkpoint_verification import CheckpointMismatch, CorruptCheckpoint
from vqdit.runs.checkpoints import Checkpoints, load_tree, save_tree
from vqdit.runs.failed_saves import FailedSave
from vqdit.typing import Named


class State(NamedTuple):
    """A state with one leaf of every kind."""

    step: jax.Array
    params: dict
    stats: Named
    empty: tuple
    key: jax.Array


def state(number=0):
    return State(
        step=jnp.int32(number),
        params={
            "kernel": jax.random.normal(jax.random.key(number), (512, 256)),
            "half": jnp.arange(7, dtype=jnp.bfloat16),
            "flag": jnp.asarray([True, False]),
        },
        stats=Named(
            count=jnp.arange(3, dtype=jnp.uint32), nan=jnp.asarray([jnp.nan, jnp.inf, -0.0])
        ),
        empty=(),
        key=jax.random.key(number + 7),
    )


def raw(tree):
    """The bits of every leaf, so that NaN equals itself and -0 differs from 0."""
    return {path: np.asarray(leaf).tobytes() for path, leaf in flatten(tree).items()}


def like(tree):
    return jax.eval_shape(lambda: tree)


def spoil(folder: Path, step: int) -> None:
    """Changes one bit in the middle of the array data of a checkpoint."""
    files = [f for f in (folder / str(step)).rglob("*") if f.is_file()]
    file = max(files, key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_round_trip_is_bitwise_and_typed(tmp_path):
    saved = state()
    with Checkpoints(tmp_path, Keep(last=2)) as checkpoints:
        checkpoints.save(3, saved)
        checkpoints.wait()
        found = checkpoints.restore(like(saved))
    assert raw(found) == raw(saved)
    assert jax.tree.structure(found) == jax.tree.structure(saved)
    assert jnp.issubdtype(found.key.dtype, jax.dtypes.prng_key)
    chex.assert_trees_all_equal_dtypes(found.params, saved.params)


def test_paths_are_readable():
    assert set(flatten(state())) == {
        "step",
        "params/kernel",
        "params/half",
        "params/flag",
        "stats/count",
        "stats/nan",
        "key",
    }


def test_saved_on_eight_devices_restored_on_any(tmp_path):
    mesh = Mesh(data=1, fsdp=8).build(jax.devices())
    saved = parallel.create(state, mesh)
    assert len(saved.params["kernel"].sharding.device_set) == 8
    assert not saved.params["kernel"].is_fully_replicated
    save_tree(tmp_path / "tree", saved)
    for devices in (8, 4, 1):
        other = Mesh(fsdp=devices).build(jax.devices()[:devices])
        found = load_tree(tmp_path / "tree", parallel.abstract(state, other))
        assert raw(found) == raw(saved)
        assert len(found.params["kernel"].sharding.device_set) == devices


def test_a_state_may_be_donated_while_it_is_being_saved(tmp_path):
    saved = state()
    expected = raw(saved)
    zero = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)
    with Checkpoints(tmp_path, Keep(last=1)) as checkpoints:
        checkpoints.save(1, saved)
        jax.block_until_ready(zero(saved.params))
        checkpoints.wait()
        assert raw(checkpoints.restore(like(state()))) == expected


def test_the_last_ones_are_kept(tmp_path):
    with Checkpoints(tmp_path, Keep(last=2)) as checkpoints:
        for step in (1, 2, 10):
            checkpoints.save(step, state(step))
    assert Checkpoints(tmp_path).steps() == [2, 10]
    assert Checkpoints(tmp_path).latest() == 10


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    with Checkpoints(tmp_path, Keep(last=2)) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(1, state(2))
        found = checkpoints.restore(like(state()))
    assert int(found.step) == 1


def test_only_some_fields_can_be_restored(tmp_path):
    with Checkpoints(tmp_path, Keep(last=1)) as checkpoints:
        checkpoints.save(1, state())
    abstract = {"stats": like(state()).stats}
    found = Checkpoints(tmp_path).restore(abstract, only=("stats",))
    assert raw(found["stats"]) == raw(state().stats)


def test_differences_are_listed_by_path(tmp_path):
    save_tree(tmp_path / "tree", state())
    wanted = state()
    wanted.params["kernel"] = jnp.zeros((2, 2))
    wanted.params["half"] = jnp.zeros(7, jnp.float32)
    wanted.params["more"] = jnp.zeros(1)
    del wanted.params["flag"]
    with pytest.raises(CheckpointMismatch) as error:
        load_tree(tmp_path / "tree", like(wanted))
    message = str(error.value)
    assert "params/kernel: expected float32[2, 2], found float32[512, 256]" in message
    assert "params/half: expected float32[7], found bfloat16[7]" in message
    assert "params/more: expected float32[1], found nothing" in message
    assert "params/flag: expected nothing, found bool[2]" in message


def test_one_flipped_bit_is_noticed_and_the_one_before_is_used(tmp_path, caplog):
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step))
    spoil(tmp_path, 2)
    with pytest.raises(CorruptCheckpoint, match="checkpoint 2"):
        Checkpoints(tmp_path).restore(like(state()), 2)
    found = Checkpoints(tmp_path).restore(like(state()))
    assert raw(found) == raw(state(1))


def test_all_spoiled_is_an_error_that_is_said_once(tmp_path, caplog):
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        checkpoints.save(1, state(1))
    spoil(tmp_path, 1)
    with pytest.raises(CorruptCheckpoint, match="there is no undamaged checkpoint: restore one"):
        Checkpoints(tmp_path).restore(like(state()))
    assert "damaged" not in caplog.text


def test_nothing_saved_is_said(tmp_path):
    assert Checkpoints(tmp_path / "none").latest() is None
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        Checkpoints(tmp_path / "none").restore(like(state()))


def test_what_a_killed_save_left_is_no_checkpoint_and_is_cleaned(tmp_path):
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        checkpoints.save(1, state(1))
    left = tmp_path / "2.orbax-checkpoint-tmp-3"
    left.mkdir()
    (left / "part").write_text("x")
    assert Checkpoints(tmp_path).steps() == [1]
    assert left.exists()  # a reader touches nothing
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        assert checkpoints.latest() == 1
    assert not left.exists()


def test_fingerprints_do_not_depend_on_the_layout(tmp_path):
    marks = []
    for fsdp in (1, 8):
        mesh = Mesh(fsdp=fsdp).build(jax.devices()[:fsdp])
        folder = tmp_path / str(fsdp)
        save_tree(folder, parallel.create(state, mesh))
        text = (folder / "0" / "_CHECKPOINT_METADATA").read_text()
        marks.append(json.loads(text)["custom_metadata"]["fingerprints"])
    assert marks[0] == marks[1]
    assert len(marks[0]) == 7


def parts(folder):
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_every_flipped_bit_is_reported(tmp_path):
    """Of 100 at random, wherever they are."""
    saved = state(1)
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        checkpoints.save(1, saved)
    random, files = np.random.default_rng(0), parts(tmp_path / "1")
    sizes = np.array([file.stat().st_size for file in files], float)
    for _ in range(100):
        # As often in a small file as in a large one, or by size.
        share = None if random.random() < 0.5 else sizes / sizes.sum()
        file = files[random.choice(len(files), p=share)]
        content = file.read_bytes()
        flipped = bytearray(content)
        if not flipped:
            continue
        flipped[random.integers(len(flipped))] ^= 1 << random.integers(8)
        file.write_bytes(flipped)
        with pytest.raises(CorruptCheckpoint, match="checkpoint 1 in .* is damaged"):
            Checkpoints(tmp_path).restore(like(saved))
        file.write_bytes(content)
    assert raw(Checkpoints(tmp_path).restore(like(saved))) == raw(saved)


def shorten(file):
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("_CHECKPOINT_METADATA", Path.unlink, "_CHECKPOINT_METADATA is missing"),
        ("commit_success.txt", Path.unlink, "commit_success.txt is missing"),
        ("state/manifest.ocdbt", Path.unlink, "state/manifest.ocdbt is missing"),
        (
            "state/manifest.ocdbt",
            shorten,
            r"state/manifest.ocdbt has \d+ bytes, but \d+ were saved",
        ),
        ("manifest.json", shorten, "manifest.json is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path, caplog, name, harm, message
):
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step))
    harm(tmp_path / "2" / name)
    with pytest.raises(CorruptCheckpoint, match=f"checkpoint 2 in .* is damaged: {message}"):
        Checkpoints(tmp_path).restore(like(state()), strict=True)
    assert raw(Checkpoints(tmp_path).restore(like(state()))) == raw(state(1))
    assert "checkpoint 2" in caplog.text
    assert Checkpoints(tmp_path).steps() == [1, 2]  # a reader touches nothing


def test_a_damaged_checkpoint_is_set_aside_and_its_step_saved_again(tmp_path):
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step))
    spoil(tmp_path, 2)
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        assert int(checkpoints.restore(like(state())).step) == 1
        assert (tmp_path / "damaged-2").is_dir()
        checkpoints.save(2, state(2))
        checkpoints.save(3, state(3))
    assert Checkpoints(tmp_path).steps() == [1, 2, 3]
    assert raw(Checkpoints(tmp_path).restore(like(state()), 2)) == raw(state(2))


def test_one_without_checksums_is_still_verified_by_its_fingerprints(tmp_path):
    """A save that was killed after the commit, or a checkpoint of an older version."""
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        checkpoints.save(1, state(1))
    (tmp_path / "1" / "manifest.json").unlink()
    assert raw(Checkpoints(tmp_path).restore(like(state()))) == raw(state(1))
    spoil(tmp_path, 1)
    with pytest.raises(CorruptCheckpoint):
        Checkpoints(tmp_path).restore(like(state()))


def test_some_are_kept_for_good_and_the_best_too(tmp_path):
    losses = {1: 0.5, 2: 0.1, 3: 0.3, 4: 0.4, 5: 0.2, 6: 0.6, 7: 0.7}
    with Checkpoints(tmp_path, Keep(last=1, every=3, best="-loss")) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, state(step), None if step == 5 else {"loss": loss})
    assert Checkpoints(tmp_path).steps() == [2, 3, 6, 7]


def test_a_best_by_a_metric_that_is_not_there_is_told_and_loses_nothing(tmp_path, caplog):
    with Checkpoints(tmp_path, Keep(last=1, best="psrn")) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), {"psnr": 20.0, "l1": 0.1})
    assert Checkpoints(tmp_path).steps() == [2]
    assert (
        "there is no metric 'psrn' to determine the best checkpoint; metrics: psnr, l1"
        in caplog.text
    )


def test_rules_that_keep_nothing_are_refused():
    with pytest.raises(ValueError, match="last >= 1"):
        Keep(last=0)


def test_versions_are_written_down(tmp_path):
    save_tree(tmp_path, state())
    record = json.loads((tmp_path / "0" / "_CHECKPOINT_METADATA").read_text())
    assert record["custom_metadata"]["versions"]["jax"] == jax.__version__


SMALL = {"a": np.arange(4.0, dtype=np.float32)}


@pytest.mark.parametrize(
    "name", ["runs[1]", "[ab]", "a*?b", "**", "{a,b}", " ~$x", "a%20b#c&d", "été 日本", "-x\n'\""]
)
def test_no_character_of_a_path_loses_a_checkpoint(tmp_path, name):
    save_tree(tmp_path / name, SMALL)
    assert raw(load_tree(tmp_path / name, like(SMALL))) == raw(SMALL)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a\\b", "a backslash"),
        ("gs:/b", "a folder 'gs:', which is the beginning of an address"),
        ("a\udcff", "a character that is not UTF-8"),
    ],
)
def test_a_path_that_orbax_cannot_use_is_refused_before_anything_is_written(tmp_path, name, why):
    with pytest.raises(ValueError, match=f"checkpoints cannot be saved in .* the path has {why}"):
        save_tree(tmp_path / name, SMALL)
    assert os.listdir(tmp_path) == []


def test_names_of_files_in_another_encoding_than_utf_8_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vqdit.runs.orbax_paths.os.fsencode", lambda text: text.encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8 in the encoding of this machine"):
        save_tree(tmp_path / "été", SMALL)


def test_a_checkpoint_is_opened_after_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "literal", lambda folder: folder)  # Orbax reads it as a pattern
    with pytest.raises(FailedSave, match="checkpoint 0 could not be .* its arrays are missing"):
        save_tree(tmp_path / "[ab]", SMALL)
    assert os.listdir(tmp_path / "[ab]") == []


def test_a_reader_looks_again_for_a_checkpoint_that_was_removed_meanwhile(
    tmp_path, caplog, monkeypatch
):
    with Checkpoints(tmp_path / "checkpoints", Keep(last=2)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"a": SMALL["a"] + step})
    folder, hidden = tmp_path / "checkpoints", tmp_path / "hidden"
    (folder / "2").rename(hidden)
    verify = module.verify_files

    def saved_meanwhile(checked):
        if hidden.exists():
            hidden.rename(folder / "2")
            shutil.rmtree(folder / "1")
        verify(checked)

    monkeypatch.setattr(module, "verify_files", saved_meanwhile)
    found = Checkpoints(folder).restore(like(SMALL))
    assert raw(found) == raw({"a": SMALL["a"] + 2})
    assert not caplog.records
