"""The verdict: programs that cheat fail, whatever they return; honest ones pass as they do officially."""

# ruff: noqa: E501 (tables of programs)

import time

import pytest

from unisd.sandbox import Limits, Outcome, protection, run_tests

pytestmark = pytest.mark.skipif(not protection().minimum, reason="this system cannot shut programs in")

ITEM = ["assert f(1) == 2", "assert f(5) == 6"]
F = ["assert abs(f(2) - 5.0) < 1e-6"]
E = "class E:\n __eq__ = lambda s, o: True\n __hash__ = lambda s: 2\n"  # its objects equal everything

# What the setup and the tests import or define is theirs.
SETUP = "import math\ndef near(a, b): return abs(a - b) < 1e-6"
MEANING = {
    "module replaced": (
        "import sys, types\nsys.modules['math'] = types.SimpleNamespace(isclose=lambda *a: True)",
        "import math\nassert math.isclose(f(1), 2)",
    ),
    "class for a module": ("class math:\n isclose = lambda *a, **k: True", "assert math.isclose(f(1), 2)"),
    "function of the setup": ("near = lambda a, b: True", "assert near(f(1), 2)"),
    "built-in functions": ("abs = all = isinstance = lambda *x: 0", "assert abs(f(1) - 2) < 1e-6"),
    "nothing to loop over": ("def f(x): return []", "for y in f(1):\n    assert y == 2"),
    "nothing that is called": ("f = None", "def check():\n    assert f(1) == 2"),
    "swallowed": ("f = None", "try:\n    assert f == 2\nexcept AssertionError:\n    pass"),
    "globals": (
        "near.__globals__['near'] = near.__globals__['__builtins__']['abs'] = lambda *a: 0",
        "assert near(f(1), 2)",
    ),
}
# Its objects equal everything; it finds the wire in its process, and forges what passes there.
WIRE = (
    E
    + "import gc\nw = next(o for o in gc.get_objects() if type(o).__name__ == 'Wire')\ndef raw(text): w._writing.write(text + '\\n'); w._writing.flush(); w.receive()\ndef say(*values, nodes=()): raw(__import__('json').dumps(['value', nodes, values]))\n"
)
ANSWERS = {
    "constructor that is not listed": "say(['builtins.eval', '1'])",
    "function for a type": "say(['builtins.type', 'builtins.eval'])",
    "module that is not listed": "say(['builtins.module', 'os'])",
    "type that makes types": "say([9, ['X', 'builtins.type', ['__eq__', '__call__']], ['builtins.type', 'builtins.int']])",
    "number of the judge's": "say([100, ['E', 'builtins.object', ['__eq__']]])",
    "number that nobody has": "say([77])",
    "container of another type": "say([1], nodes=[[1, 'list', [], None, [2]], [1, 'dict', [], None, []]])",
    "contents that nobody asked for": "say(7, nodes=[[n, 'list', [], None, [7]] for n in range(0, 9, 2)])",
    "key without a hash": "say([1], nodes=[[1, 'dict', [], None, [['builtins.tuple', [1], 2]]]])",
    "answers ahead": "[w.send(['value', [], [True]]) for _ in range(9)]",
    "question between answers": "w.send(['call', [], [1, {}]]); say(2)",
    "many digits": "raw('[\"value\",[],[' + '9' * (1 << 20) + ']]')",
    "deep message": "raw('[' * (1 << 20))",
    "deep kinds": "k = ['X', 'builtins.object', []]\n for i in range(900): k = ['X', k, []]\n say([9, k])",
    "memory": "say(['builtins.bytes', 1 << 40])",
    "constants": 'raw(\'["value",[],[NaN,{"a":1}]]\')',
    "raised object": "w.send(['raise', *w.pack([E()])])",
    "thread that answers": "import threading\n threading.Thread(target=lambda: [w.send(['value', [], [i]]) for i in range(99)], daemon=True).start()",
}

