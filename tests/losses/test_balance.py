"""The balancer of losses against its equation."""

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.losses import Balance


def test_gradients_have_the_shares_of_their_weights():
    drawn = np.random.default_rng(0)
    balance = Balance(norm=2.0, decay=0.9)
    norms, totals = balance.init(["a", "b"]), {"a": 0.0, "b": 0.0}
    for step in range(3):
        gradients = {"a": drawn.normal(size=(4, 6, 1)), "b": 1e3 * drawn.normal(size=(4, 6, 1))}
        given = {name: jnp.asarray(g, jnp.float32) for name, g in gradients.items()}
        scales, norms = balance.scales(given, {"a": 1.0, "b": 3.0}, norms)
        count = sum(0.9**n for n in range(step + 1))
        for name, share in (("a", 0.25), ("b", 0.75)):
            norm = np.sqrt((gradients[name] ** 2).sum(axis=(1, 2))).mean()
            totals[name] = 0.9 * totals[name] + norm
            expected = 2.0 * share / (totals[name] / count)
            assert float(scales[name]) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_does_not_count_yet_takes_no_share_and_is_not_averaged():
    balance = Balance(decay=0.5)
    gradient = {"a": jnp.full((2, 4, 1), 0.5), "b": jnp.full((2, 4, 1), 8.0)}
    scales, norms = balance.scales(gradient, {"a": 1.0, "b": 0.0}, balance.init(["a", "b"]))
    assert (float(scales["a"]), float(scales["b"])) == (1.0, 0.0)
    assert (float(norms.total["b"]), float(norms.count["b"])) == (0.0, 0.0)
    scales, _ = balance.scales(gradient, {"a": 1.0, "b": jnp.asarray(1.0)}, norms)
    assert float(scales["b"]) == pytest.approx(0.5 / 16.0)


def test_losses_without_a_gradient_do_no_harm():
    balance, zeros = Balance(), {"a": jnp.zeros((2, 4, 1))}
    scales, _ = balance.scales(zeros, {"a": 1.0}, balance.init(["a"]))
    assert np.isfinite(float(scales["a"]) * np.asarray(zeros["a"])).all()


@pytest.mark.parametrize("fields", [{"norm": 0.0}, {"decay": 1.0}, {"decay": -0.1}])
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValueError, match=f"Balance needs {next(iter(fields))}"):
        Balance(**fields)
