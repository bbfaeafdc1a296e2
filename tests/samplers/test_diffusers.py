"""Every sampler does, step for step, what the public scheduler of its name does."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import DDPM
from vqdit.random import normal, streams
from vqdit.samplers import (
    DDIM,
    Ancestral,
    DPMSolver,
    Euler,
    EulerAncestral,
    Heun,
    Respaced,
    UniPC,
    trajectory,
)
from vqdit.typing import Named

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
# Schedulers make NumPy arrays of tensors.
pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

STEPS, BATCH, LENGTH, WIDTH = 20, 2, 3, 2
QUICK = {"xla_backend_optimization_level": 0}
"""Compiling takes longer than running here."""
TABLE = {
    "DDPM": (Ancestral(steps=STEPS), {"clip_sample": False}, {}),
    "DDIM": (DDIM(steps=STEPS), {"clip_sample": False}, {}),
    "DDIM-eta": (DDIM(steps=STEPS, eta=0.6), {"clip_sample": False}, {"eta": 0.6}),
    "EulerDiscrete": (Euler(steps=STEPS), {}, {}),
    "EulerAncestralDiscrete": (EulerAncestral(steps=STEPS), {}, {}),
    "HeunDiscrete": (Heun(steps=STEPS), {}, {}),
    "DPMSolverMultistep": (DPMSolver(steps=STEPS), {}, {}),
    "DPMSolverMultistep-3": (DPMSolver(steps=STEPS, order=3), {"solver_order": 3}, {}),
    "DPMSolverMultistep-sde": (
        DPMSolver(steps=STEPS, stochastic=True),
        {"algorithm_type": "sde-dpmsolver++"},
        {},
    ),
    "UniPCMultistep": (UniPC(steps=STEPS), {}, {}),
    "UniPCMultistep-3": (UniPC(steps=STEPS, order=3), {"solver_order": 3}, {}),
}
KINDS = {"eps": "epsilon", "v": "v_prediction"}
CASES = [(name, kind) for name in TABLE for kind in KINDS]


def network(x, step, xp):
    """A toy network: the noise in normal data, and a part that depends on everything it sees."""
    share = step / 1000.0
    w = 1.0 - xp.exp(-0.1 * share - 9.95 * share**2)  # sigma^2
    return w * x + 0.2 * (1.0 - w) * xp.sin(2.0 * x + step / 300.0)


def start():
    return np.random.default_rng(0).normal(size=(BATCH, LENGTH, WIDTH)).astype(np.float32)


def keys():
    return jax.random.split(jax.random.key(0), BATCH)


def ours(sampler, process):
    """x before every step and after the last, and the noise of every step."""
    even = jnp.linspace(1.0, 0.0, STEPS + 1)
    times = Named(x=sampler.times(process, even))

    def predict(x, t):
        seen, step = process.network_input(x["x"], t["x"])
        return Named(x=network(seen, step[..., None], jnp))

    def run(x_1):
        each = Named(x=sampler), Named(x=process), Named(x=x_1), times
        x_0, path = trajectory(keys(), predict, *each)
        return jnp.concatenate([path["x"], x_0["x"][None]])

    x_1, fold = jnp.asarray(start()), jax.vmap(jax.random.fold_in, (0, None))
    path = jax.jit(run, compiler_options=QUICK)(x_1)
    drawn = [normal(fold(streams(keys(), "x"), number), x_1.shape[1:]) for number in range(STEPS)]
    return np.asarray(path), np.stack(drawn)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_step_is_that_of_the_public_scheduler(name, kind, monkeypatch):
    sampler, config, step_options = TABLE[name]
    path, noise = ours(sampler, DDPM(prediction=kind))
    scheduler = getattr(diffusers, f"{name.partition('-')[0]}Scheduler")(
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type=KINDS[kind],
        timestep_spacing="trailing",
        **config,
    )
    scheduler.set_timesteps(STEPS)
    drawn = iter(noise)
    module = importlib.import_module(type(scheduler).__module__)
    monkeypatch.setattr(
        module, "randn_tensor", lambda *args, **kwargs: torch.tensor(next(drawn)), raising=False
    )

    seen = []
    sigmas = getattr(scheduler, "sigmas", None)
    x = torch.tensor(start())
    is_scaled = name.startswith(("Euler", "Heun"))  # their x is x / alpha
    if is_scaled:
        x = x * torch.sqrt(sigmas[0] ** 2 + 1.0)
    for number, step in enumerate(scheduler.timesteps):
        if name != "HeunDiscrete" or scheduler.state_in_first_order:
            level = sigmas[number] if is_scaled else 0.0
            seen.append((x / (level**2 + 1.0) ** 0.5).numpy() if is_scaled else x.numpy())
        model_input = scheduler.scale_model_input(x, step)
        prediction = network(model_input.numpy(), float(step), np).astype(np.float32)
        x = scheduler.step(torch.tensor(prediction), step, x, **step_options).prev_sample
    seen.append(x.numpy())
    np.testing.assert_allclose(path, np.stack(seen), atol=1e-4)
    assert np.abs(path[-1] - path[0]).max() > 0.1


def test_respaced_takes_the_steps_of_published_tables():
    for count in (1, 2, 20, 250):
        even = jnp.linspace(1.0, 0.0, count + 1)
        ours = np.asarray(Respaced().times(DDPM(), even)) * 1000 - 1
        theirs = diffusers.DDPMScheduler(timestep_spacing="linspace")
        theirs.set_timesteps(count)
        expected = [*theirs.timesteps.numpy(), -1.0] if count > 1 else [999.0, -1.0]
        np.testing.assert_allclose(ours, expected, atol=1e-3)
