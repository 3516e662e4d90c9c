"""Names to classes, over real small distributions laid out in a temporary folder."""

import subprocess
import sys
import textwrap
from abc import ABC, abstractmethod

import pytest

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import PluginError
from latentdd_plugin.core.plugins import Preset

BUILT_IN = "identity"


class Base(ABC):
    """Base class of the test plug-ins."""

    contract = 1

    @abstractmethod
    def encode(self):
        """Do something."""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay out a distribution: metadata, entry points and one module; gone from sys.modules afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def _install(name, entry_points, version="1.0", **modules):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(text))
        return info

    yield _install
    for module in set(sys.modules) - before:
        if getattr(sys.modules[module], "__file__", None) and str(tmp_path) in str(sys.modules[module].__file__):
            del sys.modules[module]


GOOD = """
    from tests.test_plugins import Base

    class Good(Base):
        def __init__(self, size=4, *, name_of=None): ...
        def encode(self): ...

    class Half(Base): ...

    class Later(Good):
        contract = 2

    class Other: ...

    thing = 3
"""


@pytest.fixture(autouse=True)
def _importable_base(monkeypatch):
    """Let the plug-ins of these tests import Base by one stable name."""
    monkeypatch.setitem(sys.modules, "tests.test_plugins", sys.modules[__name__])


def test_entries_are_metadata_only(install):
    install("x_y.z", "[dd_bench.codecs]\nboom = boom_module:Boom [extra1,extra2]\n", boom_module="raise SystemExit(3)")
    entry = plugins.entries("codecs")["boom"]
    assert (entry.target, entry.distribution, entry.version) == ("boom_module:Boom", "x-y-z", "1.0")
    assert entry.extras == ("extra1", "extra2")
    assert "boom_module" not in sys.modules
    assert BUILT_IN in plugins.entries("codecs")
    assert plugins.problems() == []


def test_nothing_heavy_is_imported_by_listing():
    code = (
        "import sys; from latentdd_plugin.core.plugins import entries; entries('codecs'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_malformed_distribution_is_named_and_does_no_harm(install):
    install("good_one", "[dd_bench.codecs]\ngood = good_module:Good\n", good_module=GOOD)
    install("broken_one", "this is = not\nan ini file\n", version="2.5")
    assert plugins.resolve("codecs", "good", base=Base).cls.__name__ == "Good"
    assert BUILT_IN in plugins.entries("codecs")
    (text,) = plugins.problems()
    assert text.startswith("broken-one 2.5: malformed entry_points.txt")


def test_an_unparsable_target_is_named_and_does_no_harm(install):
    install("odd", "[dd_bench.codecs]\nodd = not a target!\n")
    assert "odd" not in plugins.entries("codecs")
    assert BUILT_IN in plugins.entries("codecs")
    assert plugins.problems()[0].startswith("odd 1.0: malformed")


def test_the_same_target_twice_is_one_entry(install):
    install("dotted.name", "[dd_bench.codecs]\ngood = good_module:Good\n", good_module=GOOD)
    install("dotted_name", "[dd_bench.codecs]\ngood = good_module:Good\n", version="1.1")
    assert plugins.entries("codecs")["good"].rivals == ()
    assert plugins.load("codecs", "good").__name__ == "Good"


def test_two_targets_under_one_name_fail_only_when_asked_for(install):
    install("first", "[dd_bench.codecs]\ngood = good_module:Good\nfine = good_module:Good\n", good_module=GOOD)
    install("second", "[dd_bench.codecs]\ngood = good_module:Later\n")
    assert len(plugins.entries("codecs")["good"].rivals) == 1
    assert plugins.resolve("codecs", "fine").cls.__name__ == "Good"
    with pytest.raises(PluginError, match="claimed twice") as raised:
        plugins.resolve("codecs", "good")
    assert "first 1.0" in str(raised.value)
    assert "second 1.0" in str(raised.value)
    assert plugins.resolve("codecs", "good", distributions=["first"]).cls.__name__ == "Good"


@pytest.mark.parametrize("cause", ["raise SystemExit(3)", "import no_such_module", "1/0", "def f(:", "x = 1"])
def test_whatever_a_plug_in_raises_becomes_one_message(install, cause):
    install("bad_one", "[dd_bench.codecs]\nbad = bad_module:Bad [gpu]\n", bad_module=cause)
    with pytest.raises(PluginError) as raised:
        plugins.resolve("codecs", "bad")
    text = str(raised.value)
    assert "bad = bad_module:Bad (of bad-one 1.0) cannot be loaded: " in text
    assert "pip install 'bad-one[gpu]'" in text
    assert raised.value.exit_code == 2


def test_ctrl_c_during_an_import_passes(install):
    install("slow", "[dd_bench.codecs]\nslow = slow_module:Slow\n", slow_module="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load("codecs", "slow")


def test_an_unknown_name_lists_the_nearest_and_all():
    with pytest.raises(PluginError) as raised:
        plugins.resolve("codecs", "idntity")
    assert "unknown codec 'idntity' (did you mean identity?); there are: " in str(raised.value)
    assert "dct" in str(raised.value)


def test_presets_keep_their_configuration(install):
    text = GOOD + "\n    from latentdd_plugin.core.plugins import Preset\n    SMALL = Preset(Good, {'size': 2})\n"
    install("p", "[dd_bench.codecs]\nsmall = preset_module:SMALL\n", preset_module=text)
    preset = plugins.resolve("codecs", "small", base=Base)
    assert isinstance(preset, Preset)
    assert preset.config == {"size": 2}


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Other", "does not derive from"),
        ("Half", "does not define encode"),
        ("Later", "written for contract 2, this version knows contract 1"),
        ("thing", "a class or a Preset is wanted, this is a int"),
        ("Goood", "has no 'Goood' \\(did you mean Good"),
    ],
)
def test_the_contract_is_checked(install, attribute, message):
    install("c", f"[dd_bench.codecs]\nodd = good_module:{attribute}\n", good_module=GOOD)
    with pytest.raises(PluginError, match=message):
        plugins.resolve("codecs", "odd", base=Base)


