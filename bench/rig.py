# SPDX-License-Identifier: Apache-2.0
"""What the sections of the benchmark share: the table (and its JSON), a daemon with a scratch data
directory, the load generator. It must not know what is measured."""
import http.client
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
DIGITS_FILE = ROOT / "tests" / "data" / "digits.csv.gz"
WAIT_SECONDS = 600


def short(value):
    """Three or four digits, thousands as k."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g} M"
    if size >= 1e4:
        return f"{value / 1e3:.3g} k"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


class Table:
    """Prints figures as they come and keeps them. A figure is a list of repeats; a ratio is the
    median over repeats of the quotient of two figures measured in the same repeat."""

    def __init__(self, say=print):
        self.say = say
        self.section = None
        self.figures, self.ratios, self.skipped = [], [], []

    def heading(self, section, text):
        self.section = section
        self.say(f"\n== {section}: {text}")

    def group(self, text):
        self.say(f"  {text}")

    def figure(self, name, unit, values, against=None, digits=short):
        """against: [(what, values)], printed as `0.98 of what`."""
        values = [float(v) for v in values]
        middle = statistics.median(values)
        line = f"    {name:<46} {digits(middle):>8} {unit:<12}"
        if len(values) > 1:
            line += f" {digits(min(values))} .. {digits(max(values))}"
        entry = {"section": self.section, "name": name, "unit": unit, "median": middle,
                 "min": min(values), "max": max(values), "values": values}
        self.figures.append(entry)
        for what, others in against or []:
            quotients = [v / o for v, o in zip(values, others) if o]
            if not quotients:
                continue
            ratio = {"section": self.section, "of": name, "against": what,
                     "median": statistics.median(quotients), "min": min(quotients),
                     "max": max(quotients)}
            self.ratios.append(ratio)
            line = f"{line:<92} = {ratio['median']:.3g} x {what}"
            self.say(line)
            line = ""
        if line:
            self.say(line)

    def skip(self, text):
        self.skipped.append({"section": self.section, "why": text})
        self.say(f"    skipped: {text}")

    def note(self, text):
        self.say(f"    ({text})")

    def save(self, path, machine, seconds):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine, "seconds": round(seconds, 1),
                                    "figures": self.figures, "ratios": self.ratios,
                                    "skipped": self.skipped}, indent=1) + "\n")


class Daemon:
    """unlearnd on a free port of loopback, its data in a scratch directory that close() removes."""

    def __init__(self, bin_dir, *options):
        self.folder = tempfile.mkdtemp(prefix="unlearnd-bench-")
        self.log = []
        self.process = subprocess.Popen(
            [str(bin_dir / "unlearnd"), "--data-dir", self.folder, "--listen", "127.0.0.1:0",
             "--insecure-no-auth", *options], stderr=subprocess.PIPE, text=True)
        self.port = None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.match(r"listening on .*:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
        if self.port is None:
            raise RuntimeError("the daemon did not start:\n" + "".join(self.log))
        threading.Thread(target=self._drain, daemon=True).start()
        self.http = None

    def _drain(self):
        for line in self.process.stderr:
            self.log = self.log[-50:] + [line]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def request(self, method, path, body=None, kind="application/json"):
        """(status, bytes); the connection is kept."""
        if self.http is None:
            self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        try:
            self.http.request(method, path, body, {"Content-Type": kind} if body is not None else {})
            r = self.http.getresponse()
            return r.status, r.read()
        except (OSError, http.client.HTTPException):
            self.http.close()
            self.http = None
            raise

    def ok(self, method, path, body=None, kind="application/json"):
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        status, data = self.request(method, path, body, kind)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {data[:400]!r}")
        return json.loads(data) if data[:1] in (b"{", b"[") else data

    # --- the usual steps ---
    def load(self, model, ndjson):
        """Seconds that the upload took; every row must be accepted."""
        begin = time.monotonic()
        answer = self.ok("POST", f"/v1/models/{model}/records", ndjson, "application/x-ndjson")
        seconds = time.monotonic() - begin
        if answer["rejected"] or answer["duplicates"] or answer["suppressed"]:
            raise RuntimeError(f"the upload was not taken whole: {answer}")
        return seconds

    def train(self, model):
        """Seconds by the job's own times."""
        job = self.ok("POST", f"/v1/models/{model}/train")["id"]
        return self.job_seconds(self.wait(f"/v1/jobs/{job}", ("succeeded",), ("failed", "cancelled")))

    @staticmethod
    def job_seconds(job):
        return seconds_between(job["started_at"], job["ended_at"])

    def wait(self, path, until, never=(), pause=0.005):
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            state = self.ok("GET", path)
            if state["state"] in until:
                return state
            if state["state"] in never:
                raise RuntimeError(f"{path}: {state}")
            time.sleep(pause)
        raise RuntimeError(f"{path} did not end: {state}")

    def gauge(self, name):
        text = self.ok("GET", "/metrics").decode()
        return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))

    def settle(self, seconds):
        """Waits until no erasure is pending; False where that took too long."""
        end = time.monotonic() + seconds
        while self.gauge("unlearnd_pending_erasures") > 0:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


def seconds_between(a, b):
    return milliseconds(b) / 1e3 - milliseconds(a) / 1e3


def milliseconds(rfc3339):
    whole, fraction = rfc3339.rstrip("Z").split(".")
    t = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return (((t.tm_yday + (t.tm_year - 2000) * 366) * 24 + t.tm_hour) * 60 + t.tm_min) * 60000 \
        + t.tm_sec * 1000 + int(fraction)


def http_load(bin_dir, port, path, *, connections, bodies=None, requests=0, ms=0, first=0):
    """One run of bench/http_load.c; anything but 2xx answers is an error."""
    command = [str(bin_dir / "bench" / "http_load"), "-c", str(connections), "-f", str(first)]
    command += ["-n", str(requests)] if requests else []
    command += ["-m", str(ms)] if ms else []
    command += ["-b", str(bodies)] if bodies else []
    r = subprocess.run([*command, str(port), path], capture_output=True, text=True, timeout=300)
    if r.returncode != 0:
        raise RuntimeError(r.stderr.strip())
    result = json.loads(r.stdout)
    if result["refused"]:
        raise RuntimeError(f"{path}: {result['refused']} of {result['requests']} answers were "
                           f"refusals, the first {result['first_refusal']}")
    return result


def run_tool(bin_dir, *args, seconds=300):
    r = subprocess.run([str(bin_dir / "bench" / args[0]), *map(str, args[1:])],
                       capture_output=True, text=True, timeout=seconds)
    if r.returncode != 0:
        raise RuntimeError(f"{args}: {r.stderr.strip()}")
    return r.stdout