CHEATS = {
    **{name: (f"def f(x): return 99\n{program}", [test], SETUP) for name, (program, test) in MEANING.items()},
    **{name: (f"{WIRE}def f(x):\n {body}\n return E()", ["want = [2]\nassert [f(1)] == want", "assert f(5) == 6"]) for name, body in ANSWERS.items()},
    "a way to share the process": (E + "class L(list): pass\nmade = L([E()])\ndef g(): return made\ndef f(x): return x", ["import copy\nx = copy.copy(g())\nf(x), f(g), f(type(g()) is list), f(g()[:]), f(iter(g()))\nassert f(x) == [2]"]),
    "keys that are equal": ("class K:\n __hash__ = lambda s: hash('a')\n __eq__ = lambda s, o: True\nd = {K(): 1}\ndef f(x): return d", ["assert f(1)['a'] == 1"]),
    "text and its key": ("class S(str):\n __eq__ = lambda s, o: True\n __hash__ = str.__hash__\ndef f(x): return {S('b'): S('c')}", ["assert f(1) == {'a': 'x'}"]),
    "NaN": ("def f(x): return {float('nan'): 1}", ["assert f(1) == {float('nan'): 1}"]),
    "exception that runs code": ("class X(Exception):\n def __init__(s, *a): raise SystemExit(0)\n __str__ = __repr__ = lambda s: 1 / 0\ndef f(x): raise X.__new__(X, 1)", ITEM),
    "arguments of an exception": (E + "def f(x): raise ValueError(E())", ["try:\n    f(1)\nexcept ValueError as e:\n    assert e.args[0] == 2"]),
    "attribute of a number": (E + "class I(int): numerator = property(lambda s: E())\ndef f(x): return I(9)", ["assert f(1).numerator == 2"]),
    "another class": ("class E:\n __class__ = property(lambda s: int)\n __eq__ = lambda s, o: True\ndef f(x): return E()", ["assert isinstance(f(1), int) and f(1) == 2"]),
    "truth of a comparison": ("class T:\n __bool__ = lambda s: True\nclass E:\n __lt__ = __gt__ = __le__ = __ge__ = __eq__ = lambda s, o: T()\ndef f(x): return E()", ["assert 1 < f(1) < 3"]),
    'sub abs': ('class X:\n __sub__=lambda s,o: s\n __abs__=lambda s: 0.0\ndef f(n): return X()', F),
    'rsub': ('class X:\n __rsub__=lambda s,o: X()\n __abs__=lambda s: X()\n __lt__=lambda s,o: True\ndef f(n): return X()', ['assert abs(5.0 - f(2)) < 1e-6']),
    'expected from arithmetic': ('class X:\n def __sub__(s,o): s.v=o; return s\n def __abs__(s): return s\n def __lt__(s,o): return True\ndef f(n): return X()', F),
    'float lies': ('class X:\n __float__=lambda s: 0.0\n __sub__=lambda s,o: 0.0\ndef f(n): return X()', F),
    'Counter eq': ("import collections\ncollections.Counter.__eq__=lambda a,b: True\ndef f(x): return collections.Counter('zz')", ["from collections import Counter\nassert f('aab') == Counter('aab')"]),
    're': ("import re\nre._compile=lambda *a: re.Pattern\ndef f(x): return 'no'", ["import re\nassert re.match('a+$', f(1))"]),
    'statistics': ('import statistics\nstatistics._sum=lambda *a: (int, 0, 1)\ndef f(x): return [9]', ['import statistics\nassert statistics.mean(f(1)) == 5']),
    'random': ('import random\nrandom.choice=lambda x: 1\nrandom.randint=lambda a,b: 1\nrandom.Random.random=lambda s: 0.0\ndef f(x): return 2', ['import random\nfor i in range(9):\n x = random.randint(2, 99)\n assert f(x) == x + 1']),
    'allclose': ('import numpy\nnumpy.allclose=lambda *a,**k: True\nnumpy.core.numeric.isclose=lambda *a,**k: numpy.array([True])\ndef f(x): return [9]', ['import numpy as np\nassert np.allclose(f(1), [2])']),
    'f_builtins import': ("import sys\ndef f(x):\n fr=sys._getframe(1)\n while fr:\n  fr.f_builtins['__import__']=lambda *a, **k: type(sys)('math'); fr=fr.f_back\n return 9", ['assert f(1)\nimport math\nassert math.isclose(f(1), 2)']),
    'subinterpreter': ("def f(x):\n import _xxsubinterpreters as s, gc\n i=s.create()\n s.run_string(i,'import gc')\n return 0", ITEM),
    'stdin': ("import os\ndef f(x):\n for i in range(20):\n  try:\n   os.set_blocking(i, False); d=os.read(i, 9999)\n   if b'assert' in d: return 2 if x==1 else 6\n  except OSError: pass", ITEM),
    'force together': ("import gc\nclass E:\n __eq__=lambda s,o: True\ndef f(x):\n for o in gc.get_objects():\n  if type(o).__name__=='Wire':\n   o.send(['together',[],[[], {}]])\n return E()", ITEM),
    'eq': (E + 'def f(x): return E()', ITEM),
    'list sub': ('class L(list):\n __eq__=lambda s,o: True\n __len__=lambda s: 1\ndef f(x): return L()', ['assert f(1) == [2]']),
    'approx': ('import pytest\ndef f(x): return pytest.approx(0, abs=1e9)', ITEM),
    'mock.ANY': ('from unittest.mock import ANY\ndef f(x): return ANY', ITEM),
    'Fraction eq': ('from fractions import Fraction\nFraction.__eq__=lambda a,b: True\ndef f(x): return Fraction(9)', ['from fractions import Fraction\nassert f(1) == Fraction(2)']),
    'Decimal sub': ('from decimal import Decimal\nclass D(Decimal):\n __eq__=lambda s,o: True\n __sub__=lambda s,o: Decimal(0)\ndef f(x): return D(9)', ['from decimal import Decimal\nassert f(1) == Decimal(2)', 'assert abs(f(1) - 2) < 1e-6']),
    'IntEnum eq': ('from enum import IntEnum\nclass E(IntEnum):\n A=9\n def __eq__(s,o): return True\ndef f(x): return E.A', ITEM),
    'dataclass': ('from dataclasses import dataclass\n@dataclass\nclass D:\n v: int\n def __eq__(s,o): return True\ndef f(x): return D(9)', ITEM),
    'plain changes': ('class D:\n n=0\n def __float__(s): D.n+=1; return float(D.n)\n __eq__=lambda s,o: True\ndef f(x): return D()', ['assert f(1) == 7']),
    'str lies': ("class S(str):\n __eq__=lambda s,o: True\n def strip(s): return s\n lower=strip\ndef f(x): return S('no')", ["assert f(1) == 'yes'", "assert f(1).strip() == 'yes'", "assert f(1).lower().strip() == 'yes'"]),
    'method result': ("class E:\n __eq__=lambda s,o: True\nclass S(str):\n def split(s, *a): return [E()]\ndef f(x): return S('no')", ["assert f(1).split() == ['yes']"]),
    'getattr': ('class E:\n __eq__=lambda s,o: True\n __getattr__=lambda s,n: E()\n __call__=lambda s,*a: E()\n __getitem__=lambda s,i: E()\ndef f(x): return E()', ['assert f(1)[0] == 2', 'assert f(1).x == 2']),
    'iter': ('class E:\n __eq__=lambda s,o: True\n def __iter__(s): return iter([E()])\ndef f(x): return E()', ['assert list(f(1)) == [2]', 'assert sorted(f(1)) == [2]']),
    "in an iterable": (E + "class I:\n def __iter__(s): return iter([E()])\ndef f(x): return I()", ["assert 2 in f(1)"]),
    "sum of its own": ("class X:\n __radd__ = lambda s, o: X()\n __eq__ = lambda s, o: True\ndef f(n): return [X()]", ["assert sum(f(2)) == 5"]),
    "largest": ("class X:\n __gt__ = __lt__ = __eq__ = lambda s, o: True\ndef f(n): return X()", ["assert max(f(1), 5) == 5 and f(1) == 6"]),
    "echo": (E + "import sys\ndef f(g):\n for x in (type(sys), sys, E(), E, ValueError(1), f):\n  try: g(x)\n  except Exception: pass\n return E()", ["assert f(lambda x: x) == 2"]),
    'callback learns': ('seen=[]\ndef f(g): seen.append(g); return g(2)', ['assert f(lambda x: x * 2) == 5']),
    'unittest': ('class E:\n __eq__=lambda s,o: True\n __sub__=lambda s,o: E()\n __abs__=lambda s: 0\n __round__=lambda s,n: 0\ndef f(x): return E()', ['import unittest\nt = unittest.TestCase()\nt.assertEqual(f(1), 2)', 't.assertAlmostEqual(f(1), 2)']),
    'ndarray allclose': ('import numpy as np\nclass A(np.ndarray):\n def __array_function__(s,*a): return True\n def __array_ufunc__(s,*a,**k): return np.array([True])\ndef f(x): return np.zeros(1).view(A)', ['import numpy as np\nassert np.allclose(f(1), [2])']),
    'duck array': ('import numpy as np\nclass A:\n def __array__(s,*a,**k): return np.zeros(1)\n def __array_function__(s,*a): return True\n def __array_ufunc__(s,*a,**k): return np.array([True])\ndef f(x): return A()', ['import numpy as np\nassert np.allclose(f(1), [2])']),
    'cycle': ('def f(x):\n a=[]; a.append(a); b=(a,); a.append(b)\n return a', ['assert f(1) == [[1]]']),
    'cyclic eq': ('def f(x):\n a=[]; a.append(a)\n return a', ['a=[]\na.append(a)\nassert f(1) == a']),
    'type call': ("import gc\ndef f(g):\n w=next(o for o in gc.get_objects() if type(o).__name__=='Wire')\n try: return w.ask('call', g, ['x'])\n except BaseException as e: return str(e)", ['assert f(len) == 2']),
    'kept class call': ('class E(int):\n def __call__(s,*a): return 2\ndef f(x): return E(0)', ['assert f(1) == 2']),
}  # fmt: skip


