"""Baselines follow from what codec and distiller say of themselves, not from their names in a file of others."""

import tiny

from latentdd_plugin.experiments.baselines import baseline_configs, has_pixel_codes, is_baseline_distiller


def names(**changes):
    return list(baseline_configs(tiny.config(**changes), bytes_per_class=256, image_shape=(1, 8, 8)))


def test_a_baseline_is_not_its_own_baseline():
    assert names(codec="dct", algo="dm") == ["random-codes", "random-pixels"]
    assert names(codec="dct", algo="random") == ["random-pixels"]
    assert names(codec="identity", algo="random") == []
    assert names(codec="identity", algo="random", precision="int8") == ["random-pixels-fp32"]


def test_other_selections_stand_beside_random_codes():
    assert names(codec="identity", algo="herding") == ["random-codes", "random-pixels"]


def test_a_name_out_of_a_file_imports_nothing(tmp_path):
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('imported')\n")
    assert not has_pixel_codes(f"{trap}:Codec")
    assert not is_baseline_distiller(f"{trap}:Distiller")
    assert (has_pixel_codes("identity"), has_pixel_codes("dct")) == (True, False)
    assert (is_baseline_distiller("random"), is_baseline_distiller("herding")) == (True, False)
