"""Random damage to files: to any bytes, and to the structure of JSON, zip, safetensors and PNG."""

import json
import random
import struct
import zipfile
import zlib
from pathlib import Path

HUGE = (0, -1, 2**31 - 1, 2**31, 2**32, 2**63, 10**9, 10**18, 10**30)
TEXTS = (
    "",
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "../canary/secret",
    "/etc/passwd",
    "gs://bucket/run",
    "\u202eright to left",
    "\ud83d",
    "none",
    "x" * 100_000,
    "os:system",
    "tests.fuzz.evil:Evil",
)
NUMBERS = (*HUGE, 0.5, -0.0, 1e308, -1e-308, float("nan"), float("inf"))


def nested(depth):
    """Lists within lists; one million of them crash a parser that recurses."""
    return "[" * depth + "]" * depth


def mutate(file: Path, rng: random.Random) -> str:
    """Damages a file in place; returns what was done."""
    by_ending = {
        ".json": mutate_json,
        ".jsonl": mutate_lines,
        ".safetensors": mutate_safetensors,
        ".pt": mutate_zip,
        ".png": mutate_png,
        ".yml": mutate_yaml,
        ".parquet": mutate_parquet,
    }
    structured = by_ending.get(file.suffix)
    if structured is not None and rng.random() < 0.6:
        return structured(file, rng)
    data = bytearray(file.read_bytes())
    done = mutate_bytes(data, rng)
    file.write_bytes(data)
    return done


def mutate_bytes(data: bytearray, rng: random.Random) -> str:
    """Flips, cuts, repeats, inserts or overwrites bytes, up to four times."""
    done = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(("flip", "cut", "repeat", "insert", "number", "drop"))
        at = rng.randrange(len(data) + 1)
        length = rng.randint(1, 64)
        if kind == "flip" and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "repeat":
            data[at:at] = data[at : at + length] * rng.randint(1, 50)
        elif kind == "insert":
            data[at:at] = rng.randbytes(length)
        elif kind == "number":
            form = rng.choice(("<I", ">I", "<Q", ">Q", "<H"))
            size = struct.calcsize(form)
            data[at : at + size] = struct.pack(form, rng.choice(HUGE) % 2 ** (8 * size))
        else:
            del data[at : at + length]
        done.append(f"{kind} at {at}")
    return ", ".join(done)


def _places(value, path=()):
    """Every place of a JSON value: its container and key."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item, (*path, key))


def _strange(rng):
    return rng.choice(
        (
            lambda: rng.choice(NUMBERS),
            lambda: rng.choice(TEXTS),
            lambda: rng.choice((None, True, [], {}, [[]], [None], {"": None}, {"type": "x:y"})),
            lambda: json.loads(nested(rng.choice((10, 900)))),
        )
    )()


def mutate_value(value, rng: random.Random) -> str:
    """Replaces, deletes, renames or copies one place of a JSON value in place."""
    places = list(_places(value)) if isinstance(value, dict | list) else []
    if not places:
        return "nothing"
    container, key = rng.choice(places)
    kind = rng.choice(("replace", "replace", "delete", "rename", "copy"))
    if kind == "replace":
        container[key] = _strange(rng)
    elif kind == "delete":
        del container[key]
    elif kind == "rename" and isinstance(container, dict):
        container[rng.choice(TEXTS)] = container.pop(key)
    else:
        other, name = rng.choice(places)
        container[key] = json.loads(
            json.dumps(other.get(name) if isinstance(other, dict) else None)
        )
    return f"{kind} {key!r}"


def mutate_json(file: Path, rng: random.Random) -> str:
    if rng.random() < 0.1:
        text = rng.choice(
            (
                nested(1_000_000),
                "[1" * 200_000,
                '{"a":' * 100_000,
                "\ufeff{}",
                "",
                "null",
                "3",
                '"a"',
            )
        )
        file.write_text(text)
        return f"all of it is {text[:20]!r}"
    value = json.loads(file.read_text())
    done = mutate_value(value, rng)
    file.write_text(json.dumps(value))
    return done


def mutate_lines(file: Path, rng: random.Random) -> str:
    lines = file.read_text().splitlines()
    at = rng.randrange(len(lines))
    value = json.loads(lines[at])
    done = mutate_value(value, rng)
    lines[at] = rng.choice((json.dumps(value), nested(100_000), lines[at][:-3], "", "null", "{}"))
    file.write_text("\n".join(lines) + "\n")
    return f"line {at}: {done}"


def mutate_safetensors(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    done = mutate_value(header, rng)
    text = json.dumps(header).encode(errors="surrogatepass")
    claimed = rng.choice((len(text), len(text), len(text), *HUGE)) % 2**64
    file.write_bytes(struct.pack("<Q", claimed) + text + data[8 + size :])
    return f"header: {done}"


def mutate_zip(file: Path, rng: random.Random) -> str:
    with zipfile.ZipFile(file) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    if rng.random() < 0.1:
        members[name], done = bytearray(200_000_000), "200 MB of zeros"
    else:
        done = mutate_bytes(members[name], rng)
    compression = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(file, "w", compression) as archive:
        for member, data in members.items():
            archive.writestr(member, bytes(data))
    return f"{name}: {done}"


def mutate_png(file: Path, rng: random.Random) -> str:
    """Damages one chunk and mends its checksum, so that decoders read on."""
    data = file.read_bytes()
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append([data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + length])])
        at += 12 + length
    chunk = rng.choice(chunks)
    done = mutate_bytes(chunk[1], rng)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks) + 1), [b"eXIf", bytearray(rng.randbytes(40))])
    parts = [data[:8]]
    for kind, body in chunks:
        parts += [struct.pack(">I", len(body)), kind, body]
        parts.append(struct.pack(">I", zlib.crc32(kind + bytes(body))))
    file.write_bytes(b"".join(parts))
    return f"{chunk[0]!r}: {done}"


YAML = (
    "*all",
    "&all [*all]",
    "{}",
    "[]",
    "!!python/object/apply:os.system ['touch ../canary/evil']",
    "!!binary '===='",
    "!!int ''",
    "2020-99-99",
    "1" * 5000,
    '"\\ud83d"',
    '"\\0"',
    "what: is this",
    "- - deeper",
    "<<: 3",
    "? [a]",
    "%YAML 9.9",
    "---",
    "x" * 100_000,
    "\u202e",
    "[" * 100_000,
    "!!set {a, b}",
    "~",
    "no",
)


def bomb(depth: int) -> str:
    """YAML of a few lines that stands for 9 ** depth texts."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for n in range(1, depth):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]")
    return "\n".join([*lines, f"conversations: [*a{depth - 1}]"]) + "\n"


