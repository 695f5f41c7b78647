# SPDX-License-Identifier: Apache-2.0
"""What unlearnd trains, in one readable file: from subjects to their places, from rows to the parameters of a
constituent after each slice. Nothing here is fast, and nothing is shared with the product: tests hold the one to the
other (test_reference.py). Arithmetic is in double precision, where the product's is in single.

    place_of      subject -> (shard, slice)                        invariant 1 of DESIGN.md
    plan          live records of each slice -> stages             epochs after Bourtoule et al. 2021, sec. IV
    order_of      rows of a stage -> the order of one epoch        canonical order, shuffled
    train         rows -> parameters after each slice              invariants 2 and 3

Shapes: n rows, I inputs, O outputs of a layer; x [n, I], w [I, O], b [O], y [n, O]."""
import copy
import hashlib
import struct
from dataclasses import dataclass

import numpy as np

# --- random numbers ---------------------------------------------------------------------------------------------------


def chacha20_block(key, counter):
    """64 bytes of the key stream: Bernstein's original, with a 64-bit block counter and a nonce of zeros."""

    def quarter(s, a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            s[z] ^= s[x]
            s[z] = (s[z] << turn | s[z] >> 32 - turn) & 0xFFFFFFFF

    start = struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<QQ", counter, 0))
    s = list(start)
    for _ in range(10):
        for column in range(4):
            quarter(s, column, column + 4, column + 8, column + 12)
        for i in range(4):
            quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(s, start)))


class Stream:
    """The numbers drawn under a model's key for one purpose, which a few words name."""

    def __init__(self, model_key, *words):
        self.key = hashlib.blake2b(struct.pack(f"<{len(words)}Q", *words), key=model_key, digest_size=32).digest()
        self.block, self.pool = 0, []

    def u32(self):
        if not self.pool:
            self.pool = list(struct.unpack("<16I", chacha20_block(self.key, self.block)))
            self.block += 1
        return self.pool.pop(0)

    def below(self, bound):
        """Uniform in 0..bound-1: Lemire 2019, algorithm 5."""
        product = self.u32() * bound
        while product % 2**32 < 2**32 % bound:
            product = self.u32() * bound
        return product >> 32

    def uniform(self):
        """In [0, 1), with 24 bits."""
        return (self.u32() >> 8) / 2**24


# --- where a record lives ---------------------------------------------------------------------------------------------


