# SPDX-License-Identifier: Apache-2.0
"""What a disk may hold after a power cut, from a recording of tests/preload/power.c.

The model, as hostile as POSIX allows and a little kinder where every file system is:

- Content. A write or a change of size is *pending* until an fsync or fdatasync of its file that began
  after it. At the cut each pending one is there or not, independently of all others; those that are
  there take effect in the order of the calls (a later write over an earlier one is not undone by it).
  A write may be torn at sectors of 512 bytes, any of which may be there; a sector itself is whole. Where
  a write went past the end of the file and a sector of it is missing, zeros are read. A write through an
  O_DSYNC descriptor is durable when it returns, and makes nothing else so.
- Names. A creation, removal or link is pending until an fsync of its directory; a rename, which is atomic,
  until an fsync of the directory that it moved into. Each pending one is there or not, independently,
  and in the order of the calls. An fsync of a file says nothing of its name.
- A file without a name is gone, but its blocks are not: what was on the disk of it, or of the cut end
  of a file that shrank, stays readable for whoever holds the disk (`freed`), until the end of time.
- A file that is written through a map (LMDB's lock file, which holds no data) holds garbage.
- sync_file_range promises nothing.

What no state shows: a sector half written, a disk that loses what it said was synced, and blocks that a
file system copies on write."""
import collections
import hashlib
import itertools
import random
import struct

SECTOR = 512
CREATE, WRITE, RESIZE, RENAME, UNLINK, LINK, SYNC, MAP, MARK = range(1, 10)
DIRECTORY, SYNCED = 1, 2
HEADER = struct.Struct("<IIQQIIII")
MAGIC = 0x52575055

Event = collections.namedtuple("Event", "kind inode offset path to data flags")


def read_log(path):
    """The events of a log, in order."""
    raw, at, events = path.read_bytes(), 0, []
    while at < len(raw):
        magic, kind, inode, offset, n_path, n_to, n_data, flags = HEADER.unpack_from(raw, at)
        assert magic == MAGIC, f"the log is damaged at {at}"
        at += HEADER.size
        parts = []
        for n in (n_path, n_to, n_data):
            parts.append(raw[at:at + n])
            at += n
        assert at <= len(raw), "the log is cut short"
        events.append(Event(kind, inode, offset, parts[0].decode(), parts[1].decode(), parts[2], flags))
    return events


def mark_bytes(data):
    """A line that the test itself puts into the log: what a client knows by now."""
    return HEADER.pack(MAGIC, MARK, 0, 0, 0, 0, len(data), 0) + data


class Op:
    """One change that the disk may keep or lose. Equal only to itself."""

    def __init__(self, kind, **fields):
        self.kind, self.durable = kind, False
        self.__dict__.update(fields)

    def sectors(self):
        """How many pieces a write falls into."""
        if self.kind != WRITE:
            return 1
        return (self.offset + len(self.data) - 1) // SECTOR - self.offset // SECTOR + 1


class File:
    directory = False

    def __init__(self):
        self.base = bytearray()  # durable
        self.ops = []            # since then, in order; those with .durable cannot be lost
        self.mapped = False
        self.digests = {}

    def content(self, kept, freed):
        """The bytes if the ops in `kept` are there: op -> True, or the set of its sectors."""
        out = bytearray(self.base)
        if self.mapped:
            return b"\xa5" * max([op.size for op in self.ops if op.kind == RESIZE] or [len(out)])
        for op in self.ops:
            keep = True if op.durable else kept.get(op, False)
            if keep is not False:
                apply(out, op, keep, freed)
        return bytes(out)

    def digest(self, kept):
        key = tuple((op, keep if keep is True else frozenset(keep)) for op, keep in
                    ((op, True if op.durable else kept.get(op, False)) for op in self.ops)
                    if keep is not False)
        if key not in self.digests:
            self.digests[key] = hashlib.blake2b(self.content(kept, []), digest_size=16).digest()
        return self.digests[key]

    def sync(self, freed):
        for op in self.ops:
            apply(self.base, op, True, freed)
        self.ops, self.digests = [], {}


