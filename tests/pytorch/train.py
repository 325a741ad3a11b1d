"""train.py NETWORK BATCH WEIGHTS.safetensors SAMPLES THREADS

PyTorch's side of a comparison: trains while it is told to on standard input, and sleeps in between.
SAMPLES holds a batch: the floats of the pictures, then the labels as 32-bit integers.  Every answer
is a line of JSON:

    {"output": [...], "grown_bytes": 4096}     at the start: the losses of the first steps
    [5.21, 5.19, 5.2]                          milliseconds of each step, for a line "100"

grown_bytes is what the first step adds to the peak of resident memory; gradients and momenta are
there before.  As cnnc's side, tests/bench/turns.c.
"""
import json
import resource
import sys
import time

import torch
from torch.nn.functional import cross_entropy

import networks

STEPS = 2
RATE, TIMED_RATE, MOMENTUM = 0.01, 1e-4, 0.9


def read_samples(path, batch):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    label = torch.frombuffer(data, dtype=torch.int32, offset=len(data) - 4 * batch).long()
    image = torch.frombuffer(data, dtype=torch.float32, count=len(data) // 4 - batch)
    side, channels = (28, 1) if image.numel() == batch * 28 * 28 else (int((image.numel() / batch / 3) ** 0.5), 3)
    image = image.view(batch, channels, side, side)
    return image.to(memory_format=torch.channels_last), label


class Training:
    def __init__(self, name, batch, weights, samples):
        net = getattr(networks, name)()
        networks.load(net, weights)
        self.net = net.to(memory_format=torch.channels_last).train()
        self.image, self.label = read_samples(samples, batch)
        self.optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
        for value in net.parameters():
            value.grad = torch.full_like(value, 0)
            self.optimizer.state[value]["momentum_buffer"] = torch.full_like(value, 0)

    def step(self):
        loss = cross_entropy(self.net(self.image), self.label)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def timed(self):
        begin = time.perf_counter()
        self.step()
        return 1e3 * (time.perf_counter() - begin)

    def turn(self, milliseconds):
        end = time.perf_counter() + milliseconds / 1e3
        first = self.timed()
        times = [first] if first >= milliseconds else []
        while not times or time.perf_counter() < end:
            times.append(self.timed())
        return times


def peak_bytes():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main():
    name, batch, weights, samples, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    training = Training(name, int(batch), weights, samples)
    before = peak_bytes()
    losses = [training.step().item()]
    grown = peak_bytes() - before
    losses += [training.step().item() for _ in range(STEPS - 1)]
    training.optimizer.param_groups[0]["lr"] = TIMED_RATE
    print(json.dumps({"output": losses, "grown_bytes": grown}), flush=True)
    for line in sys.stdin:
        print(json.dumps(training.turn(float(line))), flush=True)


main()
