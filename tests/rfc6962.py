# SPDX-License-Identifier: Apache-2.0
"""A verifier of the audit log that shares nothing with the daemon: RFC 6962 trees (RFC 9162, 2.1.3.2
and 2.1.4.2), the C2SP tlog-checkpoint and, where Python has Ed25519, its signature."""
import base64
import hashlib


def leaf(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(leaves):
    """The definition: split at the largest power of two below n."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node(root_of(leaves[:k]), root_of(leaves[k:]))


def inclusion_holds(index, size, leaf_hash, hashes, root):
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf_hash
    for p in hashes:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def consistency_holds(first, second, hashes, first_root, second_root):
    if first == second:
        return not hashes and first_root == second_root
    path = list(hashes)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root


def parse_checkpoint(note):
    """(origin, size, root, signed text, signature lines)"""
    text, signatures = note.split("\n\n", 1)
    text += "\n"
    lines = text.split("\n")
    assert lines[1] == str(int(lines[1])), note
    root = base64.b64decode(lines[2], validate=True)
    assert len(root) == 32
    return lines[0], int(lines[1]), root, text, signatures.splitlines()


def parse_vkey(vkey):
    """(name, key id, Ed25519 public key); the id must be the key's."""
    name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key, validate=True)
    assert key[0] == 1 and len(key) == 33
    assert hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() == key_id
    return name, bytes.fromhex(key_id), key[1:]


def signature_of(note, vkey):
    """(signed text, signature, public key) of the line that this key made."""
    name, key_id, public = parse_vkey(vkey)
    origin, _, _, text, signatures = parse_checkpoint(note)
    assert origin == name
    for line in signatures:
        dash, who, value = line.split(" ")
        raw = base64.b64decode(value, validate=True)
        if dash == "\u2014" and who == name and raw[:4] == key_id:
            assert len(raw) == 68
            return text.encode(), raw[4:], public
    raise AssertionError("the checkpoint is not signed by the log's key")


def check_growth(daemon, before):
    """The log's head now; it must be an extension of the head `before` (a note, or None)."""
    now = daemon.get("/v1/audit/checkpoint").text
    _, size, root, _, _ = parse_checkpoint(now)
    if before is not None:
        _, old_size, old_root, _, _ = parse_checkpoint(before)
        assert size >= old_size, "the log lost entries"
        proof = daemon.ok("GET", f"/v1/audit/consistency?from={old_size}&to={size}")
        hashes = [base64.b64decode(h, validate=True) for h in proof["hashes"]]
        assert consistency_holds(old_size, size, hashes, old_root, root), "the log was rewritten"
    return now
