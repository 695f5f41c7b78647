#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fuzz/seeds/: for each target a few small inputs that reach its far corners, so that a short run starts
from there. They are committed; run this after a change of a format, from the top of the checkout."""
import base64
import gzip
import hashlib
import json
import re
import struct
import subprocess
import zlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SEEDS = Path("tests/fuzz/seeds")
LINE_MAX = 512  # NDJSON_LINE_MAX in a build for fuzzing


def put(target, **inputs):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if not re.fullmatch("[0-9a-f]{40}", old.name):  # which a fuzzer found
            old.unlink()
    for name, data in inputs.items():
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def dump(value):
    return json.dumps(value, separators=(",", ":"))


def bodies():
    softmax = {"name": "digits", "features": 64, "classes": 10, "shards": 4, "slices": 4}
    mlp = {"name": "m", "kind": "mlp", "task": "regression", "features": 3, "targets": 2, "hidden": [8, 4],
           "activation": "tanh", "optimizer": "adam", "learning_rate": 0.01, "epochs": 3, "batch_size": 16,
           "seed": 7, "standardize": True, "l2": 1e-4, "learning_rate_decay": 0.1, "aggregation": "mean"}
    tabular = {"name": "people", "encoder": "tabular", "labels": ["no", "yes"],
               "columns": [{"name": "age", "type": "numeric"},
                           {"name": "job", "type": "categorical", "values": ["clerk", "nurse"]}]}
    text = {"name": "spam", "encoder": "hash_text", "dtype": "u8", "features": 256, "classes": 2,
            "labels": ["ham", "spam"], "momentum": 0.9, "optimizer": "sgd"}
    erasure = {"subjects": ["alice@example.org", "bob"], "records": [{"model": "digits", "id": "r17"}],
               "models": ["digits"], "regulation": "gdpr", "received_at": "2026-01-31T09:00:00Z",
               "deadline": "2026-02-28T10:00:00+01:00", "reference": "DSR-1042"}
    hashed = {"subjects_sha256": [hashlib.sha256(b"alice").hexdigest()], "idempotency_key": "k-1", "dry_run": False}
    held = {"subjects": ["alice@example.org"], "regulation": "ccpa", "hold": True, "reference": "a:b/c#1",
            "callback_url": "https://crm.example.org/hooks/unlearnd?token=x"}
    put("body", held=dump(held), released=dump(held | {"hold": False, "callback_url": "http://[::1]:8080/%2f"}),
        unheld=dump(held | {"hold": None, "callback_url": ""}), callback=dump(held | {"callback_url": "https://" + "a" * 2041}),
        line_held=dump(held | {"idempotency_key": "k-2"}), wrong_hold=dump(held | {"hold": "true"}),
        refusal=dump({"reason_code": "identity_not_verified"}), overlap=dump({"overlap_seconds": 3600}),
        extension=dump({"reason_code": "complexity", "deadline": "2026-04-30T22:00:00.000Z"}),
        softmax=dump(softmax), mlp=dump(mlp), tabular=dump(tabular), text=dump(text), erasure=dump(erasure),
        hashed=dump(hashed), line=dump({"subjects": ["a"], "idempotency_key": "k-1"}),
        escapes=r'{"a":"\u00e9\ud83d\ude00\n\"\\\/","b":[1e308,-0.0,5e-324,0.1,123456789012345678],"c":[[[{}]]]}',
        scalar="-1.5e-3")


def uploads():
    put("ndjson",
        none='0{"id":"a","label":"spam","features":[1,2.5]}\n{"id":"b","subject":"s","label":0,"features":[-1,1e3]}\n\n'
             '{"id":"c","label":"1","features":[1]}\n',
        bits='2{"id":"a","label":"1","features":[0,1,0,1,1,0,0,1,1]}\n{"id":"a","label":1,"features":[2]}',
        targets='3{"id":"a","label":[1,-2.5],"features":[0,1],"erasure_likelihood":"high"}\n',
        text='4{"id":"\\u00e9","label":"spam","text":"Hello, hello WORLD 7"}\n{"id":"","label":"x","text":1}\n',
        columns='5{"id":"a","label":"0","columns":{"age":"31","job":"clerk"}}\n'
                '{"id":"b","columns":{"age":4,"job":null},"label":-7}\n',
        unlabelled='6{"id":"a","features":[1,2]}\n',
        longest="6" + "".join('{"id":"a","features":[1,2]}'.ljust(n) + "\n" for n in (LINE_MAX, LINE_MAX + 1, LINE_MAX)))
    put("csv",
        none="0id,subject,label,a,b\nr1,s1,spam,1,2.5\nr2,,-7,3,4\n",
        quoted='5id,job,label,age,erasure_likelihood\r\n"a","cle""rk",spam,31,high\r\nb,nurse,0, 4 ,\r\n'
               '"c\nd",x,1,5,low\n',
        targets="3id,label.0,label.1,x,y\n1,0.5,-1e3,2,3\n",
        text='4id,text,label\n1,"hello, world",spam\n2,,0',
        unlabelled="6id,a,b\nr1,1,2\n\nr2,nan,1\n",
        longest="6id,a,b\n" + "".join("r1,1,2".ljust(n) + "\n" for n in (LINE_MAX, LINE_MAX + 1, LINE_MAX)),
        header="6id,a,b".ljust(LINE_MAX + 1) + "\nr1,1,2\n", long_header="6id,a,b".ljust(LINE_MAX + 2) + "\nr1,1,2\n")
    rows = struct.pack("<6f", 1, 2, 0, 3, -4, 1)
    put("npy",
        f4=b"0" + npy("<f4", (2, 3), rows),
        u1=b"1" + npy("|u1", (2, 3), bytes([1, 2, 0, 255, 0, 1])), b1=b"2" + npy("|b1", (1, 10), bytes([0, 1] * 5)),
        f8=b"3" + npy("<f8", (1, 4), struct.pack("<4d", 1, 2, 0.5, -1)),
        i8=b"0" + npy("<i8", (1, 3), struct.pack("<3q", 1, -2, 1), 2), unlabelled=b"4" + npy("<f4", (2, 2), rows[:16]))


def npy(descr, shape, rows, version=1):
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H", len(head)) if version == 1 else struct.pack("<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + size + head + rows


def zstd(data, *options):
    return subprocess.run(["zstd", "-c", *options], input=data, capture_output=True, check=True).stdout


def compressed():
    text = b'{"id":"a","label":"spam","features":[1,2.5]}\n' * 5
    stored = zlib.compressobj(0, zlib.DEFLATED, 31)
    put("inflate", gzip=b"0" + gzip.compress(text, mtime=0), members=b"0" + 2 * gzip.compress(b"one", mtime=0),
        stored=b"0" + stored.compress(b"stored") + stored.flush(), empty=b"0" + gzip.compress(b"", mtime=0),
        zstd=b"1" + zstd(text), checked=b"1" + zstd(text * 20, "--check"), frames=b"1" + zstd(b"one") + zstd(b"two"),
        skippable=b"1" + struct.pack("<II", 0x184D2A50, 3) + b"abc" + zstd(b"x"),
        bomb=b"1" + zstd(b"\0" * 100000), long=b"1" + zstd(text, "--long=27"), plain=b"0plain text")


def predictions():
    tensor = {"name": "input", "shape": [1, 3], "datatype": "FP32"}
    raw = dump({"inputs": [tensor | {"parameters": {"binary_data_size": 12}}],
                "parameters": {"binary_data_output": True}})
    strings = dump({"inputs": [{"name": "input", "shape": [2], "datatype": "BYTES",
                                "parameters": {"binary_data_size": 13}}]})
    put("infer",
        v2="0\n" + dump({"id": "7", "inputs": [tensor | {"data": [1, 2.5, -3e1]}],
                         "outputs": [{"name": "probabilities"}]}),
        rows="0\n" + dump({"inputs": [tensor | {"shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}],
                           "outputs": [{"name": "class", "parameters": {"binary_data": True}}, {"name": "label"}]}),
        binary=f"0{len(raw)}\n{raw}".encode() + struct.pack("<3f", 1, 2, 3),
        text="1\n" + dump({"inputs": [{"name": "input", "shape": [2], "datatype": "BYTES",
                                       "data": ["a b", "\u00e9"]}]}),
        strings=f"1{len(strings)}\n{strings}".encode() + struct.pack("<I", 3) + b"abc" + struct.pack("<I", 2) + b"de",
        table="2\n" + dump({"inputs": [{"name": "input", "shape": [1, 2], "datatype": "BYTES",
                                        "data": [["31", "clerk"]]}]}),
        regression="3\n" + dump({"inputs": [tensor | {"shape": [1, 2], "datatype": "INT8", "data": [1, -128]}]}),
        v1="0\n" + dump({"instances": [[1, 2, 3], [4, 5, 6]]}),
        v1_features="0\n" + dump({"instances": [{"features": [1, 2, 3]}]}),
        v1_text="1\n" + dump({"instances": ["a b", "c"]}), v1_object="1\n" + dump({"instances": [{"text": "a"}]}),
        v1_table="2\n" + dump({"instances": [{"columns": {"age": 31, "job": None}}]}))
    put("tensor",
        cut='0{"inputs":[{"data":[1,[2],"x]"],"x":{"data":[1]}},{"data" : [ ] }],"data":[3]}',
        strings=b"0" + struct.pack("<I", 3) + b"abc" + struct.pack("<I", 0), flat="229[1,2,3.5,-1e-3]",
        rows="229[[1,2],[3,4]]", whole="111[255]", over="111[256]", negative="115[-128]", under="115[-129]", bools="120[true,0]", words="129[NaN,-Infinity]", deep="119[[[1]]]",
        large="128[9223372036854775807,-9223372036854775808]")


def files():
    put("config", documented=Path("config/unlearnd.conf").read_text(),
        all="[server]\ndata_dir = /tmp/x\nlisten = 127.0.0.1:0\nhttp_threads = 4\nupload_max = 64M\nlog_level = debug\n"
            "insecure_no_auth = yes\n[store]\nmap = 1T\n[audit]\norigin = example.org/log\n[training]\nworkers = 2\n",
        wrong="[server]\nlisten_prot = 1\n", outside="x = 1\n", empty="")
    token = hashlib.sha256(b"secret").hexdigest()
    put("tokens", two=f"Bearer secret\nci ingest,predict {token} rate=100/60\n# a comment\nadmin admin {'0' * 64}\n",
        lower=f"bearer   secret\nx.y-z_1 erase,audit {token.upper()}\n", wrong=f"Basic x\nname nothing {token}\n",
        short="Bearer secret\nci ingest abc\n", twice=f"Bearer secret\na admin {token}\nb admin {token}\n")
    model = {"name": "m", "features": 3, "classes": 2, "shards": 4, "slices": 2}
    job = {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "fence": 9, "root": "/d/models/m", "scratch": "/d/scratch", "config": model,
           "model_key": "5a" * 32, "shard": 1, "from": 2, "slices": [{"rows": 3, "live": 2}, {"rows": 0, "live": 0}],
           "parent": "ab" * 32, "kernel": "Haswell"}
    put("job", job=dump(job), first=dump(job | {"from": 1, "kernel": "", "fence": 2 ** 53}),
        wrong=dump(job | {"slices": [{"rows": 1, "live": 2}]}))
    checkpoints()
    row_files()


def checkpoints():
    meta = {"format": "unlearnd.checkpoint.v1", "config_hash": "01" * 32, "shard": "1", "slice": "2", "stage": "2",
            "parent": "00" * 32, "retained": "02" * 32, "records": "5", "kernel": "Haswell"}
    tensors = {"mean": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
               "layers.0.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
               "layers.0.bias": {"dtype": "F32", "shape": [3], "data_offsets": [32, 44]}}
    data = struct.pack("<11f", *range(11))
    header = dump({"__metadata__": meta} | tensors)
    padded = header.encode().ljust((8 + len(header) + 63) // 64 * 64 - 8)
    put("checkpoint", trained=("0" + header).encode() + data, whole=b"1" + struct.pack("<Q", len(padded)) + padded + data,
        empty="0" + dump({"__metadata__": meta | {"records": "0"}}), short="0" + header,
        vast="0" + dump({"__metadata__": meta, "x": {"dtype": "F32", "shape": [4294967295, 4294967295],
                                                     "data_offsets": [0, 8]}}))


def row_files():
    features, inputs = 19, {}
    for dtype, width in ((0, 4 * features), (1, features), (2, (features + 7) // 8)):
        label = 4 * max(dtype, 1)
        row_bytes = (20 + label + width + 3) // 4 * 4
        header = b"ULROWS\r\n" + struct.pack("<7I", 1, dtype, features, dtype, row_bytes, 2, 3) + bytes(24)
        header += struct.pack("<I", crc32c(header))
        rows = b""
        for i in range(3):
            row = bytearray(bytes([i]) * row_bytes)
            row[16:20] = bytes(4)
            row[16:20] = struct.pack("<I", crc32c(bytes(row)))
            rows += bytes(row) if i > 0 else bytes(row_bytes)  # the first was erased
        inputs[f"dtype{dtype}"] = f"{dtype}30".encode() + header + rows
        inputs[f"sealed{dtype}"] = f"{dtype}31".encode() + header + rows
        inputs[f"short{dtype}"] = f"{dtype}40".encode() + header + rows
    put("rows", **inputs)


def texts():
    put("router", **{f"line{i:02}": line for i, line in enumerate([
        "GET /v1/models", "POST /v1/models/digits:predict", "HEAD /v1/models/m/records/a%2Fb", "DELETE /v1/models/m",
        "POST /v1/erasures:batch", "GET /v1/audit/checkpoint", "GET /v1/audit/17", "GET /v2/models/m/versions/1/infer",
        "POST /v2/models/m/infer", "GET /v2/health/ready", "PUT /v1/erasures/01ARZ3NDEKTSV4RRFFQ69G5FAV", "GET //v1/./..",
        "GET /v1/models/%zz%00%", "X ." + "ab" * 16 + ".17", "X " + "01" * 16 + "." + "ab" * 16 + ".3", "X DSR-1042:a/b#c",
        "X " + "AB" * 16,
        "X 18446744073709551615", "X 1000", "X 2026-01-31T09:00:00Z", "X true", "X 01ARZ3NDEKTSV4RRFFQ69G5FAV"])})
    key = Ed25519PrivateKey.from_private_bytes(bytes([7]) + bytes(31))
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    name = "example.org/log"
    key_id = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    head = f"{name}\n15\n{base64.b64encode(bytes(range(32))).decode()}\n"
    line = base64.b64encode(key_id + key.sign(head.encode())).decode()
    note = f"{head}\n\u2014 {name} {line}\n"
    vkey = f"{name}+{key_id.hex()}+{base64.b64encode(bytes([1]) + public).decode()}"
    put("note", head="0" + head, text="0two\nlines \u00e9\n", extended="0" + head + "more\n", signed="1" + note,
        cosigned="1" + note + f"\u2014 other {line}\n", unsigned="1" + head, vkey="2" + vkey, proof="3o0", short="3o11",
        forged="3o00\x05\x01", none="3o03", longer="3o01", single="300")
    cosignatures(head, note)
    statement = json.dumps({"_type": "https://in-toto.io/Statement/v1", "subject": [],
                            "predicateType": "urn:unlearnd:erasure-certificate:v1",
                            "predicate": {"erasure": "E", "log_index": 0, "log": {"origin": name}}})
    kind = "application/vnd.in-toto+json"
    sig = key.sign(f"DSSEv1 {len(kind)} {kind} {len(statement)} {statement}".encode())
    envelope = json.dumps({"payload": base64.b64encode(statement.encode()).decode(), "payloadType": kind,
                           "signatures": [{"keyid": "", "sig": base64.b64encode(sig).decode()}]})
    entry = b'{"v":1,"index":0}'
    one = f"{name}\n1\n{base64.b64encode(hashlib.sha256(bytes(1) + entry).digest()).decode()}\n"
    one += f"\n\u2014 {name} {base64.b64encode(key_id + key.sign(one.encode())).decode()}\n"
    proof = f"c2sp.org/tlog-proof@v1\nextra {base64.b64encode(entry).decode()}\nindex 0\n\n{one}"
    put("certificate", envelope="0" + envelope, proof="1" + proof, bare="1" + proof.replace("extra ", "extra"),
        statement="2" + statement, text="2hello world")
    put("tile", first="0/000", part="7/999.p/255", large="1/x001/x234/067", entries="entries/x001/x000/000.p/99",
        most="0/x018/x446/x744/x073/x709/x551/615", over="0/x018/x446/x744/x073/x709/x551/616", led="0/x000/001",
        full="0/000.p/256", none="0/000.p/0", level="8/000", open="0/x001", more="0/000/000")
    put("scalars", **{f"text{i:02}": text for i, text in enumerate([
        "0", "-12.5e-3", "3.4028235e38", "1e-45", "0.1000000000000000055511151231257827", "179769313486231570000e289",
        "4.9406564584124654e-324", "16777217", "9007199254740993", "2026-01-31T09:00:00Z", "2024-02-29T23:59:60.999+05:30",
        "9999-12-31T23:59:59.999Z", "1970-01-01t00:00:00z", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "00ffAB", "aGVsbG8=", "aGVsbG8h"])})


def cosignatures(head, note):
    """What the witness of fuzz_cosignature.c says, and what it does not."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([9]) + bytes(31))
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    name, when = "witness.example/w1", 1769850000

    def vkey(kind, key=public):
        typed = bytes([kind]) + key
        return f"{name}+{hashlib.sha256(name.encode() + bytes([10]) + typed).digest()[:4].hex()}+" \
               f"{base64.b64encode(typed).decode()}"

    def line(text, when=when, more=b""):
        raw = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4] + struct.pack(">Q", when)
        raw += key.sign(f"cosignature/v1\ntime {when}\n{text}".encode()) + more
        return f"\u2014 {name} {base64.b64encode(raw).decode()}\n"

    log = note[len(head) + 1:]  # the log's own line
    post_quantum = f"\u2014 {name} {base64.b64encode(bytes(4 + 8 + 2420)).decode()}\n"
    put("cosignature", answer="0" + head + "\n" + line(head), two="0" + head + "\n" + line(head) + line(head, when + 60),
        others="0" + head + "\n" + log + line(head) + log, forged="0" + head + "\n" + line(head + "x"),
        long="0" + head + "\n" + line(head, more=b"\0"), future="0" + head + "\n" + line(head, 2 ** 63),
        post_quantum="0" + head + "\n" + post_quantum + line(head), cut="0" + head + "\n" + line(head)[:-1],
        page="0" + head + "\n<html>moved</html>\n", none="0" + head + "\n", note="1" + note + line(head),
        unsigned="1" + note, unbroken="1" + head + line(head), key="2" + vkey(4), plain="2" + vkey(1),
        ml_dsa="2" + vkey(6), short="2" + vkey(4, public[:-1]), other_id="2" + vkey(4).replace("+", "+0", 1),
        size="325\n", zero="30\n", most="318446744073709551615\n", over="318446744073709551616\n", led="307\n",
        cosigned=b"4" + struct.pack(">Q", when) + head.encode(),
        among=b"4" + struct.pack(">Q", when) + (head + "\n" + log).encode(),
        ages=b"4" + struct.pack(">Q", 2 ** 63) + head.encode())


