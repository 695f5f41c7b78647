# SPDX-License-Identifier: Apache-2.0
"""The model of the disk (power_replay.py) by hand-made recordings: what a cut may leave, and what not."""
import power_replay as replay
from power_replay import CREATE, DIRECTORY, LINK, RENAME, RESIZE, SYNC, SYNCED, UNLINK, WRITE

ROOT = 1


def event(kind, inode=0, offset=0, path="", to="", data=b"", flags=0):
    return replay.Event(kind, inode, offset, path, to, data, flags)


def file(path, inode, data=b""):
    return [event(CREATE, inode, path=path)] + ([event(WRITE, inode, data=data)] if data else [])


def sync(inode, flags=0):
    return event(SYNC, inode, flags=flags)


def played(*events):
    disk = replay.Disk()
    for e in events:
        disk.play(e)
    return disk


def left(disk):
    """Every tree that the model says a cut may leave (few ops: every subset, and torn writes)."""
    dice, trees = replay.dice_for(1), []
    for _ in range(8):
        for _, kept in replay.choices(disk.pending(), dice):
            tree = disk.state(kept)[0]
            if tree not in trees:
                trees.append(tree)
    return trees


def test_nothing_is_sure_of_a_file_that_was_not_synced():
    trees = left(played(*file("f", 5, b"data")))
    assert sorted(map(str, trees)) == sorted(map(str, [{}, {"f": b""}, {"f": b"data"}]))


def test_a_synced_file_may_lose_its_name_and_a_synced_name_its_content():
    content = played(*file("f", 5, b"data"), sync(5))
    assert left(content) == [{}, {"f": b"data"}]
    name = played(*file("f", 5, b"data"), sync(ROOT, DIRECTORY))
    assert left(name) == [{"f": b""}, {"f": b"data"}]
    assert left(played(*file("f", 5, b"data"), sync(5), sync(ROOT, DIRECTORY))) == [{"f": b"data"}]


def test_writes_are_kept_in_any_combination_and_a_missing_one_before_the_end_reads_as_zeros():
    disk = played(*file("f", 5), sync(ROOT, DIRECTORY), event(WRITE, 5, 0, data=b"a"),
                  event(WRITE, 5, 1, data=b"b"), event(WRITE, 5, 2, data=b"c"))
    assert {t["f"] for t in left(disk)} == {b"", b"a", b"\0b", b"ab", b"\0\0c", b"a\0c", b"\0bc", b"abc"}


def test_a_later_write_is_never_undone_by_an_earlier_one():
    disk = played(*file("f", 5, b"old"), sync(5), sync(ROOT, DIRECTORY), event(WRITE, 5, data=b"mid"),
                  event(WRITE, 5, data=b"new", flags=SYNCED))
    assert left(disk) == [{"f": b"new"}]


def test_a_write_is_torn_at_sectors():
    old, new = b"o" * 1024, b"n" * 1024
    disk = played(*file("f", 5, old), sync(5), sync(ROOT, DIRECTORY), event(WRITE, 5, data=new))
    assert {t["f"] for t in left(disk)} == {old, new, b"n" * 512 + b"o" * 512, b"o" * 512 + b"n" * 512}


def test_a_rename_is_whole_or_not_at_all_until_the_directory_it_moved_into_is_synced():
    before = [event(CREATE, 6, path="d", flags=DIRECTORY), *file("f", 5, b"x"), sync(5),
              sync(ROOT, DIRECTORY), event(RENAME, path="f", to="d/g")]
    there, moved = {"d": None, "f": b"x"}, {"d": None, "d/g": b"x"}
    assert left(played(*before)) == [there, moved]
    assert left(played(*before, sync(ROOT, DIRECTORY))) == [there, moved]
    assert left(played(*before, sync(6, DIRECTORY))) == [moved]


def test_the_first_name_of_a_renamed_file_does_not_come_back():
    disk = played(event(CREATE, 6, path="d", flags=DIRECTORY), sync(ROOT, DIRECTORY), *file("f", 5, b"x"),
                  sync(5), event(RENAME, path="f", to="d/g"), sync(6, DIRECTORY))
    assert left(disk) == [{"d": None, "d/g": b"x"}]


def test_what_a_removed_or_cut_file_held_stays_in_freed_blocks_unless_zeros_were_synced_over_it():
    begin = [*file("f", 5, b"secret"), sync(5), sync(ROOT, DIRECTORY)]
    end = [event(UNLINK, path="f"), sync(ROOT, DIRECTORY)]
    zeros, cut = event(WRITE, 5, data=bytes(6)), event(RESIZE, 5, 0)

    def freed(*middle):
        disk = played(*begin, *middle, *end)
        return b"".join(disk.state({})[1])
    assert b"secret" in freed()
    assert b"secret" in freed(cut, sync(5))
    assert b"secret" in freed(zeros, cut)
    assert b"secret" not in freed(zeros, sync(5), cut)


def test_a_second_name_keeps_a_file():
    disk = played(*file("f", 5, b"x"), sync(5), event(LINK, path="f", to="g"), event(UNLINK, path="f"),
                  sync(ROOT, DIRECTORY))
    assert left(disk) == [{"g": b"x"}]


def test_syncs_that_are_taken_out_leave_the_rest():
    events = [*file("f", 5, b"x"), sync(5), event(WRITE, 5, 1, data=b"y", flags=SYNCED),
              sync(ROOT, DIRECTORY)]
    assert left(played(*events)) == [{"f": b"xy"}]
    careless = replay.without_syncs(events, lambda path: path == "f")
    assert {t["f"] for t in left(played(*careless))} == {b"", b"x", b"\0y", b"xy"}