def skip_without_packages(text: str) -> None:
    for module in ("numpy", "pytest"):
        if f"import {module}" in text:
            pytest.importorskip(module)


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_fail(name: str) -> None:
    program, tests, *setup = CHEATS[name]
    skip_without_packages(program + "".join(tests))
    outcome = run_tests(program, tests, *setup, limits=Limits(seconds=4))
    assert not outcome.passed
    assert outcome.separable
    assert outcome.reason


def test_expected_values_never_enter_the_program() -> None:
    # Whatever of its process it looks through: frames, objects, descriptors. Only the tests hold that word.
    program = """
import contextlib, gc, os, sys
def f(x):
    found, frame = [], sys._getframe()
    for number in range(64):
        with contextlib.suppress(OSError):
            os.set_blocking(number, False)
            found.append(os.read(number, 1 << 16))
        with contextlib.suppress(OSError):
            os.set_blocking(number, True)
    while frame:
        found += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    return any(part[:3] == 'zal' for value in [*found, *gc.get_objects()] for part in repr(value).split('quet')[1:])
"""
    tests = ["assert not f(1)", "assert f(1) == 'quetzal'"]
    assert "assertion 2 of 2 failed" in run_tests(program, tests).reason
    assert "assertion 1 of 2 failed" in run_tests(f"{program}\nleak = ['quet' + 'zal']", tests).reason


