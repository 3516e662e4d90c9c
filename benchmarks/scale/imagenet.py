"""ImageNet-1K at 224 px with the codes of Stable Diffusion's autoencoder, on paper: operations are counted, the speed is assumed.

    python benchmarks/scale/imagenet.py --speed 1e14

No weights and no images are needed: diffusers' AutoencoderKL is built in the published configuration.
"""

from __future__ import annotations

import argparse

import torch

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core.compute import Numerics
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.cost.model import DataSize, Model
from latentdd_plugin.experiments.cost.speed import Speed
from latentdd_plugin.latent.sized_codec import SizedCodec

SHAPE, CODE = (3, 224, 224), (4, 28, 28)
DECODE_S = 8e-3 / 16  # one core decodes a JPEG of ImageNet and shrinks it in about 8 ms; 16 cores per process


class StableDiffusion(Codec):
    """The architecture of sd-vae without its weights."""

    channels, multiple, costly, spatial = 3, 8, True, True

    def __init__(self) -> None:
        super().__init__()
        import diffusers

        blocks = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4}
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        self.model = diffusers.AutoencoderKL(**blocks, **kinds)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.encode(images).latent_dist.mode()

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return self.model.decode(codes).sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", type=float, default=1e14)
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = SizedCodec(StableDiffusion(), SHAPE)
    codec.__dict__["code_shape"] = CODE  # known, and costly to find out
    data = DataSize(1_281_167, 50_000, 1000, SHAPE, "stream", DECODE_S)
    numerics = Numerics("cpu", 1, "auto", "auto", True, True, torch.__version__, "on paper")
    for lpc in (10, 50):
        for algo in ({"name": "dm", "preset": "paper"}, {"name": "random"}):
            config = RunConfig(
                "imagenet", "sd-vae", algo, lpc=lpc, precision="fp16", evaluators=("resnet18",), protocol="rded.v1"
            )
            resolved, parts = resolve_run(config)
            found = Model(resolved, parts, data, codec, numerics, Speed("cpu", args.speed)).estimate()
            print(f"\n== {algo['name']}, {lpc} codes per class")
            print(found.table((1, 8)))


if __name__ == "__main__":
    main()