def apply(out, op, keep, freed):
    if op.kind == RESIZE:
        if any(out[op.size:]):
            freed.append(bytes(out[op.size:]))
        del out[op.size:]
        out.extend(bytes(op.size - len(out)))
        return
    end = op.offset + len(op.data)
    if keep is True:
        out.extend(bytes(max(0, end - len(out))))
        out[op.offset:end] = op.data
        return
    first = op.offset // SECTOR
    if "whole size" in keep:
        out.extend(bytes(max(0, end - len(out))))
    for i in range(op.sectors()):
        if i in keep:
            a, b = max(op.offset, (first + i) * SECTOR), min(end, (first + i + 1) * SECTOR)
            out.extend(bytes(max(0, b - len(out))))
            out[a:b] = op.data[a - op.offset:b - op.offset]


class Directory:
    directory = True

    def __init__(self):
        self.entries = {}  # durable: name -> File or Directory
        self.ops = []      # since then, in order; those with .durable cannot be lost

    def names(self, kept):
        """The entries if the ops in `kept` are there."""
        out = dict(self.entries)
        for op in self.ops:
            if op.durable or kept.get(op, False):
                op.change(self, out)
        return out


class Disk:
    """The files as a sequence of events leaves them: durable, and pending."""

    def __init__(self, tree=None, inodes=None):
        """Empty, or holding a tree durably: {path: bytes, or None}, {path: inode}."""
        self.root = Directory()
        self.by_inode, self.now = {}, {"": self.root}  # now: what the running program sees
        self.files, self.freed = [], []
        for path in sorted(tree or {}):
            self.create(Event(CREATE, inodes[path], 0, path, "", b"",
                              DIRECTORY if tree[path] is None else 0))
            self.now[path].base = bytearray(tree[path] or b"")
        for node in list(self.now.values()):
            self.sync_node(node)

    # --- events ---
    def play(self, event):
        if event.kind != MARK:
            (self.create, self.write, self.resize, self.rename, self.unlink, self.link, self.sync,
             self.map)[event.kind - 1](event)

    def parent(self, path):
        folder, _, name = path.rpartition("/")
        return self.now[folder], name

    def create(self, e):
        node = Directory() if e.flags & DIRECTORY else File()
        if not node.directory:
            self.files.append(node)
        self.by_inode[e.inode] = self.now[e.path] = node
        self.enter(e.path, node)

    def enter(self, path, node):
        folder, name = self.parent(path)

        def change(where, entries):
            entries[name] = node
        folder.ops.append(Op(CREATE, change=change, targets=[node]))

    def link(self, e):
        self.now[e.to] = self.now[e.path]
        self.enter(e.to, self.now[e.to])

    def unlink(self, e):
        folder, name = self.parent(e.path)
        node = self.now.pop(e.path)

        def change(where, entries):
            if entries.get(name) is node:
                del entries[name]
        folder.ops.append(Op(UNLINK, change=change, targets=[]))

    def rename(self, e):
        source, old = self.parent(e.path)
        target, new = self.parent(e.to)
        node = self.now.pop(e.path)
        self.now[e.to] = node

        def change(where, entries):
            if where is source and entries.get(old) is node:
                del entries[old]
            if where is target:
                entries[new] = node
        op = Op(RENAME, change=change, targets=[node], target=target, folders={source, target})
        for folder in op.folders:
            folder.ops.append(op)

    def write(self, e):
        node = self.by_inode[e.inode]
        assert not node.mapped or not e.data, "a file is written through a map and by calls"
        op = Op(WRITE, offset=e.offset, data=e.data)
        op.durable = bool(e.flags & SYNCED)
        node.ops.append(op)

    def resize(self, e):
        self.by_inode[e.inode].ops.append(Op(RESIZE, size=e.offset))

    def map(self, e):
        self.by_inode[e.inode].mapped = True

    def sync(self, e):
        self.sync_node(self.by_inode.get(e.inode, self.root if e.flags & DIRECTORY else None))

    def sync_node(self, node):
        if not node.directory:
            node.sync(self.freed)
            return
        left = []
        for op in node.ops:
            if op.kind == RENAME and op.target is not node and not op.durable:
                left.append(op)
                continue
            op.change(node, node.entries)
            op.durable = True  # a rename: also in the folder that it moved out of
        node.ops = left

    # --- crash states ---
    def reachable(self):
        """Every node that some crash state can show."""
        seen, unvisited = {}, [self.root]
        while unvisited:
            node = unvisited.pop()
            if node in seen:
                continue
            seen[node] = True
            if node.directory:
                unvisited += node.entries.values()
                unvisited += [t for op in node.ops for t in op.targets]
        return seen

    def pending(self):
        """The ops that a power cut decides over, in no order that matters."""
        ops = {}
        for node in self.reachable():
            if node.directory or not node.mapped:
                ops.update((op, True) for op in node.ops if not op.durable)
        return list(ops)

    def shown(self, kept, folder=None, prefix=""):
        """(path, node) of all that has a name if the ops in `kept` are there."""
        for name, node in (folder or self.root).names(kept).items():
            yield prefix + name, node
            if node.directory:
                yield from self.shown(kept, node, prefix + name + "/")

    def state(self, kept):
        """The tree {path: bytes, or None for a directory} and the bytes left in freed blocks."""
        tree, freed, shown = {}, list(self.freed), set()
        for path, node in self.shown(kept):
            shown.add(node)
            tree[path] = None if node.directory else node.content(kept, freed)
        for node in self.files:
            if node not in shown:
                freed.append(bytes(node.base))
                freed += [op.data for op in node.ops if op.kind == WRITE]
        return tree, freed

    def fingerprint(self, kept):
        """Equal for equal trees, without a look at every byte each time."""
        h = hashlib.blake2b(digest_size=16)
        for path, node in sorted(self.shown(kept), key=lambda entry: entry[0]):
            h.update(path.encode() + b"\0" + (b"/" if node.directory else node.digest(kept)))
        return h.digest()

    def everything(self):
        """What the running program sees: no power was cut."""
        return self.state({op: True for op in self.pending()})[0]


