"""Promises of the picture: it is well-formed, stands alone, and every curve is in it."""

import xml.etree.ElementTree as ElementTree

from mamba_slm.evaluation.long_context.picture import picture


def test_every_curve_and_name_is_drawn_inside_the_frame():
    curves = {"a <b>": [(0, 1.0), (10, 2.0)], "c": [(0, 1.5), (5, 0.5), (10, 1.0)]}
    root = ElementTree.fromstring(picture(curves, title="t & u", x_label="x", y_label="y", from_zero=False))
    name = "{http://www.w3.org/2000/svg}"
    lines = root.findall(f"{name}polyline")
    assert [len(line.get("points").split()) for line in lines] == [2, 3]
    width, height = map(float, root.get("viewBox").split()[2:])
    for line in lines:
        for pair in line.get("points").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width and 0 <= y <= height
    words = [text.text for text in root.findall(f"{name}text")]
    assert {"a <b>", "c", "t & u"} <= set(words)


def test_one_point_is_enough():
    ElementTree.fromstring(picture({"a": [(3, 0.5)]}, title="t", x_label="x", y_label="y", from_zero=True))
