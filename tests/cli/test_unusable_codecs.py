"""Codecs that give no usable numbers, by the command a user types: exit 1, codec and image named, no result."""

import pytest

from latentdd_plugin.cli import main

CODEC = """
import torch
from latentdd_plugin.codecs.base import Codec

class Mine(Codec):
    spatial = True

    def encode(self, images):
        return {encode}

    def decode(self, codes):
        return {decode}
"""
RUN = (
    "--dataset digits --algo {algo} --evaluator convnet_d1 --protocol tiny.test --controls none --lpc 1 --quiet "
    "device=cpu amp=off compile=off threads=1"
)
PER_IMAGE = (
    "images / images.amax((1, 2, 3), keepdim=True).where(images[:, :1, 2:3, 4:5] > 0, images[:, :1, :1, :1] * 0)"
)
CASES = {  # encode, decode, what is said
    "0/0 for some pictures": (PER_IMAGE, "codes", "codec ./mine.py:Mine: encoding training image"),
    "NaN for all": ("images * float('nan')", "codes", "codec ./mine.py:Mine: encoding training image 0 "),
    "infinite pictures": ("images", "codes / 0", "codec ./mine.py:Mine: decoding image 0 "),
    "no scale": ("images * 1e-12", "codes / 1e-12", "codec ./mine.py:Mine: its codes hardly vary"),
    "one constant code": ("images * 0 + 3", "codes", "codec ./mine.py:Mine: its codes hardly vary"),
}


@pytest.mark.parametrize("algo", ["random", "dm"])
@pytest.mark.parametrize("case", CASES)
def test_a_codec_without_usable_numbers_leaves_no_result(tmp_path, monkeypatch, tiny_protocol, capsys, case, algo):
    encode, decode, words = CASES[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODEC.format(encode=encode, decode=decode))
    command = ["run", "--codec", "./mine.py:Mine", "--out", "out", *RUN.format(algo=algo).split()]
    assert main.main(command) == 1
    told = capsys.readouterr().err
    assert words in told
    assert "algo.lr" not in told, "the method is not to blame"
    assert not (tmp_path / "out" / "result.json").exists()
