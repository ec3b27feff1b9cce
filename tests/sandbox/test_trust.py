"""What may stand in a comparison: impostors fail on either side, values of every honest kind pass."""

# ruff: noqa: E501 (tables of programs)

import importlib.util
import re

import pytest

from unisd.sandbox import protection, run_tests

pytestmark = pytest.mark.skipif(not protection().minimum, reason="this system cannot shut programs in")
DECIDED = "a type of the program's own decides it"

# Objects of this class equal everything.
E = """
class E:
    def __eq__(self, other): return True
    def __hash__(self): return 2
    def __bool__(self): return False
"""

IMPOSTORS = {
    "mock.ANY": "from unittest.mock import ANY\ndef f(x): return ANY",
    "mock.ANY inside": "from unittest.mock import ANY\ndef f(x): return [{1: ANY}]",
    "mock.ANY, subclass": "from unittest.mock import ANY\nclass C(type(ANY)): pass\ndef f(x): return C()",
    "mock.ANY, renamed": "from unittest.mock import ANY\ntype(ANY).__module__ = 'fractions'\ndef f(x): return ANY",
    "MagicMock": "from unittest.mock import MagicMock\ndef f(x):\n m = MagicMock(); m.__eq__.return_value = True; return m",
    "proxy": "import weakref\nk = E()\ndef f(x): return weakref.proxy(k)",
    "callable proxy": "import weakref\nclass K(E):\n def __call__(self): pass\nk = K()\ndef f(x): return weakref.proxy(k)",
    "Fraction": "from fractions import Fraction\ndef f(x):\n y = Fraction(1); y._numerator = E(); return y",
    "Fraction, subclass": "from fractions import Fraction\nclass F(Fraction):\n def __new__(cls): return super().__new__(cls)\n numerator = property(lambda s: E())\ndef f(x): return F()",
    "Fraction, changed property": "from fractions import Fraction\nFraction.numerator = property(lambda s: E())\ndef f(x): return Fraction(1)",
    "UserList": "from collections import UserList\ndef f(x):\n u = UserList(); u.data = E(); return u",
    "UserList, subclass": "from collections import UserList\nclass U(UserList):\n data = property(lambda s: E(), lambda s, v: None)\ndef f(x): return U()",
    "UserString": "from collections import UserString\ndef f(x):\n u = UserString('a'); u.data = E(); return u",
    "mappingproxy": "import types\nclass D(dict):\n def __eq__(s, o): return True\ndef f(x): return types.MappingProxyType(D())",
    "Mapping": "from collections.abc import Mapping\nclass M(Mapping):\n def __getitem__(s, k): return E()\n def __iter__(s): return iter([1])\n def __len__(s): return 1\ndef f(x): return M()",
    "namespace": "from types import SimpleNamespace as N\ndef f(x): return N(a=E())",
    "cell": "import types\ndef f(x): return types.CellType(E())",
    "slice": "def f(x): return slice(E(), E())",
    "view of items": "def f(x): return {1: E()}.items()",
    "deque": "from collections import deque\ndef f(x): return deque([E()])",
    "UUID": "import uuid\ndef f(x):\n u = uuid.UUID(int=1); object.__setattr__(u, 'int', E()); return u",
    "path": "from pathlib import PurePosixPath\ndef f(x):\n p = PurePosixPath('a'); p._str = p._cparts_cached = E(); p._drv = E(); return [p]",
    "pytest.approx": "import pytest\ndef f(x): return pytest.approx(0, abs=1e18)",
    "pytest.approx, relative": "import pytest\ndef f(x): return pytest.approx(1, rel=1e18)",
    "pytest.approx, of an impostor": "import pytest\ndef f(x):\n a = pytest.approx(1); a.expected = E(); return a",
    "pytest.approx, subclass": "import pytest\nclass A(type(pytest.approx(1))):\n tolerance = 1e18\nA.__module__ = '_pytest.x'\ndef f(x): return A(1, None, None, False)",
    "pytest.approx, changed": "import pytest\ntype(pytest.approx(1)).DEFAULT_RELATIVE_TOLERANCE = 1e18\ndef f(x): return pytest.approx(1)",
    "numpy": "import numpy as np\ndef f(x):\n a = np.empty(1, dtype=object); a[0] = E(); return a",
    "numpy, structured": "import numpy as np\ndef f(x):\n a = np.empty(1, dtype=[('a', object)]); a[0] = (E(),); return a[0]",
    "numpy, nested": "import numpy as np\ndef f(x):\n a = np.empty(2, dtype=object)\n for i in (0, 1): a[i] = np.empty(1, dtype=object)\n a[1][0] = E(); return a",
}  # fmt: skip