def test_a_dotted_path_and_a_file_need_no_packaging(install, tmp_path, monkeypatch):
    install("c", "", good_module=GOOD)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "my_codec.py").write_text(textwrap.dedent(GOOD))
    monkeypatch.chdir(tmp_path)
    assert plugins.resolve("codecs", "good_module:Good", base=Base).cls.__module__ == "good_module"
    cls = plugins.resolve("codecs", "./sub/my_codec.py:Good", base=Base).cls
    assert cls.__module__ == "my_codec"
    assert plugins.resolve("codecs", "sub/my_codec.py:Good").cls is cls
    with pytest.raises(PluginError, match="unknown codec"):
        plugins.resolve("codecs", "good_module:Good", installed_only=True)
    with pytest.raises(PluginError, match="name the class in it too"):
        plugins.resolve("codecs", "./sub/my_codec.py")
    with pytest.raises(PluginError, match="FileNotFoundError"):
        plugins.resolve("codecs", "./sub/absent.py:Good")


@pytest.mark.parametrize("stem", ["json", "wave"])
def test_a_file_never_takes_the_name_of_another_module(tmp_path, stem):
    (tmp_path / f"{stem}.py").write_text("class Mine: ...")
    before = sys.modules.get(stem)
    assert plugins.resolve("codecs", f"{tmp_path}/{stem}.py:Mine").cls.__module__ == stem
    assert sys.modules.get(stem) is before


def test_a_changed_file_is_read_again_and_a_broken_one_leaves_nothing(tmp_path):
    path = tmp_path / "my_changing_codec.py"
    path.write_text("class Mine:\n    size = 1")
    assert plugins.resolve("codecs", f"{path}:Mine").cls.size == 1
    path.write_text("class Mine:\n    size = 22")
    assert plugins.resolve("codecs", f"{path}:Mine").cls.size == 22
    del sys.modules["my_changing_codec"]
    path.write_text("raise RuntimeError('no')")
    with pytest.raises(PluginError, match="RuntimeError: no"):
        plugins.resolve("codecs", f"{path}:Mine")
    assert "my_changing_codec" not in sys.modules


def test_constructor_arguments_are_checked():
    class Part:
        def __init__(self, size=4, *, keep=True): ...

    class Open:
        def __init__(self, **anything): ...

    class Unrelated(Open):
        contract = 1

    assert plugins.check_arguments(Unrelated, {"what": 1}) == ["Unrelated has no option 'what'; it takes no options"]
    assert plugins.check_arguments(Part, {"size": 1, "keep": False}) == []
    assert plugins.check_arguments(Open, {"what": 1}) == []
    assert plugins.check_arguments(Part, {"sise": 1}) == [
        "Part has no option 'sise' (did you mean size?); it takes: size, keep"
    ]