def suppressions():
    """What keeps people out: a line of the ledger, and the file that is carried to another instance."""
    ulid, other, hex_ = "01M8854P3FMPWKZ3V5DDT2W63G", "01M8854P3FMPWKZ3V5DDT2W63H", "00112233445566778899aabbccddeeff"
    when = "1769850000000"
    put("ledger", erasure=f"e {ulid} {when} {when} {when} 1 DSR-1 a,b {hex_},{hex_} m:{hex_},n:{hex_}",
        nobody=f"e {ulid} {when} {when} {when} 0 - * - -", held=f"h {ulid} {other} {when} {when} {when} 2 - m {hex_} -",
        held_by_itself=f"h {ulid} {ulid} {when} {when} {when} 2 - m {hex_} -", lift=f"l {ulid} {when} {hex_}",
        imported=f"i {ulid} {when} s:*:{hex_}:{ulid}:{when},r:m:{hex_}:{other}:0", none=f"i {ulid} {when} ",
        longer=f"l {ulid} {when} {hex_} x", cut=f"l {ulid} {when} {hex_[:-1]}", late=f"l {ulid} 9223372036854775808 {hex_}")
    head = {"format": "unlearnd-suppressions", "version": 1, "key_check": "0" * 32, "exported_at": "2026-01-31T09:00:00Z"}
    item = {"pseudonym": hex_, "kind": "subject", "model": None, "erasure": ulid, "since": "2026-01-31T09:00:00Z"}

    def lines(*docs):
        return "".join(json.dumps(d) + "\n" for d in docs)
    record = {**item, "kind": "record", "model": "m"}
    put("suppressions", whole=lines(head, item, record, {"suppressions": 2}), empty=lines(head, {"suppressions": 0}),
        other_key=lines({**head, "key_check": "1" * 32}, item), no_head=lines(item), short=lines(head, item, {"suppressions": 2}),
        longer=lines(head, {"suppressions": 0}, item), epoch=lines(head, {**item, "since": "1970-01-01T00:00:00Z"}), no_model=lines(head, {**record, "model": None}), cut=lines(head, item),
        windows=lines(head, item, {"suppressions": 1}).replace("\n", "\r\n"), version=lines({**head, "version": 2}))


