"""What is read of a journal that was cut off, torn or damaged anywhere."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from versioned_zarr.engine.sessions.journal import (
    JournalRecord,
    RecordKind,
    decode_records,
    encode_record,
)
from versioned_zarr.engine.sessions.reused_leaves import NO_LEAVES, ReusedLeaves
from versioned_zarr.errors import CorruptJournalError
from versioned_zarr.ipld.cid import hash_function

CID = hash_function("sha2-256").raw(b"value")
KEYS = st.text("ab/§J", min_size=1, max_size=8)  # what a record begins with is in '§J'
WHOLE = st.builds(
    JournalRecord,
    kind=st.sampled_from(RecordKind),
    key=KEYS,
    writer=st.integers(0, (1 << 32) - 1),
    seen=st.integers(0, 1 << 40),
    draft=st.integers(0, (1 << 32) - 1),
    offset=st.integers(0, 1 << 40),
    size=st.integers(0, 1 << 40),
    tsize=st.integers(0, 1 << 40),
    cid=st.just(CID),
    is_blind=st.booleans(),
    reused=st.just(NO_LEAVES),
)


@st.composite
def partly_reused(draw: st.DrawFn) -> JournalRecord:
    """The record of a value of which some leaves are not in the draft."""
    numbers = draw(st.sets(st.integers(0, 20), min_size=1, max_size=4))
    size = (max(numbers) << 20) + draw(st.integers(1, 3 << 20))
    rows = b"".join(struct.pack("<I36s", number, CID) for number in sorted(numbers))
    return draw(WHOLE)._replace(size=size, reused=ReusedLeaves(rows))


RECORDS = WHOLE | partly_reused()


def at(record: JournalRecord, position: int) -> JournalRecord:
    return record._replace(position=position)


@given(st.lists(RECORDS, max_size=5), st.integers(0, 1 << 40))
def test_what_was_written_is_read_where_it_stands(records: list[JournalRecord], start: int) -> None:
    data, expected = b"", []
    for record in records:
        expected.append(at(record, start + len(data)))
        data += encode_record(record)
    assert decode_records(data, start, "journal") == (expected, start + len(data))


@given(RECORDS, RECORDS, st.data())
def test_a_record_at_the_end_that_is_not_whole_is_not_read_yet(
    first: JournalRecord, last: JournalRecord, draw: st.DataObject
) -> None:
    whole, torn = encode_record(first), encode_record(last)
    cut = draw.draw(st.integers(1, len(torn) - 1))
    found = decode_records(whole + torn[:cut], 0, "journal")
    assert found == ([at(first, 0)], len(whole))


@given(RECORDS, RECORDS, RECORDS, st.data())
def test_the_beginning_of_a_record_before_a_whole_one_is_passed_over(
    first: JournalRecord, stopped: JournalRecord, last: JournalRecord, draw: st.DataObject
) -> None:
    before, torn, after = map(encode_record, (first, stopped, last))
    cut = draw.draw(st.integers(1, len(torn) - 1))
    data = before + torn[:cut] + after
    found = decode_records(data, 0, "journal")
    assert found == ([at(first, 0), at(last, len(before) + cut)], len(data))


@given(RECORDS, RECORDS, RECORDS, st.data())
def test_no_damaged_record_is_read_as_another(
    first: JournalRecord, damaged: JournalRecord, last: JournalRecord, draw: st.DataObject
) -> None:
    before, middle, after = map(encode_record, (first, damaged, last))
    where = draw.draw(st.integers(0, len(middle) - 1))
    wrong = bytearray(middle)
    wrong[where] ^= draw.draw(st.integers(1, 255))
    known = [at(first, 0), at(last, len(before) + len(middle))]
    sound = []
    with suppress(CorruptJournalError):
        sound, _ = decode_records(before + bytes(wrong) + after, 0, "journal")
    assert all(record in known for record in sound)


@given(RECORDS, RECORDS, st.integers(0, 7))
def test_a_damaged_checksum_stops_the_reading(
    first: JournalRecord, damaged: JournalRecord, bit: int
) -> None:
    before, wrong = encode_record(first), bytearray(encode_record(damaged))
    wrong[-1] ^= 1 << bit
    assume(b"\xa7" not in wrong[-3:])  # the beginning of another record
    with pytest.raises(CorruptJournalError) as caught:
        decode_records(before + bytes(wrong) + before, 0, "journal")
    assert caught.value.sound == len(before)
