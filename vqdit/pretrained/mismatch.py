"""Errors about differences between a checkpoint and a model in names and shapes."""

from collections.abc import Callable, Mapping

from vqdit.pretrained.stored import Stored

Shape = tuple[int, ...]
SHOWN = 8
"""Largest number of names of each kind that an error lists."""


class PretrainedMismatch(ValueError):
    """Raised if the tensors of a checkpoint do not match the model in names or shapes."""


def check_shapes(
    expected: Mapping[str, Shape],
    tensors: Mapping[str, Stored],
    form: Callable[[Shape], Shape] = tuple,
) -> None:
    """Raises PretrainedMismatch unless the tensors have the expected names and shapes.

    Two shapes are considered equal if `form` returns the same value for both.
    """
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    mismatched = [
        _unlike(name, shape, tensors[name])
        for name, shape in expected.items()
        if name in tensors and form(tensors[name].shape) != form(shape)
    ]
    if missing or unexpected or mismatched:
        raise mismatch(missing, unexpected, mismatched)


def mismatch(
    missing: list[str] | None = None,
    unexpected: list[str] | None = None,
    mismatched: list[str] | None = None,
) -> PretrainedMismatch:
    """Returns an error that lists the tensors that do not match the model."""
    lines = []
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    for kind, found in kinds.items():
        if found:
            more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            lines.append(f"{kind} ({len(found)}): {', '.join(found[:SHOWN])}{more}")
    return PretrainedMismatch(f"the checkpoint does not match the model: {'; '.join(lines)}")


def tensor_of(tensors: Mapping[str, Stored], name: str) -> Stored:
    """Returns the tensor with the given name.

    Raises:
        PretrainedMismatch: if there is no such tensor.
    """
    if name not in tensors:
        raise mismatch(missing=[name])
    return tensors[name]


def size_of(tensors: Mapping[str, Stored], name: str, axis: int = 0) -> int:
    """Returns the size of one axis of the tensor with the given name.

    Raises:
        PretrainedMismatch: if there is no such tensor, or it has no such axis.
    """
    shape = tensor_of(tensors, name).shape
    if len(shape) <= axis:
        raise mismatch(mismatched=[f"{name}: expected {axis + 1} axes or more, found {len(shape)}"])
    return shape[axis]


def _unlike(name: str, shape: Shape, found: Stored) -> str:
    return f"{name}: expected {list(shape)}, found {list(found.shape)}"


def require_both_sides(tensors: Mapping[str, Stored]) -> None:
    """Raises ValueError unless there are tensors of an encoder and of a decoder."""
    for side in ("encoder", "decoder"):
        if not any(name.startswith(f"{side}.") for name in tensors):
            raise ValueError(
                f"the checkpoint has no {side}, but a tokenizer needs encoder and decoder; use "
                "the checkpoint of the whole autoencoder"
            )
