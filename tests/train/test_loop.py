"""The training loop: exact resume, determinism, devices, one trace, and what it writes."""

import dataclasses
import functools
import json
import os
import shutil
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.cli import trained as helper
from vqdit import parallel
from vqdit.config import Profile, differences
from vqdit.data import Digits
from vqdit.models import PatchGAN
from vqdit.optim.ema import PosthocEMA
from vqdit.parallel import Mesh
from vqdit.quantizers import RVQ, VQ, GroupedVQ
from vqdit.runs import frozen_arrays, lock, restoring, workdir
from vqdit.runs.checkpoint_verification import CorruptCheckpoint
from vqdit.runs.checkpoints import Checkpoints
from vqdit.tasks import Adversary
from vqdit.train import loop, nonfinite
from vqdit.train.loop import Run
from vqdit.train.recording import log_settings
from vqdit.train.signals import Interrupts
from vqdit.typing import Named


def lines(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def state_of(experiment, folder, **earlier):
    """The state that a run goes on from: of its newest checkpoint, or its first one."""
    folder.mkdir(exist_ok=True)
    run = Run(experiment, folder, tiny.resolver(earlier))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return parallel.host(jax.tree.map(_raw, run.start(checkpoints)))


def _raw(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A copy of the session's tokenizer, as tests of other files read that one."""
    folder = tmp_path_factory.mktemp("trained") / "tokenizer"
    shutil.copytree(helper.runs(tmp_path_factory) / "runs/tokenizer", folder)
    return folder


def finished(trained, folder):
    """Returns the outcome of `trained` and a copy of its workdir, whose run is complete."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    return tiny.run(tiny.tokenizer(), folder)


@pytest.fixture(scope="module")
def straight(trained, tmp_path_factory):
    """Returns a function that trains an experiment by its kind, once: its outcome and workdir."""

    @functools.cache
    def run(kind):
        folder = tmp_path_factory.mktemp(kind) / "run"
        with helper.one_device():
            return tiny.run(EXPERIMENTS[kind](), folder, tokenizer=trained), folder

    return run


EXPERIMENTS = {
    "tokenizer": tiny.tokenizer,
    "gan": tiny.gan,
    "masked": tiny.generator,
    "flow": tiny.flow_generator,
    "blocks": tiny.block_generator,
}
QUICK_AND_SLOW = [
    "masked",
    pytest.param("tokenizer", marks=pytest.mark.slow),
    pytest.param("gan", marks=pytest.mark.slow),
    pytest.param("flow", marks=pytest.mark.slow),
    pytest.param("blocks", marks=pytest.mark.slow),
]


class StopAt(Interrupts):
    """Asks for a stop after a step, as SIGTERM would."""

    at = 0

    def should_stop(self, step):
        if step == self.at:
            self.requested = signal.SIGTERM
        return super().should_stop(step)


@pytest.mark.parametrize("kind", QUICK_AND_SLOW)
def test_interrupted_and_resumed_is_bitwise_the_straight_run(
    kind, trained, straight, tmp_path, monkeypatch
):
    experiment = EXPERIMENTS[kind]()
    (_, straight), broken = straight(kind), tmp_path / "broken"
    monkeypatch.setattr(loop, "Interrupts", StopAt)
    for stop in (2, 4, 5):  # before, at and after a periodic checkpoint
        StopAt.at = stop
        assert tiny.run(experiment, broken, tokenizer=trained).exit_code == 75
    StopAt.at = -1
    assert tiny.run(experiment, broken, tokenizer=trained).exit_code == 0
    chex.assert_trees_all_equal(
        state_of(experiment, straight, tokenizer=trained),
        state_of(experiment, broken, tokenizer=trained),
    )
    assert lines(straight) == lines(broken)


@pytest.mark.parametrize("kind", QUICK_AND_SLOW)
def test_same_seed_gives_identical_metrics(kind, trained, straight, tmp_path):
    experiment = EXPERIMENTS[kind]()
    first, folder = straight(kind)
    second = tiny.run(experiment, tmp_path / "b", tokenizer=trained)
    assert first.metrics == second.metrics
    a, b = ((each / "metrics.jsonl").read_bytes() for each in (folder, tmp_path / "b"))
    assert a == b
    other = tiny.run(tiny.changed(experiment, seed=1), tmp_path / "c", tokenizer=trained)
    assert other.metrics != first.metrics


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_one_and_eight_devices_agree(kind, trained, tmp_path, monkeypatch, eight_devices):
    experiment = tiny.changed(EXPERIMENTS[kind](), steps=20)
    losses = {}
    for name, mesh in {"eight": Mesh(), "fsdp": Mesh(data=2, fsdp=4)}.items():
        folder = tmp_path / name
        tiny.run(tiny.changed(experiment, mesh=mesh), folder, tokenizer=trained)
        losses[name] = [line["loss"] for line in lines(folder) if "loss" in line]
    build = Mesh.build
    monkeypatch.setattr(Mesh, "build", lambda mesh: build(mesh, jax.devices()[:1]))
    tiny.run(experiment, tmp_path / "one", tokenizer=trained)
    losses["one"] = [line["loss"] for line in lines(tmp_path / "one") if "loss" in line]
    assert len(losses["one"]) == 20
    np.testing.assert_allclose(losses["eight"], losses["one"], atol=1e-5)
    np.testing.assert_allclose(losses["fsdp"], losses["one"], atol=1e-5)


def test_the_step_is_traced_once_and_moves_nothing_to_the_host(trained, tmp_path, eight_devices):
    experiment = tiny.generator()
    run = Run(experiment, tmp_path, tiny.resolver({"tokenizer": trained}))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state = run.start(checkpoints)

    @chex.assert_max_traces(n=1)
    def traced(*args):
        return run.step(*args)

    step = parallel.compile_step(traced, state)
    batches = experiment.data.train_batches(0, 0)
    for _ in range(4):
        batch = parallel.put_batch(next(batches), run.mesh)
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, run.frozen, batch)
    batches.close()
    assert int(state.step) == 4
    assert np.isfinite(metrics["loss"])


def test_the_state_is_donated(trained, tmp_path, eight_devices):
    experiment = tiny.generator()
    run = Run(experiment, tmp_path, tiny.resolver({"tokenizer": trained}))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state = run.start(checkpoints)
    step = parallel.compile_step(run.step, state)
    batch = parallel.put_batch(experiment.data.first_batch(0), run.mesh)
    new, _ = step(state, run.frozen, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new.params))


def test_training_lowers_the_loss(tmp_path):
    tiny.run(tiny.tokenizer(steps=60, checkpoint_every=0), tmp_path)
    losses = [line["reconstruction"] for line in lines(tmp_path) if "reconstruction" in line]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_a_finished_run_is_skipped_and_a_longer_one_goes_on(
    trained, straight, tmp_path, monkeypatch, caplog
):
    experiment, (first, folder) = tiny.generator(), straight("masked")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(loop, "Run", None)  # whoever builds the run fails
    with caplog.at_level("INFO", "vqdit"):
        again = tiny.run(experiment, tmp_path, tokenizer=trained)
    assert again == first._replace(preview=tmp_path / first.preview.relative_to(folder))
    assert f"{tmp_path} is already done: it has 6 steps" in caplog.text
    monkeypatch.undo()
    with helper.one_device():
        longer = tiny.run(tiny.changed(experiment, steps=8), tmp_path, tokenizer=trained)
    assert longer.step == 8
    steps = [line["step"] for line in lines(tmp_path) if "loss" in line]
    assert steps == list(range(1, 9))
    assert "steps: 6 -> 8" in (tmp_path / "log.txt").read_text()


def test_the_workdir_holds_what_is_promised(trained):
    assert {path.name for path in trained.iterdir()} >= {
        "config.json",
        "checkpoints",
        "metrics.jsonl",
        "performance.jsonl",
        "previews",
        "log.txt",
    }
    assert [line["step"] for line in lines(trained)] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    last = lines(trained)[-1]
    assert 0 < last["validation/codebook_usage"] <= 1
    assert 1 <= last["validation/codebook_perplexity"] <= 16
    timings = lines(trained, "performance.jsonl")[-1]
    assert timings["steps_per_second"] > 0
    assert not any("second" in name for line in lines(trained) for name in line)


def test_another_experiment_in_the_workdir_is_refused_by_name(trained):
    before = (trained / "config.json").read_bytes()
    quantizer = dataclasses.replace(tiny.tokenizer().task.quantizer, codebook_size=32)
    other = tiny.tokenizer(
        task=dataclasses.replace(tiny.tokenizer().task, quantizer=quantizer), seed=3
    )
    with pytest.raises(ValueError, match="different experiment") as error:
        tiny.run(other, trained)
    assert "task.quantizer.codebook_size: 16 -> 32" in str(error.value)
    assert "seed: 0 -> 3" in str(error.value)
    assert (trained / "config.json").read_bytes() == before


def test_fine_tuning_starts_from_the_other_run(trained, tmp_path):
    start = state_of(tiny.tokenizer(), trained)
    state = state_of(tiny.tokenizer(init_from=str(trained), steps=2), tmp_path)
    chex.assert_trees_all_equal(state.params, start.params)
    chex.assert_trees_all_equal(state.stats, start.stats)
    assert state.step == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.opt_state))
    # The codebook is learned: its first step quantizes, and there is no k-means.
    task, z = frozen_arrays.read_frozen(tmp_path)[0], jnp.ones((1, 4))
    stats = jax.tree.map(jnp.asarray, state.stats)
    quantized = task.quantizer.quantize({}, stats, z, step=jnp.int32(0))
    np.testing.assert_array_equal(quantized.z_q, stats.codebook[quantized.codes[:, 0]])


@pytest.mark.parametrize(
    "quantizer", [VQ(start=3), RVQ(quantizer=VQ(start=3)), GroupedVQ(quantizer=VQ(start=3))]
)
def test_a_quantizer_whose_codebook_is_learned_starts_at_once(quantizer):
    assert quantizer.start == 3
    assert quantizer.started().start == 0
    assert dataclasses.replace(quantizer.started(), **_inner(quantizer)) == quantizer


def _inner(quantizer):
    return {"quantizer": VQ(start=3)} if hasattr(quantizer, "quantizer") else {"start": 3}


def test_fine_tuning_from_a_codebook_that_is_not_learned_yet_is_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "early")
    file = tmp_path / "early/config.json"
    config = json.loads(file.read_text())
    config["task"]["quantizer"]["start"] = 9
    del config["sha256"]
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is only learned from step 9 on, .* has step 8; train it"):
        restoring.load_initial(tmp_path / "early", tiny.tokenizer().task, {}, {})


def test_fine_tuning_over_another_tokenizer_is_refused_unless_it_is_asked_for(trained, tmp_path):
    task = tiny.generator().task.resolve_references(lambda name: tiny.tokenizer().task)
    mine, others = (
        dataclasses.replace(task, fingerprints=Named(image=mark)) for mark in ("mine", "other")
    )
    frozen_arrays.write_frozen(tmp_path, others, {})
    workdir.claim(tmp_path, tiny.generator())
    with pytest.raises(ValueError, match="another tokenizer of 'image', .*--init-other-tokenizers"):
        restoring.load_initial(tmp_path, mine, {}, {})
    for allowed in ({"task": others}, {"task": mine, "other_tokenizers": True}):
        with pytest.raises(FileNotFoundError):  # there is no checkpoint
            restoring.load_initial(tmp_path, params={}, stats={}, **allowed)


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (tiny.tokenizer(steps=3), "task.quantizer.start=3 is not reached in 3 steps: nothing is"),
        (tiny.gan(steps=2), "task.adversary.start=2 is not reached in 2 steps: it is never"),
        (
            tiny.tokenizer(posthoc=PosthocEMA(every=9)),
            "posthoc.every=9 is more than all 8 steps: no average will be saved",
        ),
        (tiny.tokenizer(), ""),
    ],
)
def test_what_never_begins_is_said(experiment, message, caplog):
    log_settings(experiment, [], 0)
    assert message in caplog.text
    assert bool(message) == bool(caplog.text)


def test_a_longer_run_says_both_learning_rates(caplog):
    longer = tiny.tokenizer(steps=80)
    log_settings(longer, differences(tiny.tokenizer(), longer), 8)
    assert "at step 8 it changes from 0 to 0.00296" in caplog.text


def test_a_slow_step_is_waited_for_and_the_time_left_is_said_after_the_second(
    tmp_path, monkeypatch, capsys
):
    lags, see = [], nonfinite.Monitor.see

    def watched(self, step, metrics, lag):
        lags.append(lag)
        monkeypatch.setattr(loop, "SLOW", 0.0 if step < 5 else 1e9)
        return see(self, step, metrics, lag)

    monkeypatch.setattr(nonfinite.Monitor, "see", watched)
    tiny.run(tiny.tokenizer(log_every=8, checkpoint_every=0), tmp_path)
    assert " 2/8  loss " in capsys.readouterr().err
    assert lags == [0, 0, 0, 0, 0, nonfinite.LAG, nonfinite.LAG, 0]


@pytest.mark.slow
def test_fine_tuning_may_add_or_drop_the_adversary(trained, tmp_path):
    discriminator = PatchGAN(channels=4, layers=1)
    task = dataclasses.replace(
        tiny.tokenizer().task, adversary=Adversary(discriminator=discriminator)
    )
    adding = tiny.tokenizer(task=task, init_from=str(trained), steps=1)
    start = state_of(tiny.tokenizer(), trained)
    state = state_of(adding, tmp_path / "first")
    learned = {name: part for name, part in state.params.items() if name != "discriminator"}
    chex.assert_trees_all_equal(learned, start.params)
    chex.assert_trees_all_equal(state.stats["bottleneck"], start.stats)
    fresh = state_of(dataclasses.replace(adding, init_from=""), tmp_path / "fresh")
    chex.assert_trees_all_equal(state.params["discriminator"], fresh.params["discriminator"])
    chex.assert_trees_all_equal(state.stats["adversary"], fresh.stats["adversary"])

    tiny.run(adding, tmp_path / "gan")
    ended = state_of(adding, tmp_path / "gan")
    dropping = tiny.tokenizer(init_from=str(tmp_path / "gan"), steps=1)
    state = state_of(dropping, tmp_path / "second")
    chex.assert_trees_all_equal(
        {**state.params, "discriminator": ended.params["discriminator"]}, ended.params
    )
    chex.assert_trees_all_equal(state.stats, ended.stats["bottleneck"])


def test_fine_tuning_from_a_run_that_does_not_fit_names_the_leaves(trained, tmp_path):
    task = tiny.tokenizer().task
    wider = dataclasses.replace(task, model=dataclasses.replace(task.model, channels=(4, 12)))
    with pytest.raises(
        ValueError, match=r"params/decoder/in/bias: expected float32\[12\], found float32\[8\]"
    ):
        tiny.run(tiny.tokenizer(task=wider, init_from=str(trained)), tmp_path)


def test_a_batch_that_does_not_divide_by_the_devices_is_refused(tmp_path, eight_devices):
    data = dataclasses.replace(tiny.tokenizer().data, batch_size=30)
    with pytest.raises(
        ValueError,
        match=r"30 is not divisible by the 8 devices; the nearest possible sizes are 24 or 32",
    ):
        tiny.run(tiny.tokenizer(data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="'tokenizer'"):
        tiny.run(tiny.generator(), tmp_path / "run")


def test_latent_statistics_are_those_of_the_training_data(trained, tmp_path):
    experiment = tiny.flow_generator()
    run = Run(experiment, tmp_path, tiny.resolver({"tokenizer": trained}))
    held = run.frozen["image"]
    task = run.task.tokenizers["image"]
    images = jnp.asarray(experiment.data.source.split("train").take(np.arange(1437))["image"])
    codes = task.encode(held["params"], held["stats"], images)
    z = np.asarray(task.lookup(held["params"], held["stats"], codes), np.float64).reshape(-1, 4)
    np.testing.assert_allclose(held["mean"], z.mean(0), atol=1e-5)
    np.testing.assert_allclose(held["std"], z.std(0), rtol=1e-4)


def test_other_data_under_the_same_config_are_refused(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    before = (tmp_path / "run" / "data.json").read_bytes()
    real = Digits.fingerprint
    monkeypatch.setattr(Digits, "fingerprint", lambda digits: real(digits) | {"checksum": "other"})
    with pytest.raises(ValueError, match=r"the data differ from those.* checksum: \w+ -> other;"):
        tiny.run(tiny.tokenizer(steps=10), tmp_path / "run")
    assert (tmp_path / "run" / "data.json").read_bytes() == before


def test_a_start_that_failed_leaves_the_workdir_free(trained, tmp_path):
    task = tiny.tokenizer().task
    wider = dataclasses.replace(task, model=dataclasses.replace(task.model, channels=(4, 12)))
    with pytest.raises(ValueError, match="does not match the experiment"):
        tiny.run(tiny.tokenizer(task=wider, init_from=str(trained)), tmp_path)
    assert tiny.run(tiny.tokenizer(init_from=str(trained), steps=2), tmp_path).step == 2
    assert (tmp_path / "config.json").is_file()


def test_targets_are_generated_in_the_same_number_of_steps():
    image = tiny.generator().task.targets["image"]
    other = dataclasses.replace(image, sampler=dataclasses.replace(image.sampler, steps=9))
    with pytest.raises(ValueError, match="got image 3, other 9"):
        dataclasses.replace(tiny.generator().task, targets=Named(image=image, other=other))


def test_two_runs_in_one_workdir_are_refused(tmp_path):
    (tmp_path / "frozen").mkdir()
    (tmp_path / "data.json").write_text("{}")  # of a run that has not saved its config yet
    with lock.locked(tmp_path):
        with pytest.raises(ValueError, match="another run is using"):
            tiny.run(tiny.tokenizer(), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"frozen", "data.json", ".lock"}
    with lock.locked(tmp_path):
        pass  # free again


def test_a_begun_run_does_not_go_on_without_its_frozen_arrays(trained, straight, tmp_path):
    shutil.copytree(straight("masked")[1], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "frozen")
    with pytest.raises(ValueError, match="frozen is missing"):
        tiny.run(tiny.generator(steps=8), tmp_path, tokenizer=trained)
    with pytest.raises(FileNotFoundError, match="frozen is missing"):
        restoring.restore(tmp_path)


def test_a_finished_run_without_checkpoints_trains_again_if_told(trained, tmp_path, monkeypatch):
    first = finished(trained, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    for name in ("saved.json", "result.json"):
        with pytest.raises(ValueError, match=f"{name}, the run was saved at step 8"):
            tiny.run(tiny.tokenizer(), tmp_path)
        (tmp_path / name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Interrupts", StopAt)
        patch.setattr(StopAt, "at", 2)
        assert tiny.run(tiny.tokenizer(), tmp_path).step == 2
    assert tiny.run(tiny.tokenizer(), tmp_path) == first
    assert restoring.restore(tmp_path).step == 8


@pytest.mark.parametrize("harm", ["checkpoint", "result"])
def test_a_finished_run_that_is_damaged_goes_on_instead(trained, tmp_path, caplog, harm):
    first = finished(trained, tmp_path)
    if harm == "result":
        os.truncate(tmp_path / "result.json", 10)
    else:
        largest = max((tmp_path / "checkpoints/8").rglob("*"), key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-1])
        with pytest.raises(CorruptCheckpoint, match="checkpoint 8 .* is damaged"):
            loop.train(tiny.tokenizer(), tmp_path, tiny.resolver({}), strict=True)
    assert tiny.run(tiny.tokenizer(), tmp_path) == first
    assert "is not treated as complete" in caplog.text
    assert workdir.finished(tmp_path, tiny.tokenizer()) is not None
    assert (tmp_path / "checkpoints/damaged-8").exists() == (harm == "checkpoint")


def test_checkpoints_whose_config_is_missing_are_not_taken_over(trained, tmp_path):
    finished(trained, tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json is missing: it defines the experiment"):
        tiny.run(tiny.tokenizer(), tmp_path)
    assert Checkpoints(tmp_path / "checkpoints").latest() == 8


def test_the_profile_is_in_the_workdir(tmp_path):
    tiny.run(tiny.tokenizer(profile=Profile(start=2, steps=1), steps=3), tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_best_that_cannot_be_told_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(ValueError, match="keep_best='psrn' is not a metric .* psnr"):
        tiny.run(tiny.tokenizer(keep_best="psrn"), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    tiny.run(tiny.tokenizer(keep_best="-l1", evaluate_every=3, checkpoint_every=4), tmp_path)
    assert "only the last step is both evaluated and saved" in (tmp_path / "log.txt").read_text()