def mutate_yaml(file: Path, rng: random.Random) -> str:
    if rng.random() < 0.1:
        text = rng.choice((bomb(9), nested(100_000), "- " * 50_000, "", "3", "conversations: 3\n"))
        file.write_text(text)
        return f"all of it is {text[:20]!r}"
    lines = file.read_text().splitlines()
    at, strange = rng.randrange(len(lines)), rng.choice(YAML)
    kind = rng.choice(("replace", "value", "insert", "delete", "indent"))
    before, dash, _ = lines[at].rpartition("- ")
    if kind == "replace":
        lines[at] = strange
    elif kind == "value":
        lines[at] = before + dash + strange
    elif kind == "insert":
        lines.insert(at, rng.choice(("", "- - ", "  - ", "\t")) + strange)
    elif kind == "delete":
        del lines[at:]
    else:
        lines[at] = " " * rng.randint(0, 9) + lines[at].lstrip()
    file.write_text("\n".join(lines) + "\n")
    return f"line {at}: {kind} {strange[:30]!r}"


def mutate_parquet(file: Path, rng: random.Random) -> str:
    """Writes the table anew, with a column of another type, or with more than a file can hold."""
    import decimal

    import numpy as np
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(file)
    count, at = table.num_rows, rng.randrange(table.num_columns)
    name, many = table.column_names[at], 10**7
    text = "x" * 1_000_000
    columns = {
        "lists": lambda: [[[1], [2]]] * count,
        "nested": lambda: [{"bytes": {"bytes": b"x"}, "path": "a"}] * count,
        "paths": lambda: [{"bytes": None, "path": rng.choice(TEXTS[:6])}] * count,
        "empty": lambda: [{"bytes": b"", "path": ""}] * count,
        "nulls": lambda: pyarrow.nulls(count),
        "half": lambda: pyarrow.array(np.linspace(0, 1, count).astype(np.float16)),
        "decimals": lambda: [decimal.Decimal("1.5")] * count,
        "numbers": lambda: [rng.choice((float("inf"), float("nan"), 1e308, -0.0))] * count,
        "flags": lambda: [True] * count,
        "texts": lambda: [rng.choice(TEXTS[:7]) for _ in range(count)],
        "bytes": lambda: pyarrow.DictionaryArray.from_arrays([0] * count, [b"x"]),
    }
    kind = rng.choice((*columns, "rows", "large", "metadata", "twice"))
    if kind in columns:
        table = table.set_column(at, name, pyarrow.chunked_array([columns[kind]()]))
    elif kind == "rows":
        table = pyarrow.table({"label": pyarrow.array(np.zeros(many, np.int8))})
    elif kind == "large":
        one = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 4000), [text])
        table = pyarrow.table({"text": one, "label": pyarrow.array(range(4000))})
    elif kind == "metadata":
        found = rng.choice((nested(100_000), "3", '{"info": {"features": {"label": 3}}}', "\ud83d"))
        table = table.replace_schema_metadata({"huggingface": found.encode(errors="surrogatepass")})
    else:
        table = pyarrow.Table.from_arrays([table[at], *table.columns], [name, *table.column_names])
    parquet.write_table(table, file)
    return f"{name}: {kind}"
