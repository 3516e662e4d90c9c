"""Fresh autoencoders, for `dd-bench codec train`."""

from __future__ import annotations

from typing import Any

KINDS = ("tiny", "kl")
TINY_BLOCKS = (1, 2)  # residual blocks of `tiny`, at twice the code's size and at the code's


def untrained(kind: str, *, f: int, channels: int, width: int, colours: int) -> Any:
    """Return an untrained autoencoder, drawn from torch's global generator.

    `tiny` is an AutoencoderTiny without blocks at the image's own size, where they cost most: one at twice the code's
    size, two at the code's. `kl` is an AutoencoderKL without attention: width, then twice as many channels inside.

    Args:
        kind: one of KINDS.
        f: pixels per side that become one; a power of 2.
        channels: of the code.
        width: channels inside; a multiple of 8 for `kl`.
        colours: channels of the images.
    """
    import diffusers

    stages = f.bit_length()
    images = {"in_channels": colours, "out_channels": colours, "latent_channels": channels, "scaling_factor": 1.0}
    if kind == "tiny":
        widths, blocks = (width,) * stages, ((0,) * stages + TINY_BLOCKS)[-stages:]
        blocks = (0, *blocks[1:])
        return diffusers.AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=blocks,
            num_decoder_blocks=blocks[::-1],
            **images,
        )
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=(width, *(2 * width,) * (stages - 1)),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        **images,
    )
