"""Small data of every kind, as people have them."""

import json

import pytest

from tests.configure.files import WORDS, picture, sound


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    """A folder for prepared data, and the current folder of the test."""
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def classes(data_folder):
    """30 pictures in 3 classes: 20 x 24 to 20 x 53 pixels."""
    for number in range(30):
        file = data_folder / "pictures" / WORDS[number % 3] / f"{number:02d}.png"
        picture(file, 20, 24 + number, number)
    return data_folder / "pictures"


@pytest.fixture
def table(data_folder):
    """A table of 40 rows: pictures, sounds, captions and kinds, with gaps."""
    rows = []
    for number in range(40):
        picture(data_folder / f"files/{number}.png", 12, 12, number, colour=False)
        sound(data_folder / f"files/{number}.wav", seed=number)
        row = {
            "id": number,
            "photo": f"files/{number}.png",
            "caption": f"{WORDS[number % 4]} number {number}",
            "noise": f"files/{number}.wav" if number % 2 else None,
            "kind": WORDS[number % 4] if number % 5 else "",
            "price": number / 7,
            "source": "the same",
        }
        rows.append(row)
    file = data_folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


@pytest.fixture
def speech(data_folder):
    """A folder of 20 sounds, 18 of them with transcripts, one of which is empty."""
    for number in range(20):
        sound(data_folder / f"speech/part/{number:02d}.wav", seed=number)
        if number > 1:
            text = f"recording {number}\n" if number > 2 else " \n"
            (data_folder / f"speech/part/{number:02d}.txt").write_text(text)
    return data_folder / "speech"


@pytest.fixture
def words(data_folder):
    """A folder of 20 sounds of 0.1 to 0.48 s, with transcripts."""
    for number in range(20):
        sound(data_folder / f"words/{number:02d}.wav", samples=400 + 80 * number, seed=number)
        (data_folder / f"words/{number:02d}.txt").write_text(f"word {number}\n")
    return data_folder / "words"
