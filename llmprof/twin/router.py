"""The router of a mixture of experts: how much each token takes of each of its experts.

Axis legend: N tokens, D d_model, E experts, k experts of a token, G groups of experts.

What it would choose is computed and not used: which experts a token goes to is part of the workload
(docs/reference-experts.md, sections 1 and 2). Names are deleted at their last use: lifetimes are counted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.spec import arch
from llmprof.twin.in_place import multiplied
from llmprof.twin.leaf import Material, TensorLeaf
from llmprof.twin.routes import Routes


class Router(TensorLeaf):
    """Scores of the experts, and the weights of those that the workload chose: `[N, D] -> [N k, 1]`.

    Row j of the result is the weight of row j in the order of experts. `correction` is added to the scores for the
    choice alone; it is a buffer in fp32, no parameter.
    """

    def __init__(self, spec: arch.Moe, d_model: int, material: Material) -> None:
        super().__init__()
        self.spec = spec
        self.weight = material.parameter(spec.n_experts, d_model)
        self.bias: Tensor | None
        self.register_parameter("bias", material.parameter(spec.n_experts) if spec.router_bias else None)
        self.correction: Tensor | None
        zeros = torch.zeros(spec.n_experts, dtype=torch.float32, device=material.device)
        self.register_buffer("correction", zeros if spec.correction_bias else None)

    def forward(self, x: Tensor, now: Routes) -> Tensor:
        if self.spec.scores == "sparsemixer":
            return self._laid(self._one_after_another(self._logits(x), now), x, now)
        scores = self._scores(x)
        ranked = scores if self.correction is None else scores + self.correction
        if self.spec.n_groups > 1:
            ranked = self._within_groups(ranked)
        torch.topk(ranked, self.spec.top_k)
        del ranked
        weights = scores.gather(1, now.chosen)
        del scores
        if self.spec.scores == "softmax-chosen":
            weights = torch.softmax(weights, dim=-1)
        if self.spec.normalise:
            total = weights.sum(-1, keepdim=True)
            weights = weights / total
            del total
        return self._laid(weights, x, now)

    def _laid(self, weights: Tensor, x: Tensor, now: Routes) -> Tensor:
        """`[N, k]` scaled, in the dtype of x, as `[N k, 1]` in the order of experts."""
        if self.spec.scale != 1.0:
            weights = multiplied(weights, self.spec.scale)
        weights = weights.to(x.dtype)
        return weights.flatten().index_select(0, now.slots).view(-1, 1)

    def _logits(self, x: Tensor) -> Tensor:
        """fp32 `[N, E]`."""
        weight = self.weight.to(x.dtype)
        logits = F.linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))
        del weight
        return logits.to(torch.float32)

    def _one_after_another(self, logits: Tensor, now: Routes) -> Tensor:
        """SparseMixer's weights `[N, 2]`: of each choice a softmax over the experts that come near the best.

        What was chosen first takes no part in the second (https://arxiv.org/abs/2409.12136).
        """
        assert self.spec.margin is not None, "the rules of the language want one"
        scores, weights = logits, []
        for choice in range(2):
            best = scores.max(dim=-1, keepdim=True).values
            size = torch.maximum(logits.abs(), best)
            short = best - logits
            del best
            short = short / size
            del size
            far = short > 2 * self.spec.margin
            del short
            near = scores.masked_fill(far, float("-inf"))
            del far
            near = torch.softmax(near, dim=-1)
            column = now.chosen[:, choice : choice + 1]
            weights.append(near.gather(1, column))
            del near
            if choice == 0:
                scores = logits.clone()
                scores.scatter_(1, column, float("-inf"))
        return torch.cat(weights, dim=1)

    def _scores(self, x: Tensor) -> Tensor:
        """fp32 `[N, E]`: of every expert, or the logits where a softmax of the chosen ones is to follow."""
        logits = self._logits(x)
        match self.spec.scores:
            case "softmax":
                return torch.softmax(logits, dim=-1)
            case "sigmoid":
                return torch.sigmoid(logits)
            case "softmax-chosen":
                return logits
            case "sparsemixer":
                raise AssertionError("its weights are not those of one list of scores")

    def _within_groups(self, ranked: Tensor) -> Tensor:
        """`ranked` `[N, E]` where an expert's group is one of the best, else 0.

        A group is as good as its two best experts together (https://arxiv.org/abs/2412.19437, section 2.1.2).
        """
        spec = self.spec
        grouped = ranked.view(len(ranked), spec.n_groups, spec.n_experts // spec.n_groups)
        best, best_at = torch.topk(grouped, min(2, grouped.shape[-1]))
        groups = best.sum(-1)  # [N, G]
        del best, best_at
        kept, kept_at = torch.topk(groups, spec.groups_per_token)
        del groups
        mask = torch.zeros(grouped.shape[:2], dtype=torch.float32, device=ranked.device)
        mask.scatter_(1, kept_at, 1.0)
        del kept, kept_at
        return (grouped * mask.unsqueeze(-1)).view_as(ranked)