def place_of(model_key, subject, likelihood, shards, slices):
    """(shard from 0, slice from 1) of a subject: a function of nothing else. likelihood: "low", "normal", "high"."""
    digest = hashlib.blake2b(b"unlearnd.placement.v1\0" + subject, key=model_key, digest_size=16).digest()
    shard_draw, slice_draw = struct.unpack("<QQ", digest)

    def scale(draw, count):
        return draw * count >> 64

    if likelihood == "high":
        return scale(shard_draw, max(1, shards // 4)), slices
    return scale(shard_draw, shards), 1 + scale(slice_draw, (slices + 1) // 2 if likelihood == "low" else slices)


# --- what is trained, and for how long --------------------------------------------------------------------------------


@dataclass
class Stage:
    slice: int  # whose checkpoint it makes
    number: int  # of the stage, which names its streams
    first_epoch: int
    epochs: int


def plan(live, configured, epochs):
    """The stages of a shard that holds live[i] records in slice i + 1, of which `configured` were there at first."""

    def epochs_through(r):  # 2 e r / (R + 1), rounded up
        return -(-2 * epochs * r // (configured + 1))

    appended = max(1, epochs_through(configured) - epochs_through(configured - 1))
    stages, held, extra = [], 0, 0
    for r, here in enumerate(live, 1):
        if r <= configured:
            first = epochs_through(r - 1)
            count = epochs_through(r) - first
            if held == 0 and here > 0:
                count = max(1, count)
            stages.append(Stage(r, r, first, count))
        else:
            first = epochs_through(configured) + extra * appended
            extra += here > 0
            stages.append(Stage(r, configured + extra, first, appended if here > 0 else 0))
        held += here
    return stages


# --- rows -------------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    pseudonym: bytes  # 16
    slice: int
    x: np.ndarray  # [I]
    label: object  # a class, or the targets [O]


def canonical(rows, last_slice):
    """The rows of slices 1..last_slice, by pseudonym: not by arrival, nor by place in a file."""
    return sorted((r for r in rows if r.slice <= last_slice), key=lambda r: r.pseudonym)


STREAM_INIT, STREAM_SHUFFLE = 1, 2


def order_of(rows, model_key, shard, stage, epoch):
    """One epoch's order of canonical rows: Fisher and Yates, from the end."""
    stream = Stream(model_key, STREAM_SHUFFLE, shard, stage, epoch)
    rows = list(rows)
    for i in range(len(rows), 1, -1):
        k = stream.below(i)
        rows[i - 1], rows[k] = rows[k], rows[i - 1]
    return rows


# --- the network ------------------------------------------------------------------------------------------------------


class Network:
    """Dense layers; softmax regression is the one with none hidden. Layers are pairs [w, b], changed in place."""

    def __init__(self, config, stream):
        self.classifies = config["task"] == "classification"
        self.tanh = config.get("activation") == "tanh"
        widths = [config["features"], *config.get("hidden", []), config["classes" if self.classifies else "targets"]]
        self.layers = [[np.zeros((i, o)), np.zeros(o)] for i, o in zip(widths, widths[1:])]
        if config["kind"] == "mlp":
            for number, (w, _) in enumerate(self.layers):
                before_relu = number < len(self.layers) - 1 and not self.tanh
                fan = w.shape[0] if before_relu else sum(w.shape)  # He et al. 2015; Glorot and Bengio 2010
                limit = (6 / fan) ** 0.5
                w[:] = [[(stream.uniform() - 0.5) * 2 * limit for _ in range(w.shape[1])] for _ in range(w.shape[0])]

    def reach(self):
        """The largest parameter's size."""
        return max(np.abs(p).max() for layer in self.layers for p in layer)

    def forward(self, x):
        """The input of every layer, and the output of the last."""
        inputs = [x]
        for w, b in self.layers[:-1]:
            y = inputs[-1] @ w + b
            inputs.append(np.tanh(y) if self.tanh else np.maximum(y, 0))
        w, b = self.layers[-1]
        return inputs, inputs[-1] @ w + b

    def gradients(self, x, labels):
        """The batch's mean loss (cross entropy, or half the summed squares of a row) and its gradients by [w, b]."""
        inputs, y = self.forward(x)
        if self.classifies:
            p = np.exp(y - y.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            loss = -np.log(np.maximum(p[np.arange(len(x)), labels], np.finfo(np.float32).tiny)).mean()
            d = p - np.eye(y.shape[1])[labels]
        else:
            d = y - labels
            loss = (d**2).sum(axis=1).mean() / 2
        d /= len(x)
        out = []
        for (w, _), given in zip(reversed(self.layers), reversed(inputs)):
            out.insert(0, [given.T @ d, d.sum(axis=0)])
            d = d @ w.T * (1 - given**2 if self.tanh else given > 0)
        return loss, out


class Optimizer:
    """SGD, with momentum or without, or Adam (Kingma and Ba 2015, algorithm 1). It starts anew in every stage."""

    def __init__(self, config, network):
        self.layers, self.adam = network.layers, config["optimizer"] == "adam"
        self.l2, self.momentum = config["l2"], config["momentum"]
        self.first = [[np.zeros_like(p) for p in layer] for layer in network.layers]
        self.second = [[np.zeros_like(p) for p in layer] for layer in network.layers]
        self.steps = 0

    def step(self, gradients, rate):
        self.steps += 1
        for layer, gradient, first, second in zip(self.layers, gradients, self.first, self.second):
            for i, decay in enumerate((self.l2, 0)):  # weights decay, biases do not
                g = gradient[i] + decay * layer[i]
                if self.adam:
                    first[i][:] = self.momentum * first[i] + (1 - self.momentum) * g
                    second[i][:] = 0.999 * second[i] + 0.001 * g**2
                    m = first[i] / (1 - self.momentum**self.steps)
                    v = second[i] / (1 - 0.999**self.steps)
                    layer[i] -= rate * m / (np.sqrt(v) + 1e-8)
                else:
                    first[i][:] = self.momentum * first[i] + g
                    layer[i] -= rate * first[i]


def fit_standardisation(x, dtype):
    """Mean, and one over the standard deviation: less where a fitted row would be further than 5 of it from the mean;
    for what does not vary, 1 (a byte's 1/255)."""
    mean, varies = x.mean(axis=0), np.ptp(x, axis=0) > 0
    deviation = np.maximum(x.std(axis=0), np.abs(x - mean).max(axis=0) / 5)
    return mean, np.where(varies, 1 / np.where(varies, deviation, 1), 1 / 255 if dtype == "u8" else 1)


# --- training ---------------------------------------------------------------------------------------------------------


def tensors_of(network, fitted):
    out = {"mean": fitted[0], "scale": fitted[1]} if fitted else {}
    for i, (w, b) in enumerate(network.layers):
        out |= {f"layers.{i}.weight": w.copy(), f"layers.{i}.bias": b.copy()}
    return out


HALVINGS_MAX = 16  # a stage that diverges is trained anew at half the rate
GROWTH_MAX = 10  # of the largest parameter, in a stage whose loss rose
F32_MAX = np.finfo(np.float32).max


def train_stage(config, model_key, shard, stage, held, begin, fitted, part):
    """A copy of the network after the stage's epochs at `part` of the rate; None if that diverges."""
    network = copy.deepcopy(begin)
    optimizer = Optimizer(config, network)
    first = None
    for epoch in range(stage.first_epoch, stage.first_epoch + stage.epochs):
        rate = part * config["learning_rate"] / (1 + config["learning_rate_decay"] * epoch)
        order = order_of(held, model_key, shard, stage.number, epoch)
        total = 0
        for at in range(0, len(order), config["batch_size"]):  # the last batch may be short
            batch = order[at:at + config["batch_size"]]
            x = np.array([r.x for r in batch])
            if fitted:
                x = (x - fitted[0]) * fitted[1]
            loss, gradients = network.gradients(x, np.array([r.label for r in batch]))
            first = loss if first is None else first
            total += loss * len(batch)
            optimizer.step(gradients, rate)
            if not (loss <= F32_MAX and network.reach() <= F32_MAX):
                return None
    grew = network.reach() > GROWTH_MAX * (1 + begin.reach())
    return None if grew and total / len(order) > first else network


def train(config, model_key, shard, rows, slices):
    """For each slice 1..slices the tensors of its checkpoint ({} while there is no row) and its rows' commitment."""
    live = [sum(r.slice == s for r in rows) for s in range(1, slices + 1)]
    network, fitted, checkpoints = None, None, []
    for stage in plan(live, config["slices"], config["epochs"]):
        held = canonical(rows, stage.slice)
        retained = hashlib.sha256(b"".join(r.pseudonym for r in held)).digest()
        if held and network is None:  # the first live rows
            network = Network(config, Stream(model_key, STREAM_INIT, shard))
            fitted = fit_standardisation(np.array([r.x for r in held]), config["dtype"]) if config["standardize"] else None
        if held and stage.epochs:
            for halvings in range(HALVINGS_MAX + 1):
                trained = train_stage(config, model_key, shard, stage, held, network, fitted, 0.5**halvings)
                if trained:
                    break
            assert trained, "it diverges at every rate"
            network = trained
        checkpoints.append((tensors_of(network, fitted) if network else {}, retained))
    return checkpoints
