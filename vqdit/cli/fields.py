"""The help page of a config: every field with its type, meaning and value."""

import contextlib
from collections.abc import Sequence
from typing import Any, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec

from vqdit import config as configs
from vqdit.cli.overrides import override
from vqdit.typing import Named


def print_fields(name: str, overrides: Sequence[str], prog: str) -> None:
    """Prints every field of a config: type, meaning, and value after the overrides."""
    config = override(configs.load(name)[1], overrides)
    default: Any = Named(config) if isinstance(config, dict) else config
    with contextlib.suppress(SystemExit):
        tyro.cli(
            type(default),
            default=default,
            args=["--help"],
            prog=prog,
            description="Fields of the config, and their values:",
            registry=_registry(),
            config=(tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands),
        )


def _registry() -> ConstructorRegistry:
    """Returns a tyro registry with a rule that shows the entries of a `Named` as fields."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def named(info: tyro.constructors.StructTypeInfo) -> StructConstructorSpec | None:
        is_named = info.type is Named or get_origin(info.type) is Named
        if not is_named or not isinstance(info.default, Named):
            return None
        fields = tuple(
            StructFieldSpec(name=name, type=type(value), default=value)
            for name, value in info.default.items()
        )
        return StructConstructorSpec(instantiate=lambda **items: Named(items), fields=fields)

    return registry
