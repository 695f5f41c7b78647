# SPDX-License-Identifier: Apache-2.0
"""The peers' side of the training comparison, a process of its own under the system's Python:
`peer.py torch|sklearn`, then a line `SIDE CASE MS` on standard input for each measurement, answered
by the samples a second. One thread. It must not know unlearnd."""
import os
import sys
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402

RATE = 0.01
# as in train.c: features, classes, hidden units, tanh, batch, momentum, rows
CASES = {
    "wide": (784, 10, 128, False, 64, 0.0, 8192),
    "wide-momentum": (784, 10, 128, False, 64, 0.9, 8192),
    "purchase": (600, 2, 128, True, 16, 0.0, 16384),
    "softmax": (784, 10, 0, False, 64, 0.0, 8192),
}


def rows_of(case):
    features, classes, _, tanh, _, _, rows = CASES[case]
    rng = np.random.default_rng(1)
    x = rng.random((rows, features), dtype=np.float32)
    if tanh:
        x = (x < 0.09).astype(np.float32)
    return x, rng.integers(0, classes, rows)


def rate_of(one_pass, ms):
    """one_pass yields the samples of each step; goes on over the rows until the time is up."""
    samples, begin = 0, time.perf_counter()
    while True:
        for n in one_pass():
            samples += n
            now = time.perf_counter()
            if now - begin >= ms / 1e3:
                return samples / (now - begin)


class Torch:
    def __init__(self):
        import torch
        torch.set_num_threads(1)
        torch.manual_seed(1)
        self.torch, self.version = torch, torch.__version__
        self.made = {}

    def make(self, case):
        torch, nn = self.torch, self.torch.nn
        features, classes, hidden, tanh, _, momentum, _ = CASES[case]
        layers = [nn.Linear(features, classes)]
        if hidden:
            layers = [nn.Linear(features, hidden), nn.Tanh() if tanh else nn.ReLU(),
                      nn.Linear(hidden, classes)]
        model = nn.Sequential(*layers)
        x, y = (torch.from_numpy(a) for a in rows_of(case))
        return model, torch.optim.SGD(model.parameters(), RATE, momentum), x, y

    def measure(self, side, case, ms):
        torch = self.torch
        batch = CASES[case][4]
        if case not in self.made:
            self.made[case] = self.make(case)
        model, optimizer, x, y = self.made[case]
        loss_of = torch.nn.CrossEntropyLoss()

        def step(xb, yb):
            optimizer.zero_grad()
            loss_of(model(xb), yb).backward()
            optimizer.step()
            return len(xb)

        def eager():
            for at in range(0, len(x), batch):
                yield step(x[at:at + batch], y[at:at + batch])

        def loader():
            for xb, yb in torch.utils.data.DataLoader(
                    torch.utils.data.TensorDataset(x, y), batch_size=batch, shuffle=True):
                yield step(xb, yb)

        for _, n in zip(range(30), eager()):
            pass
        return rate_of(eager if side == "eager" else loader, ms)


class Sklearn:
    def __init__(self):
        import sklearn
        self.version = sklearn.__version__
        self.made = {}
        warnings.filterwarnings("ignore")

    def make(self, case):
        from sklearn.linear_model import SGDClassifier
        from sklearn.neural_network import MLPClassifier
        _, _, hidden, tanh, batch, momentum, _ = CASES[case]
        if hidden:
            return MLPClassifier((hidden,), activation="tanh" if tanh else "relu", solver="sgd",
                                 alpha=0.0, batch_size=batch, learning_rate_init=RATE,
                                 momentum=momentum, nesterovs_momentum=False, random_state=1)
        return SGDClassifier(loss="log_loss", penalty=None, learning_rate="constant", eta0=RATE,
                             random_state=1)

    def measure(self, _, case, ms):
        classes = CASES[case][1]
        if case not in self.made:
            self.made[case] = self.make(case), *rows_of(case)
            model, x, y = self.made[case]
            model.partial_fit(x[:256], y[:256], classes=range(classes))
        model, x, y = self.made[case]
        part = len(x) // 8

        def one_pass():
            for at in range(0, len(x), part):
                model.partial_fit(x[at:at + part], y[at:at + part])
                yield part

        return rate_of(one_pass, ms)


def main():
    try:
        peer = {"torch": Torch, "sklearn": Sklearn}[sys.argv[1]]()
    except ImportError:
        print("absent", flush=True)
        return
    print(peer.version, flush=True)
    for line in sys.stdin:
        side, case, ms = line.split()
        print(f"{peer.measure(side, case, float(ms)):.6g}", flush=True)


if __name__ == "__main__":
    main()