@pytest.mark.parametrize("name", IMPOSTORS)
@pytest.mark.parametrize("test", ["assert {} == f(1)", "assert f(1) == {} != 8"])
def test_impostors_fail(name: str, test: str) -> None:
    for module in ("numpy", "pytest"):
        if module in name:
            pytest.importorskip(module)
    wanted = {"slice": "slice(1, 2)", "view of items": "{1: 3}.items()", "numpy": "[9]"}.get(name, "2")
    outcome = run_tests(E + IMPOSTORS[name], [test.format(wanted)])
    assert not outcome.passed
    assert DECIDED in outcome.reason or re.match(r"test 1 of 1: (Attribute|Type|Value)Error", outcome.reason)


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("from fractions import Fraction\nFraction.__eq__.__code__ = (lambda a, b: True).__code__\ndef f(x): return Fraction(9)", "assert f(1) == 2"),
        ("def f(x): yield E()", "assert 2 in f(1)"),
        ("class I:\n def __iter__(self): return iter([E()])\ndef f(x): return I()", "assert 2 in f(1)"),
        ("from types import MappingProxyType as M\nclass D(dict):\n def __eq__(s, o): return True\ndef f(x): return M(D())", "from types import MappingProxyType as M\nassert f(1) == M({1: 2})"),
        ("from types import SimpleNamespace as N\ndef f(x): return N(a=E())", "from types import SimpleNamespace as N\nassert f(1) == N(a=2)"),
        ("import re\nfrom unittest.mock import ANY\ndef f(x): return ANY", "import re\nassert f(1) == re.compile('a')"),
        ("from unittest.mock import ANY\ndef f(x): return ANY", "from unittest.mock import ANY\nassert f(1) == ANY"),
        ("import numpy as np\ndef f(x):\n a = np.empty(1, dtype=object); a[0] = E(); return a", "import numpy as np\nassert (f(1) == np.array([2])).all()"),
    ],
)  # fmt: skip
def test_impostors_fail_against_more_than_numbers(program: str, test: str) -> None:
    if "numpy" in program:
        pytest.importorskip("numpy")
    assert not run_tests(E + program, [test]).passed


