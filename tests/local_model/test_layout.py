from local_model.layout import Fragment, reading_order


def at(text: str, left: float, top: float, width: float = 100, height: float = 20) -> Fragment:
    return Fragment(text, left, top, left + width, top + height)


def test_lines_are_read_from_top_to_bottom() -> None:
    assert reading_order([at("third", 0, 80), at("first", 30, 0), at("second", 0, 40)]) == [
        "first",
        "second",
        "third",
    ]


def test_pieces_of_one_line_are_joined() -> None:
    assert reading_order([at("= 17", 110, 3), at("2x + 5", 0, 0)]) == ["2x + 5 = 17"]


def test_columns_stay_apart() -> None:
    pieces = [at("5B", 300, 1), at("5A", 0, 0), at("5C", 600, 2)]
    assert reading_order(pieces) == ["5A", "5B", "5C"]


def test_line_askew_is_still_one_line() -> None:
    assert reading_order([at("right", 105, 0), at("left", 0, 8)]) == ["left right"]


def test_empty_page_has_no_lines() -> None:
    assert reading_order([]) == []