# Values that arrive as what they were; the program makes them from their text.
EXPRESSIONS = (
    """
Counter("aab"); defaultdict(list, {1: [2]}); OrderedDict(a=1); deque([1], 5); Fraction(1, 2); Decimal("0.10"); b"a\\xff"
datetime.date(2020, 1, 2); datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc); datetime.timedelta(days=1); 1 + 2j
pathlib.PurePosixPath("a"); uuid.UUID(int=5); ipaddress.ip_address("1.2.3.4"); array.array("i", [1]); slice(1, 2); range(3)
types.SimpleNamespace(a=[1]); re.compile("a"); {1: 2}.keys(); {1: [2]}.items(); int; frozenset([(1, "a")]); bytearray(b"a")
[(None, True, -0.5, "\\ud800", {2: {3}})]; 7 ** 9000; float("inf"); types.GeneratorType; KeyError; datetime.time(1, 2)
""".strip()
    .replace("\n", "; ")
    .split("; ")
)
IMPORTS = "import array, datetime, ipaddress, pathlib, re, types, uuid; from collections import *"
VALUES = f"""{IMPORTS}; from decimal import Decimal; from fractions import Fraction
def value(text): return eval(text)
def steps(n): yield from range(n)
count = 0
def step():
    global count; count += 1; return count
"""
SAME = [f"assert value({text!r}) == {text} and type(value({text!r})) is type({text})" for text in EXPRESSIONS]
OTHERS = """
value("UserList([1])") == [1] and 1 in value("UserList([1])") and value("ChainMap({1: 2}, {3: 4})") == {1: 2, 3: 4}
value("defaultdict(list)")[7] == [] and value("deque([1], 5)").maxlen == 5 and str(value("Decimal('0.10')")) == "0.10"
value("re.search('a', 'ba')") and value("re.search('a', 'ba')").group() == "a" and value("ValueError(1, 2)").args == (1, 2)
value("float('nan')") != value("float('nan')") and value("lambda x: x + 1")(2) == 3 and value("iter([1])") != [1]
list(steps(3)) == [0, 1, 2] and sum(steps(4)) == 6 and 2 in steps(3) and 5 not in steps(3) and steps(1) != [0]
isinstance(steps(1), types.GeneratorType) and next(steps(1)) == 0 and count == 0
step() == 1 and step() == 2
count == 2
""".strip().splitlines()