def kept():
    """Files that an operator carries: a backup's manifest, and the secrets of a webhook."""
    hex_, sum_ = "00112233445566778899aabbccddeeff", "0" * 64
    head = "unlearnd-backup 1\ncreated 2026-01-31T09:00:00.000Z\nversion 0.1.0\n" f"identity {hex_}\nkeys yes\n"
    some = head + f"erasures 7 01M8854P3FMPWKZ3V5DDT2W63G\naudit 9\nledger 512 {hex_}\n"
    none = head.replace("yes", "no") + "erasures 0 -\naudit 0\nledger -\n"
    files = f"file {sum_} 4096 control.mdb\nfile {sum_} 0 models/m/shard-000/slice-0001.rows\n"
    whole = some + files
    put("manifest", whole="0" + whole, empty="0" + none, twice="0" + whole + files, up="0" + some + f"file {sum_} 1 a/../b\n",
        absolute="0" + some + f"file {sum_} 1 /etc\n", cut="1" + whole,
        sealed="1" + whole + "end " + hashlib.sha256(whole.encode()).hexdigest() + "\n")

    def secret(n):
        return "whsec_" + base64.b64encode(bytes(range(n))).decode()
    until = " until 2026-01-31T09:00:00.001Z\n"
    put("secret", one=secret(32) + "\n", bare=secret(24), longest=secret(64), short=secret(23), long=secret(65),
        four=secret(32) + "\n" + 3 * (secret(24) + until), five=secret(32) + "\n" + 4 * (secret(24) + until),
        ended=secret(32) + until, past=secret(32) + "\n" + secret(24) + " until 2026-01-31T08:59:59Z\n",
        epoch=secret(32) + "\n" + secret(24) + " until 1970-01-01T00:00:00Z\n", empty="")


if __name__ == "__main__":
    bodies()
    uploads()
    compressed()
    predictions()
    files()
    texts()
    suppressions()
    kept()
