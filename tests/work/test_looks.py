"""Pictures of words."""

import base64
import io

import numpy as np
from PIL import Image

from polymodal.work.looks import DARK, SIDE, painted


def test_the_picture_is_light_where_it_was_looked_at() -> None:
    picture = np.full((40, 80, 3), 200, np.uint8)
    weights = np.array([[0.0, 0.0, 0.1, 0.9], [0.0, 0.0, 0.0, 0.0]]).ravel()
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(painted(picture, (2, 4), weights)))).convert("L"), float)
    assert shown.shape == (SIDE // 2, SIDE)
    assert abs(shown[2, -3] - 200) < 10
    assert abs(shown[-3, 2] - DARK * 200) < 10
    assert np.unravel_index(shown.argmax(), shown.shape)[1] > SIDE * 0.7


def test_a_picture_that_was_not_looked_at_at_all_is_dark() -> None:
    shown = painted(np.full((8, 8, 3), 255, np.uint8), (1, 1), np.zeros(1))
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))).convert("L")).max() < 255 * DARK + 10
