from importlib import resources

from unisd.cli.known import INDEX, index_text


def test_the_index_is_what_the_declarations_say():
    """If not: python docs/make_settings.py."""
    assert (resources.files("unisd.cli") / INDEX).read_text(encoding="utf-8") == index_text()
