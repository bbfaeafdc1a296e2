"""Where the steps of a sampler lie."""

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import DDPM, Flow, Masked
from vqdit.samplers import DPMSolver, Euler, Even, Karras, Respaced, Shifted, Unmasking
from vqdit.samplers.spacing import noise_level, time_of

EVEN = jnp.linspace(1.0, 0.0, 9)
WINDOW = jnp.asarray([1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
TABLE = [
    pytest.param(Even(), Flow(), id="Even"),
    pytest.param(Shifted(), Flow(), id="Shifted"),
    pytest.param(Karras(), DDPM(), id="Karras"),
    pytest.param(Respaced(), DDPM(), id="Respaced"),
]


@pytest.mark.parametrize(("spacing", "process"), TABLE)
def test_times_fall_from_one_to_zero_in_as_many_steps(spacing, process):
    times = np.asarray(Euler(spacing=spacing).times(process, EVEN))
    assert times[0] == 1.0 and times[-1] == 0.0
    assert (np.diff(times) < 0.0).all()
    spacing.check(process)


@pytest.mark.parametrize(("spacing", "process"), TABLE)
def test_a_window_is_spaced_as_a_whole_generation_is(spacing, process):
    times = np.asarray(spacing.times(process, WINDOW))
    whole = np.asarray(spacing.times(process, jnp.linspace(1.0, 0.0, 5)))
    np.testing.assert_allclose(times, [1.0, *whole, 0.0], atol=1e-6)
    for constant in (0.0, 1.0):
        still = jnp.full(5, constant)
        assert (np.diff(np.asarray(spacing.times(process, still))) == 0.0).all()


@pytest.mark.parametrize("shift", [0.3, 1.0, 3.0])
def test_a_shift_multiplies_the_noise_level_of_a_flow(shift):
    times = np.asarray(Shifted(shift=shift).times(Flow(), EVEN))[1:-1]
    even = np.asarray(EVEN)[1:-1]
    np.testing.assert_allclose(times / (1 - times), shift * even / (1 - even), rtol=1e-5)


def test_karras_steps_are_those_of_the_paper():
    process, count = DDPM(), 8
    times = np.asarray(Karras(rho=7.0, sigma_min=0.02).times(process, EVEN))
    high = float(noise_level(process, jnp.float32(1.0)))
    share = np.arange(count) / (count - 1)
    levels = (high ** (1 / 7) + share * (0.02 ** (1 / 7) - high ** (1 / 7))) ** 7
    found = noise_level(process, jnp.asarray(times[:-1]))
    np.testing.assert_allclose(found, levels, rtol=1e-4)


@pytest.mark.parametrize("process", [DDPM(), DDPM(schedule="cosine")])
def test_a_noise_level_is_found_again(process):
    t = jnp.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(time_of(process, noise_level(process, t)), t, atol=1e-5)


def test_a_shift_of_one_and_a_sampler_of_codes_leave_times_as_they_are():
    np.testing.assert_array_equal(Shifted(shift=1.0).times(Flow(), EVEN), EVEN)
    np.testing.assert_array_equal(Unmasking().times(Masked(), EVEN), EVEN)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Shifted(shift=0.0), "Shifted needs shift > 0, got 0.0"),
        (lambda: Karras(rho=-1.0), "Karras needs rho > 0, got -1.0"),
        (
            lambda: Euler(spacing=Karras()).check(Flow()),
            "finite noise level.*got Flow; use Even or Shifted",
        ),
        (lambda: DPMSolver(spacing=Respaced()).check(Flow()), "needs a DDPM, got Flow; use Even"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