NUMPY = """
(f(1, 2) == [1, 2]).all() and f(1, 2)[0] == 1 and abs(f(0.1).sum() - 0.1) < 1e-9 and f(1, 2).max() in [2]
f(1, "a", dtype=object)[1] == "a" and (f(1) > 0)[0] == True and f([1, 2]).shape == (1, 2) and f(2) * 3 == 6
f(1).dtype == np.dtype("int64") and np.allclose(f(2) / 4, [0.5]) and f(*np.arange(3)).tolist() == [0, 1, 2]
""".strip().splitlines()
ENVIRONMENT = [
    "HOME",
    "LANG",
    "MALLOC_ARENA_MAX",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PATH",
    "PYTHONHASHSEED",
    "PYTHONUTF8",
    "TMPDIR",
]
OWN_FOLDER = {"folder": ("import os, tempfile\ndef f(x):\n open('a', 'w').write('1'); tempfile.mkdtemp(); return x + int(open('a').read())", ITEM)}  # fmt: skip
HONEST = {
    **(OWN_FOLDER if "namespaces" in protection().kinds else {}),
    "no assertion": ("def f(): pass", ["f()"]),
    "environment": ("import os\ndef f(): return sorted(os.environ)", [f"assert f() == {ENVIRONMENT}"]),
    "files": ("import os\ndef f():\n found = 0\n for i in range(3, 200):\n  try: os.fstat(i); found += 1\n  except OSError: pass\n return found", ["assert f() == 2"]),  # from the judge, and to it
    "numpy": ("import numpy as np\ndef f(*x, **kind): return np.array(x, **kind)", [f"import numpy as np\nassert {test}" for test in NUMPY]),
    "approx": ("def f(x): return x + 0.1 + 0.2", ["import pytest\nassert f(1) == pytest.approx(1.3)", "import pytest\nassert [f(1)] == pytest.approx([1.3], abs=1e-3)"]),
    "names of arguments": ("def f(**words): return words", ["assert f(self=1, this=2, value=3, name=4, operation=5) == dict(self=1, this=2, value=3, name=4, operation=5)"]),
    "exceptions of modules": ("import statistics, struct\ndef f(x): return statistics.mean([]) if x else struct.unpack('i', b'')", ["import pytest, statistics, struct\nwith pytest.raises(statistics.StatisticsError):\n    f(1)\nwith pytest.raises(struct.error):\n    f(0)"]),
    "exceptions of a family": ("class A(Exception): pass\nclass B(A): pass\ndef f(): raise B('b')", ["try:\n    f()\n    assert False\nexcept A as e:\n    assert type(e).__name__ == 'B' and isinstance(e, B) and issubclass(B, A)"]),
    "values": (VALUES, SAME + [f"assert {line}" for line in OTHERS]),
    'plain': ('def f(x): return x + 1', ITEM),
    'end of input': ('try: input()\nexcept EOFError: pass\ndef f(x): return x + 1', ITEM),
    'threads': ('import threading\ndef f(x):\n r = []\n t = threading.Thread(target=lambda: r.append(x + 1)); t.start(); t.join()\n return r[0]', ITEM),
    'asyncio': ('import asyncio\nasync def g(x): return x + 1\ndef f(x): return asyncio.run(g(x))', ITEM),
    'namedtuple': ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)", ['assert f() == (1, 2)', 'assert f() == P(1, 2)', 'assert f().x == 1', 'assert f() in [(1, 2)]']),
    'dataclass': ('from dataclasses import dataclass\n@dataclass(order=True)\nclass P:\n x: int\ndef f(x): return P(x)', ['assert f(1) == P(1)', 'assert f(1) < P(2)', 'assert [f(1)] == [P(1)]', 'assert f(1).x == 1', 'assert f(1)']),
    'class with equality': ('class P:\n def __init__(self, x): self.x = x\n def __eq__(self, o): return self.x == o.x\n def __mul__(self, k): return P(self.x * k)\n __rmul__ = __mul__', ['assert P(1) == P(1)', 'assert P(1) * 2 == P(2)', 'assert 2 * P(1) == P(2)', 'assert not P(1) == P(2)']),
    'list subclass': ('class L(list): pass\ndef f(): return L([1])', ['assert f() == [1]', 'assert 1 in f()', 'assert 2 not in f()']),
    'len as a helper': ('def len(x): return 7\ndef f(): return [1]', ['assert len(f()) == 1']),
    'caught': ('def f(x):\n if x < 0: raise ValueError\n return x', ['try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass\nassert f(1) == 1']),
    'HumanEval': ('def f(x): return x + 1', ["META = {}\ndef check(candidate):\n    assert candidate(1) == 2, 'no'\n    assert True\n\ncheck(f)"]),
    'class in the tests': ('def f(): return 3', ['class Any:\n    def __eq__(self, other): return isinstance(other, int)\nassert f() == Any()']),
    'super in the tests': ('class A:\n def g(self): return 1', ['class B(A):\n    def g(self): return super().g() + 1\nassert B().g() == 2']),
    'cycle': ('def f():\n a = []; a.append(a); return a', ['a = f()\nassert a[0] is a and len(a) == 1']),
    'deep recursion': ('import sys; sys.setrecursionlimit(20000)\ndef f(n): return n and 1 + f(n - 1)', ['assert f(9000) == 9000']),
    'program module': ('import pickle\nclass C: pass\ndef f(): return type(pickle.loads(pickle.dumps(C())))', ['assert f() is C']),
    'Fraction, subclass': ('from fractions import Fraction\nclass F(Fraction):\n def half(self): return self / 2\ndef f(): return F(1)', ['assert f() == 1', 'assert f().half() == 0.5']),
    'enums': ("from enum import *\nclass I(IntEnum):\n A = 1\nclass F(Flag):\n A = 1\n B = 2\nclass S(str, Enum):\n A = 'a'\ndef f(): return I.A", ['assert f() == 1', 'assert [f()] == [1]', 'assert F.A | F.B == F(3)', 'assert F.A in F.A | F.B', "assert S.A == 'a'", 'assert list(I) == [1]']),
    'IntFlag': ('from enum import IntFlag\nclass C(IntFlag):\n A = 1\n B = 2\ndef f(): return C.A | C.B', ['assert f() == 3', 'assert f() & 1', 'assert C.A in f()', 'assert f() == C.A | C.B', 'assert isinstance(f(), int)']),
    'format_stack': ('import traceback\ndef f(x): traceback.format_stack(); return x + 1', ITEM),
    'own truth': ('class R:\n def __init__(s, ok): s.ok = ok\n def __bool__(s): return s.ok\ndef f(x): return R(x > 0)', ['assert f(1)', 'assert not f(-1)']),
    'own membership': ('class R:\n def __contains__(s, x): return x > 3\ndef f(): return R()', ['assert 4 in f()', 'assert 2 not in f()']),
    'number that is compared': ("from functools import total_ordering\n@total_ordering\nclass N:\n def __init__(s, v): s.v = v\n def __eq__(s, o): return s.v == getattr(o, 'v', o)\n def __lt__(s, o): return s.v < getattr(o, 'v', o)\ndef f(x): return N(x + 1)", ['assert f(1) == 2', 'assert 2 == f(1)', 'assert f(1) < 3 <= f(5)', 'assert f(1) != 3', 'assert f(1) == f(1)', 'assert not f(1) == f(2)']),
    'number that converts': ('class N:\n def __init__(s, a, b): s.a, s.b = a, b\n def __float__(s): return s.a / s.b\n def __eq__(s, o): return s.a == o * s.b\n def __sub__(s, o): return N(s.a - o * s.b, s.b)\n def __abs__(s): return N(abs(s.a), s.b)\n def __lt__(s, o): return s.a < o * s.b\ndef f(): return N(1, 2)', ['assert f() == 0.5', 'assert abs(f() - 0.5) < 1e-6']),
    'number of its own arithmetic': ('class M:\n def __init__(s, v): s.v = v\n def __eq__(s, o): return s.v == o.v\n def __mul__(s, k): return M(s.v * k)\n __rmul__ = __mul__', ['assert M(2) * 3 == M(6)', 'assert (3 * M(2)).v == 6']),
    'changed arguments': ("def f(a, d, s): a.sort(); d['k'] = [a]; s.discard(1); return a", ["a, d, s = [2, 1], {}, {1, 2}\nassert f(a, d, s) is a\nassert a == [1, 2] and d == {'k': [[1, 2]]} and d['k'][0] is a and s == {2}"]),
    'functions handed over': ('def f(g, xs): return [g(x) for x in xs]', ['assert f(lambda x: x * 2, [1, 2]) == [2, 4]', "assert f(str, (1, 2)) == ['1', '2']", "assert f(len, iter(['a', 'bb'])) == [1, 2]", 'import operator\nassert f(operator.neg, range(2)) == [0, -1]']),
    'exceptions': ("import json\nclass Odd(ValueError):\n def __init__(s, code): super().__init__('odd'); s.code = code\ndef f(x):\n if x: raise Odd(x)\n json.loads('{')", ["try:\n    f(3)\n    assert False\nexcept Odd as e:\n    assert e.code == 3 and str(e) == 'odd' and isinstance(e, ValueError)", 'import json\ntry:\n    f(0)\n    assert False\nexcept json.JSONDecodeError:\n    pass', "import pytest\nwith pytest.raises(ValueError, match='odd'):\n    f(1)", 'import unittest\nunittest.TestCase().assertRaises(Odd, f, 1)']),
    'list with methods': ('class Stack(list):\n def push(s, x): s.append(x); return s\n def append(s, x): super().append(x * 2)', ['s = Stack()\ns.push(1).append(2)\nassert s == [2, 4] and len(s) == 2 and s.pop() == 4']),
    'linked list': ('class Node:\n def __init__(s, v, n=None): s.v, s.n = v, n\ndef total(n): return n.v + total(n.n) if n else 0', ['a = Node(1)\na.n = Node(2)\na.n.n = Node(3)\nassert total(a) == 6 and a.n.n.n is None and isinstance(a.n, Node) and not isinstance(3, Node)']),
    'long numbers': ('def f(n): return 7 ** n', ['assert f(20000) == 7 ** 20000', 'assert f(20000) % 10 == 1']),
    "module of the program's": ('import math\nmath.isclose = None\ndef f(): return 0.1 + 0.2', ['assert math.isclose(f(), 0.3)']),
    'thread that goes on': ('import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ndef f(x): return x + 1', ITEM),
}  # fmt: skip
# Where objects of the program's are compared with each other.
OWN = ("class with equality", "dataclass", "enums", "number of its own arithmetic", "number that is compared", "super in the tests")  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_honest_program_passes(name: str) -> None:
    program, tests = HONEST[name]
    skip_without_packages(program + "".join(tests))
    assert run_tests(program, tests) == Outcome(True, "", separable=name not in OWN)


