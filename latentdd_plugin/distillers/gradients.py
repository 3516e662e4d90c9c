"""Gradients of a matching network's cross-entropy with respect to its parameters, as DC and MTT need them.

The network is a function of its parameters here, so that one compiled function serves every draw and every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core.compute import Mode, try_compiled
from latentdd_plugin.core.types import Shape
from latentdd_plugin.nn.convnet import MatchingNetwork

Weights = tuple[Tensor, ...]  # a network's parameters, in the order of `named_parameters`


def weights_of(network: MatchingNetwork) -> Weights:
    """Return a copy of the network's parameters."""
    return tuple(p.detach().clone() for p in network.parameters())


class Gradients:
    """Gradients at any weights, compiled if the mode says so; each new batch shape is compiled once.

    Args:
        network: gives the architecture; its own weights are not used.
        mode: the arithmetic.
        shape: (c, h, w) of a sample, to try the compiler with.
        classes: number of classes.
    """

    def __init__(self, network: MatchingNetwork, mode: Mode, shape: Shape, classes: int) -> None:
        names = [name for name, _ in network.named_parameters()]

        def loss(weights: Weights, x: Tensor, y: Tensor) -> Tensor:
            named = dict(zip(names, weights, strict=True))
            with mode.autocast():
                logits = torch.func.functional_call(network, named, (x,))
                return F.cross_entropy(logits, y)

        def directional(weights: Weights, x: Tensor, y: Tensor, along: Weights) -> Tensor:
            gradient = torch.func.grad(loss)(weights, x, y)
            return torch.stack([(g * a).sum() for g, a in zip(gradient, along, strict=True)]).sum()

        self.loss = loss
        example = (weights_of(network), torch.zeros((2, *shape), device=mode.device))
        labels = torch.zeros(2, dtype=torch.long, device=mode.device)
        self._plain, self.mode = try_compiled(mode, torch.func.grad(loss), *example, labels)
        self._pull: dict[bool, Callable[..., Any]] = {
            soft: self.mode.compiled(torch.func.grad_and_value(directional, argnums=(0, 1, 2) if soft else (0, 1)))
            for soft in (False, True)
        }

    def at(self, weights: Weights, x: Tensor, y: Tensor) -> Weights:
        """Return the gradient, without a graph. x (n, c, h, w); y int64 (n,) or probabilities float32 (n, classes)."""
        with torch.no_grad():
            gradient: Weights = self._plain(weights, x, y)
        return gradient

    def with_graph(self, weights: Weights, x: Tensor, y: Tensor) -> Weights:
        """Return the gradient as a differentiable function of x (and of soft y); never compiled."""
        leaves = tuple(w.detach().requires_grad_() for w in weights)
        return torch.autograd.grad(self.loss(leaves, x, y), leaves, create_graph=True)

    def pull(
        self, weights: Weights, x: Tensor, y: Tensor, along: Weights
    ) -> tuple[Tensor, Weights, Tensor, Tensor | None]:
        """Return <along, gradient> and its derivatives with respect to weights, x and, if it is soft, y."""
        soft = y.is_floating_point()
        with torch.no_grad():
            derivatives, value = self._pull[soft](weights, x, y, along)
        return value, derivatives[0], derivatives[1], derivatives[2] if soft else None


def with_gradient(value: Tensor, known: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return a loss of this value whose gradients are given: for methods that compute their own gradients.

    Args:
        value: the loss, a scalar.
        known: pairs of a tensor and the loss's gradient with respect to it.
    """
    linear = sum((t * g).sum() - (t * g).sum().detach() for t, g in known)
    return value.detach() + linear
