"""VQ autoencoders of the diffusers library whose codes are the numbers of codebook entries.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", arXiv 1711.00937: the code of an image
is, at each position, the entry nearest to what the encoder gives (equation 1).

    VQ(repo="OWNER/NAME", subfolder="vqvae")    from the hub, or from its cache
    VQ(path="my/folder")                        a folder or one .safetensors file, as `Diffusers` takes them
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from latentdd_plugin.codecs.diffusers import Diffusers

DISTANCES = 1 << 24  # between latents and entries that are in memory at once


class VQ(Diffusers):
    """A frozen VQModel: code = argmin_k || E(2x - 1) - e_k ||, image = (G(e_code) + 1) / 2.

    E is encoder and quant_conv, G post_quant_conv and decoder, e the codebook of K entries. Codes are tokens: whole
    numbers 0 … K - 1 as float32 (N, 1, H/f, W/f), stored without loss at ceil(log2 K) bits each, or entropy-coded.
    They have no gradient, so only methods that keep codes as they are can use them: `random`, `rded`, and selections
    that compare images. For methods that optimise, `Diffusers` loads the same model with its latents as codes.

    Args:
        repo, revision, subfolder, path, architecture, trained_on, variant, model_config: as of `Diffusers`.

    Raises:
        UsageError: as of `Diffusers`, or the weights are of another class than VQModel.
    """

    codec_id: ClassVar[str] = "vq"
    model_classes: ClassVar[tuple[str, ...]] = ("VQModel",)
    tokens: int | None = 0

    def _describe(self) -> None:
        """Set the size of the codebook; tokens are not flipped with the image."""
        self.spatial, self.tokens = False, len(self.codebook)

    @property
    def codebook(self) -> Tensor:
        """The entries, float32 (K, d)."""
        entries: Tensor = self.model.quantize.embedding.weight
        return entries

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) in [0, 1], sides multiples of `multiple`, to tokens float32 (N, 1, H/f, W/f)."""
        latents = self.model.encode(2 * images - 1).latents
        n, d, h, w = latents.shape
        with torch.autocast(latents.device.type, enabled=False):
            flat = latents.permute(0, 2, 3, 1).reshape(-1, d).to(self.codebook.dtype)
            size = max(1, DISTANCES // len(self.codebook))
            nearest = [torch.cdist(part, self.codebook).argmin(1) for part in flat.split(size)]
        return torch.cat(nearest).view(n, 1, h, w).float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode tokens (N, 1, h, w) to images (N, C, f h, f w), not clamped, without gradient."""
        latents = self.codebook[codes[:, 0].long()].permute(0, 3, 1, 2).contiguous()
        spatial = latents if self.model.config.norm_type == "spatial" else None
        image: Tensor = self.model.decoder(self.model.post_quant_conv(latents), spatial)
        return (image.float() + 1) / 2

    def trainable_parameters(self) -> dict[str, Tensor]:
        """Return nothing: no method that takes tokens trains a decoder."""
        return {}
