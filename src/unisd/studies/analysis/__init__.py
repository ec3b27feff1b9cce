"""What a study's results say, and how sure that is."""

import importlib.util

from unisd.errors import UniSDError


def need_statistics() -> None:
    """Make sure that the packages are there of which the analysis is made.

    Raises:
        UniSDError: one is missing.
    """
    for package in ("scipy", "statsmodels"):
        if importlib.util.find_spec(package) is None:
            raise UniSDError(f"a study's analysis needs {package}, which is not installed; pip install 'unisd[study]'")
