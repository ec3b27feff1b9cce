import sys

from unisd.cli.terminal import folded, terminal_width

TEXT = "what is said of --max-new-tokens and of runs/a-very-long-name-that-goes-on-and-on-and-on"


def test_a_pipe_has_no_edge_and_a_terminal_has(monkeypatch):
    monkeypatch.setenv("COLUMNS", "61")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert terminal_width() is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert terminal_width() == 61


def test_lines_are_broken_between_words_alone():
    assert folded(TEXT, None) == TEXT
    lines = folded(TEXT, 40, "  ").splitlines()
    assert len(lines) > 1
    assert " ".join(line.strip() for line in lines) == TEXT
    assert all(line.startswith("  ") for line in lines)
    assert all(len(line) < 40 or len(line.split()) == 1 for line in lines)
