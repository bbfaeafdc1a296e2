"""The help of a config: every field with its type, meaning and value."""

import contextlib
from typing import Any, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec

from vqdit.config import Config
from vqdit.typing import Named


def print_fields(config: Config, prog: str) -> None:
    """Prints every field of the config with its type, meaning and value."""
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
    """Teaches tyro to see the entries of a `Named` as fields."""
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
