# SPDX-License-Identifier: Apache-2.0
"""The manager of services that a daemon under test speaks to: systemd's side of sd_notify(3)."""
import socket
import threading
import time


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0.2)
        self.got = []
        self.ended = False
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while not self.ended:
            try:
                self.got.append((time.monotonic(), self.socket.recv(4096).decode().split("\n")))
            except socket.timeout:
                pass

    def times(self, word):
        return [at for at, lines in self.got if word in lines]

    def wait(self, word, seconds=20):
        end = time.monotonic() + seconds
        while not self.times(word):
            assert time.monotonic() < end, f"{word} never came: {self.got}"
            time.sleep(0.01)

    def close(self):
        self.ended = True
        self.thread.join()
        self.socket.close()