HONEST = {
    "function": ("def f(): return f", ["assert f() == f", "assert f() != None", "assert f != 1"]),
    "class without operators": ("class C:\n def __init__(s): s.x = [1]\ndef f(): return C()", ["assert f() != None", "assert not f() == 1", "assert f().x == [1]"]),
    "type": ("def f(): return int", ["assert f() == int", "assert f() in (int, str)", "assert type(f) != f()"]),
    "exception": ("def f(): return ValueError('a')", ["assert f() != None", "assert f().args == ('a',)"]),
    "generator": ("def f(n): yield from range(n)", ["assert 2 in f(3)", "assert 5 not in f(3)", "assert f(1) != [0]"]),
    "iterable": ("class I:\n def __iter__(self): return iter([1, 2])\ndef f(): return I()", ["assert 2 in f()", "assert 3 not in f()"]),
    "views": ("def f(): return {1: [2]}", ["assert f().keys() == {1}", "assert 1 in f().keys()", "assert [2] in f().values()", "assert (1, [2]) in f().items()"]),
    "slice": ("def f(): return slice(1, 2)", ["assert f() == slice(1, 2)", "assert f() != slice(1, 3)"]),
    "Fraction": ("from fractions import Fraction as F\ndef f(): return [F(1, 2)]", ["assert f() == [0.5]", "assert f()[0] + 1 == 1.5", "from fractions import Fraction\nassert f() == [Fraction(1, 2)]"]),
    "Fraction, subclass": ("from fractions import Fraction\nclass F(Fraction):\n def half(self): return self / 2\ndef f(): return F(1)", ["assert f() == 1", "assert f().half() == 0.5"]),
    "statistics": ("import statistics\ndef f(): return statistics.mean([1, 2])", ["assert f() == 1.5"]),
    "Decimal": ("from decimal import Decimal\ndef f(): return Decimal(2)", ["assert f() == 2", "assert abs(f() - 2) < 1e-6", "assert f() in [2]"]),
    "times": ("import datetime as d\ndef f(): return d.timedelta(days=1)", ["import datetime\nassert f() == datetime.timedelta(1)", "assert f() != 1", "assert f() > datetime.timedelta(0)"]),
    "UserList": ("from collections import UserList\nclass S(UserList):\n def push(s, x): s.append(x)\ndef f():\n s = S(); s.push(1); return s", ["assert f() == [1]", "assert 1 in f()"]),
    "UserDict": ("from collections import UserDict\ndef f(): return UserDict(a=1)", ["assert f() == {'a': 1}", "assert 'a' in f()"]),
    "ChainMap": ("from collections import ChainMap\ndef f(): return ChainMap({1: 2}, {3: 4})", ["assert f() == {1: 2, 3: 4}"]),
    "Counter": ("from collections import Counter\ndef f(): return Counter('ab')", ["assert f() == {'a': 1, 'b': 1}", "assert f().most_common(1) == [('a', 1)]"]),
    "enums": ("from enum import *\nclass I(IntEnum):\n A = 1\nclass F(Flag):\n A = 1\n B = 2\nclass S(str, Enum):\n A = 'a'\ndef f(): return I.A", ["assert f() == 1", "assert [f()] == [1]", "assert F.A | F.B == F(3)", "assert F.A in F.A | F.B", "assert S.A == 'a'", "assert list(I) == [1]"]),
    "paths": ("from pathlib import Path\ndef f(): return Path('a') / 'b'", ["from pathlib import Path\nassert f() == Path('a/b')", "assert f() != 'a/b'", "assert f() / 'c' == Path('a/b/c')"]),
    "UUID": ("import uuid\ndef f(): return uuid.UUID(int=5)", ["import uuid\nassert f() == uuid.UUID(int=5)", "assert f() != 5"]),
    "addresses": ("import ipaddress as i\ndef f(): return i.ip_address('1.2.3.4')", ["import ipaddress\nassert f() == ipaddress.ip_address('1.2.3.4')", "assert f() in ipaddress.ip_network('1.2.3.0/24')"]),
    "array": ("from array import array\ndef f(): return array('i', [1])", ["from array import array\nassert f() == array('i', [1])", "assert 1 in f()"]),
    "namespace": ("from types import SimpleNamespace as N\ndef f(): return N(a=[1])", ["from types import SimpleNamespace\nassert f() == SimpleNamespace(a=[1])"]),
    
    "ordered dataclass in a list": ("from dataclasses import dataclass\n@dataclass\nclass P:\n x: int\ndef f(): return [P(1)]", ["assert f() == [P(1)]", "assert P(1) in f()"]),
    "partial": ("from functools import partial\ndef f(): return partial(int, base=2)", ["assert f() != None", "assert f()('10') == 2"]),
    "weak reference": ("import weakref\nclass C: pass\nc = C()\ndef f(): return weakref.ref(c)", ["assert f()() is c"]),
    "many fractions": ("from fractions import Fraction\ndef f(): return [Fraction(i) for i in range(50000)]", ["assert f() == list(range(50000))"]),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_honest_values_pass(name: str) -> None:
    program, tests = HONEST[name]
    assert run_tests(program, tests).reason == ""


def test_numpy_values_pass() -> None:
    pytest.importorskip("numpy")
    program = "import numpy as np\ndef f(*x, **kind): return np.array(x, **kind)"
    tests = ["assert (f(1, 2) == [1, 2]).all()", "assert f(1, 2)[0] == 1", "assert abs(f(0.1).sum() - 0.1) < 1e-9"]
    tests += ["assert f(1, 2).max() in [2]", "assert f(1, 'a', dtype=object)[1] == 'a'", "assert (f(1) > 0)[0] == True"]
    tests += ["assert (f(1, 'a', dtype=object) == f(1, 'a', dtype=object)).all()", "assert f(1).mean() == 1.0"]
    tests += ["assert f(1, 2).shape == (2,)", "assert f(1).dtype == np.dtype('int64')", "assert (f(2) * 3 == 6).all()"]
    assert run_tests(program, ["import numpy as np", *tests]).reason == ""


def test_approx_passes_with_small_tolerances() -> None:
    if importlib.util.find_spec("pytest") is None:
        pytest.skip("no pytest")
    tests = ["import pytest\nassert f(1) == pytest.approx(1.3)", "assert [f(1)] == pytest.approx([1.3], abs=1e-3)"]
    tests += ["for x, y in [(1, 1.3), (2, 2.3)]:\n    assert f(x) == pytest.approx(y, rel=1e-4)"]
    assert run_tests("def f(x): return x + 0.1 + 0.2", tests).reason == ""
    assert "assertion 1 of 3 failed: " in run_tests("def f(x): return x", tests).reason
