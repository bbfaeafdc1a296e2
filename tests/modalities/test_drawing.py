"""Pictures of several modalities of one sample stand in one column."""

import numpy as np

from vqdit.modalities.drawing import EDGE, overview


def test_samples_are_columns_and_modalities_rows():
    red = np.zeros((3, 8, 8, 3), np.uint8)
    red[..., 0] = np.asarray([50, 100, 150])[:, None, None]
    grey = (
        np.full((3, 64, 64, 1), 7, np.uint8) * np.asarray([1, 2, 3], np.uint8)[:, None, None, None]
    )
    whole = overview({"image": red, "text": grey}, columns=3)
    height, width = 2 * EDGE, EDGE
    assert whole.shape == (height + 4, 3 * (width + 2) + 2, 3)
    for number in range(3):
        column = whole[2 : 2 + height, 2 + number * (width + 2) :][:, :width]
        assert (column[:EDGE, :, 0] == 50 * (number + 1)).all()  # enlarged by a whole factor
        assert (column[:EDGE, :, 1:] == 0).all()
        assert (column[EDGE:] == 7 * (number + 1)).all()  # grey in colour


def test_pictures_that_are_not_square_are_padded_in_the_middle():
    wide = np.zeros((1, 10, 30, 1), np.uint8)
    (column,) = overview({"image": wide}, columns=1)[None, 2:-2, 2:-2, 0]
    assert column.shape == (EDGE, EDGE)
    black = np.argwhere(column == 0)
    assert black.min(axis=0).tolist() == [22, 2] and black.max(axis=0).tolist() == [41, 61]
    assert (column[column != 0] == 127).all()


def test_without_a_number_of_columns_it_is_about_square():
    many = np.zeros((20, 64, 64, 1), np.uint8)
    height, width, _ = overview({"a": many, "b": many}).shape
    assert 0.5 < height / width < 2.0
    one = overview({"a": many[:1]})
    assert one.shape == (EDGE + 4, EDGE + 4, 1)