def without_syncs(events, ignored):
    """The events of a program that does not sync the files and directories whose path is `ignored`."""
    disk, out, path_of = Disk(), [], {}
    for e in events:
        disk.play(e)
        if e.kind in (CREATE, RENAME, LINK):
            path = e.to or e.path
            path_of[disk.now[path]] = path
        if e.kind in (SYNC, WRITE) and ignored(path_of.get(disk.by_inode.get(e.inode), "")):
            if e.kind == SYNC:
                continue
            e = e._replace(flags=0)
        out.append(e)
    return out


WHOLE = 6    # pending ops of which every subset is tried
SINGLE = 32  # pending ops of which each is tried alone; a daemon that syncs has fewer


def choices(ops, dice, randoms=3):
    """Which pending ops a cut keeps: (why, kept)."""
    n = len(ops)
    singles = ops if n <= SINGLE else dice.sample(ops, SINGLE)
    yield "none", {}
    yield "all", {op: True for op in ops}
    if n <= WHOLE:
        for bits in itertools.product((False, True), repeat=n):
            yield "subset", {op: True for op, bit in zip(ops, bits) if bit}
    else:
        for one in singles:
            yield "one lost", {op: True for op in ops if op is not one}
            yield "one kept", {one: True}
    for op in singles:
        k = op.sectors()
        if k > 1:
            others = {o: True for o in ops if o is not op}
            cut = dice.randrange(1, k)
            yield "torn", {**others, op: set(range(cut))}
            yield "torn", {**others, op: {*range(cut, k), "whole size"}}
            yield "torn", {op: {i for i in range(k) if dice.random() < 0.5} | {"whole size"}}
            yield "torn", {**others, op: {"whole size"}}
    for _ in range(randoms if n > 1 else 0):
        kept = {}
        for op in ops:
            if dice.random() < 0.5:
                k = op.sectors()
                tear = k > 1 and dice.random() < 0.5
                kept[op] = {i for i in range(k) if dice.random() < 0.5} if tear else True
        yield "random", kept


def write_tree(tree, folder):
    """Makes `folder` hold just this."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(tree):  # a directory before what is in it
        if tree[path] is None:
            (folder / path).mkdir(mode=0o700)
        else:
            (folder / path).write_bytes(tree[path])


def dice_for(seed, *what):
    return random.Random(" ".join(map(str, (seed, *what))))
