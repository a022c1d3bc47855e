"""DR-MGF read plainly, one epoch after the other, without a line of the library's own loop.

Written from the published algorithm: stages from a common start through gated unit kernels, then one pass
that trains the weights of the mean and nothing else. Everything is autograd on plain expressions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.func import functional_call


class PlainDRMGF:
    """Chained: each stage goes on where the one before has ended, with one velocity for all."""

    def __init__(
        self, net, owners, *, nu, lr, momentum, decay, beta, penalty, routed, batches, count, rate, chained=0
    ):
        self.net, self.owners = net, owners
        self.rate, self.chained = rate, chained  # the batches of a chained stage
        self.lr, self.momentum, self.decay = lr, momentum, decay
        self.beta, self.penalty, self.routed = beta, penalty, routed
        self.batches, self.count = batches, count
        self.tasks = max(max(o) for o in owners.values()) + 1
        self.nu = {k: {n: v.clone() for n, v in nu[k].items()} for k in nu}
        self.velocity = [{} for _ in range(self.tasks)]
        self.scale = {}
        for name, p in net.named_parameters():
            if len(owners[name]) > 1 and not (name.endswith("bias") and self._weight_of(name).dim() > 1):
                shape = p.shape[:2] if p.dim() == 4 else p.shape
                self.scale[name] = [torch.full(shape, 1e-3, dtype=p.dtype) for _ in owners[name]]
        self.adam = {"t": 0, "m": {}, "v": {}}

    def _weight_of(self, name):
        return self.net.get_parameter(name.removesuffix("bias") + "weight")

    def gate(self, name, k, nu):
        def lateral(v):
            v = v.abs()
            return v / (1e-10 + 0.1 * v.sum(1, keepdim=True)) ** 0.5

        if name in nu[k]:
            return lateral(nu[k][name])
        others = [lateral(self.nu[i][name]).detach() for i in self.owners[name]]
        return sum(others) / len(others)

    def effective(self, weights, k, nu):
        found = dict(weights)
        names = {name for task in self.nu.values() for name in task}
        for name in names if self.now_routed else ():
            w = weights[name]
            norm = (w**2).sum((2, 3), keepdim=True) ** 0.5
            found[name] = self.gate(name, k, nu)[:, :, None, None] * w / norm
        return found

    def losses(self, weights, buffers, images, targets):
        outputs = functional_call(self.net, weights | buffers, (images,))
        return [F.cross_entropy(z, targets) for z in outputs]

    def sgd(self, k, key, value, grad, decay):
        grad = grad + decay * value
        velocity = self.velocity[0 if self.chained else k]
        velocity[key] = self.momentum * velocity[key] + grad if key in velocity else grad
        return value - self.lr * velocity[key]

    def stage(self, k, epoch, start, buffers):
        w, nu = dict(start), self.nu | {k: dict(self.nu[k])}
        buffers = {n: b.clone() for n, b in buffers.items()}
        for batch in self.batches(epoch, k, self.chained or self.count):
            images, targets = batch.inputs, batch.targets["label"]
            w = {n: t.detach().requires_grad_() for n, t in w.items()}
            nu[k] = {n: t.detach().requires_grad_() for n, t in nu[k].items()}
            f = self.losses(self.effective(w, k, nu), buffers, images, targets)
            loss = f[k] + self.beta * sum(f[i] for i in range(self.tasks) if i != k)
            if self.now_routed:
                loss = loss + self.penalty * sum((v**2).sum() for v in nu[k].values())
            loss.backward()
            w = {n: self.sgd(k, n, t.detach(), t.grad, self.decay) for n, t in w.items()}
            if self.now_routed:
                nu[k] = {n: self.sgd(k, ("nu", k, n), t.detach(), t.grad, 0.0) for n, t in nu[k].items()}
        final = {n: t.detach() for n, t in nu[k].items()}
        w = {n: t.detach() for n, t in w.items()}
        return self.effective(w, k, nu | {k: final}), buffers, final, w

    def fused(self, states):
        found = {}
        for name, owners in self.owners.items():
            if len(owners) == 1:
                found[name] = (self.last if self.chained else states[owners[0]])[name]
                continue
            a = []
            for i, k in enumerate(owners):
                one = self.scale[name][i].abs() if name in self.scale else torch.ones(())
                if name in self.nu[k]:
                    v = self.nu[k][name].abs()
                    one = one * v / (v.sum(1, keepdim=True) + 1e-10)
                a.append(one.reshape([*one.shape, *[1] * (states[k][name].dim() - one.dim())]))
            base = self.start[name]
            moved = sum(x * (states[k][name] - base) for x, k in zip(a, owners, strict=True))
            found[name] = base + moved / (sum(a) + 1e-20)
        return found

    def adam_step(self, rate):
        self.adam["t"] += 1
        t, new = self.adam["t"], {}
        for name, scales in self.scale.items():
            new[name] = []
            for i, s in enumerate(scales):
                m = 0.9 * self.adam["m"].get((name, i), 0) + 0.1 * s.grad
                v = 0.999 * self.adam["v"].get((name, i), 0) + 0.001 * s.grad**2
                self.adam["m"][name, i], self.adam["v"][name, i] = m, v
                step = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
                new[name].append(s.detach() - rate * step)
        self.scale = new

    def epoch(self, epoch, epochs, ema=0.9):
        self.now_routed = epoch < self.routed * epochs
        self.start = {n: p.detach().clone() for n, p in self.net.named_parameters()}
        buffers = {n: b.clone() for n, b in self.net.named_buffers()}
        left, self.last, statistics = [], self.start, buffers
        for k in range(self.tasks):
            *kept, w = self.stage(k, epoch, self.last, statistics)
            left.append(kept)
            if self.chained:
                self.last, statistics = w, kept[1]
        states = [state for state, _, _ in left]
        self.nu = {k: nu for k, (_, _, nu) in enumerate(left)}
        running = {n: b.clone() for n, b in buffers.items()}  # a full pass forgets where they start
        for name in running:
            module, what = name.rsplit(".", 1)
            owners = self.owners[module + ".weight"]
            if what == "running_mean":
                running[name] = sum(left[k][1][name] for k in owners) / len(owners)
            elif what == "running_var":
                mean = module + ".running_mean"
                mixed = sum(left[k][1][mean] for k in owners) / len(owners)
                second = sum(left[k][1][name] + left[k][1][mean] ** 2 for k in owners) / len(owners)
                running[name] = second - mixed**2
            else:
                running[name] = left[owners[0]][1][name]
        before = {n: [s.clone() for s in scales] for n, scales in self.scale.items()}
        rate = self.rate * (0.5 if 2 * epoch >= epochs else 1)
        for batch in self.batches(epoch, self.tasks, self.count):
            images, targets = batch.inputs, batch.targets["label"]
            self.scale = {n: [s.detach().requires_grad_() for s in v] for n, v in self.scale.items()}
            sum(self.losses(self.fused(states), running, images, targets)).backward()
            self.adam_step(rate)
        with torch.no_grad():
            for name, value in self.fused(states).items():
                self.net.get_parameter(name).copy_(value)
            for name, value in running.items():
                self.net.get_buffer(name).copy_(value)
            if not self.now_routed:
                self.scale = {
                    n: [ema * old + (1 - ema) * s for old, s in zip(before[n], v, strict=True)]
                    for n, v in self.scale.items()
                }
