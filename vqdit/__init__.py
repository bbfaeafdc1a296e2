"""vqdit: VQ-VAE tokenizers and Diffusion Transformers over their tokens, in JAX and Flax.

>>> import vqdit
>>> generator = vqdit.load("runs/quickstart")  # doctest: +SKIP
>>> samples = generator.sample(16, given={"label": 7})  # doctest: +SKIP

Importing this package does not import JAX; the first use of `load` does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqdit.inference.loading import load

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from vqdit.inference.loading import load

        return load
    if name == "pretrained":
        import vqdit.pretrained

        return vqdit.pretrained
    raise AttributeError(f"module 'vqdit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "pretrained"})