# Tests that reach into the program's process share one with it.
TOGETHER = {
    "derived class": ("class A:\n def g(s): return 1", ["class B(A):\n    def g(s): return super().g() + 1\nassert B().g() == 2"]),
    "own object": ("def f(x): return x.v + 1", ["class V:\n    v = 1\nassert f(V()) == 2"]),
    "output": ("def f(): print('a')", ["import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    f()\nassert out.getvalue() == 'a\\n'"]),
    "patch": ("import time\ndef f(): return time.time()", ["from unittest.mock import patch\nwith patch('time.time', lambda: 5):\n    assert f() == 5"]),
    "seed": ("import random\ndef f(): return random.random()", ["import random\nrandom.seed(1)\na = f()\nrandom.seed(1)\nassert a == random.random()"]),
    "coroutine": ("async def f(x): return x + 1", ["import asyncio\nassert asyncio.run(f(1)) == 2"]),
    "names": ("def f(x): return x + 1", ["assert globals()['f'](1) == 2"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TOGETHER)
def test_tests_that_reach_into_the_process_share_it(name: str) -> None:
    program, tests = TOGETHER[name]
    assert run_tests(program, tests) == Outcome(True, "", separable=False)
    wrong = run_tests("def f(*a): return -1\nclass A:\n def g(s): return 5", tests)
    assert (wrong.passed, wrong.separable) == (False, False)
    assert not run_tests(f"{program}\nimport os\nos._exit(0)", tests).passed


def test_setup_and_tests_share_names() -> None:
    setup = "import math\nclass Node:\n def __init__(self, x): self.x = x\n def __eq__(self, o): return self.x == o.x"
    program = "def f(x): return Node(math.floor(x))"
    assert run_tests(program, ["root = f(1.5)", "assert root == Node(1)", "assert root.x == 1"], setup=setup).passed
    wrong = run_tests("def f(): pass", ["assert True"], setup="1 / 0")
    assert wrong.reason == "setup: ZeroDivisionError: division by zero"
    assert "test 2 of 2: SyntaxError" in run_tests("f = 1", ["assert f", "assert ="]).reason


# Answers that are hard to read end in a verdict, soon.
HARD = {
    "deep": ("def f(x):\n a = []\n for i in range(50000): a = [a]\n return a", ITEM, "assertion 1"),
    "deep tuple": ("def f(x):\n a = ()\n for i in range(50000): a = (a,)\n return a", ITEM, "RecursionError"),
    "cycles that are compared": ("def f():\n a = []; a.append(a); return a", ["a = []\na.append(a)\nassert f() == a"], "RecursionError"),
    "flood": ("def f(g):\n while True: g(1)", ["assert f(lambda x: x) == 1"], "took longer"),
    "endless": ("def f():\n while True: yield 1", ["assert list(f()) == [1]"], "took longer"),
    "wide": ("def f(x): return [0] * (1 << 26)", ITEM, "answered more than|out of memory|took longer"),
    "raises while it is read": ("class D(dict):\n def items(s): raise SystemExit\n __iter__ = keys = items\ndef f(x): return D()", ITEM, "assertion 1"),
    "endless objects": ("class E:\n def __getattr__(s, n): return E()\n __call__ = __getitem__ = __iter__ = lambda s, *a: E()\ndef f(): return E()", ["assert list(f()) == [1]"], "took longer|TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_hard_answers_end(name: str) -> None:
    program, tests, reason = HARD[name]
    began = time.monotonic()
    outcome = run_tests(program, tests, limits=Limits(seconds=1.5 if "took" in reason else 8))
    assert not outcome.passed
    assert any(part in outcome.reason for part in reason.split("|")), outcome.reason
    assert time.monotonic() - began < 20
