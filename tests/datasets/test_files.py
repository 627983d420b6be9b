"""Files that are not there, not whole, not JSON or not UTF-8; what the errors say."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from lga_fast.datasets import load_edits, write_jsonl
from lga_fast.datasets._fields import CaseIds
from lga_fast.errors import DataError


def refused(name, path):
    with pytest.raises(DataError) as caught:
        load_edits(name, path)
    return str(caught.value)


def test_truncated_json_names_line_and_column(put, make):
    text = json.dumps([make.counterfact()], indent=1)
    cut = text[: text.index("Peru") + 2]
    message = refused("counterfact", put(cut))
    assert "facts.json: line 5 column 17: not JSON: Unterminated string" in message
    assert "partial download" in message


def test_truncated_between_records(put, make):
    message = refused("counterfact", put(json.dumps([make.counterfact()])[:-1] + ","))
    assert "line 1 column" in message and "partial download" in message


def test_truncated_json_lines_name_the_line_of_the_file(put, make):
    good = json.dumps(make.mmlu())
    path = put(f'{good}\n\n{good}\n{{"question": "Which is', "m.jsonl")
    assert "m.jsonl: line 4 column 14: not JSON: Unterminated string" in refused("mmlu", path)


def test_a_list_per_line_is_hinted_at(put):
    assert "name the file .jsonl" in refused("jsonl", put("[1]\n[2]\n"))


@pytest.mark.parametrize("text", ["", " \n\t\n", b"\xef\xbb\xbf"])
def test_empty_file(put, text):
    assert "the file is empty; expected a JSON list" in refused("zsre", put(text))


def test_empty_list(put):
    assert "the list has no records" in refused("zsre", put([]))


def test_one_object_instead_of_a_list(put, make):
    message = refused("zsre", put(json.dumps({"data": [make.knowedit()]}, indent=1)))
    assert "expected a list of records, got an object with fields 'data'" in message


def test_record_that_is_no_object(put, make):
    assert "record 0: expected an object with named fields, got 3 (int)" in refused(
        "zsre", put([3])
    )
    message = refused("zsre", put([make.knowedit(), ["x"]]))
    assert "record 1: expected an object with named fields, got ['x'] (list)" in message


def test_missing_file_suggests_a_near_name(put, make):
    path = put([make.knowedit()], "ZsRE-test-all.json")
    message = refused("zsre", path.with_name("ZsRE-test.json"))
    assert "there is no such file. Did you mean ZsRE-test-all.json?" in message
    assert "there is no folder" in refused("zsre", path.parent / "none" / "x.json")


def test_folder_lists_its_files(put, make):
    path = put([make.knowedit()], "a.json")
    assert "expected a file, got a folder. Give one of its files: a.json." in refused(
        "zsre", path.parent
    )
    (path.parent / "bare").mkdir()
    assert "Give a .json or .jsonl file." in refused("zsre", path.parent / "bare")


def test_not_utf8_names_the_byte(put):
    message = refused("zsre", put('[{"subject": "Orléans"}]'.encode("latin-1")))
    assert "expected UTF-8 text, but byte 17 is 0xe9. Save the file as UTF-8." in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("<!DOCTYPE html>\n<html></html>", "web page"),
        ("case_id,prompt\n", "the text begins 'case_id,prompt\\n'"),
    ],
)
def test_other_things_than_json(put, text, says):
    assert says in refused("zsre", put(text))


def test_field_that_is_there_twice(put):
    message = refused("jsonl", put('[{"prompt": "a", "target_new": "b", "prompt": "c"}]'))
    assert "field 'prompt' appears twice in the object that begins 'prompt': 'a'" in message


def test_nested_too_deeply(put):
    assert "not JSON that can be read" in refused("jsonl", put("[" * 100_000))


def test_half_a_surrogate_pair(put):
    text = '[{"prompt": "Lake \\ud83d is", "target_new": "x"}]'
    message = refused("jsonl", put(text))
    assert "record 0, field 'prompt': expected text that UTF-8 can hold" in message
    assert "surrogate pair" in message


def test_byte_order_mark_and_non_ascii(put, make):
    record = make.counterfact(subject="Ōrta 湖", prompt="Ōrta 湖 is in", target_new="Perú 🏔")
    data = b"\xef\xbb\xbf" + json.dumps([record], ensure_ascii=False).encode()
    path = put(data)
    (edit,) = edits = load_edits("counterfact", path)
    assert (edit.subject, edit.subject_span, edit.target_new) == ("Ōrta 湖", (0, 6), "Perú 🏔")
    assert edits.provenance.sha256 == hashlib.sha256(data).hexdigest()
    assert edits.provenance.file == "facts.json"


def test_line_separators_inside_json_lines(put, make):
    # str.splitlines would cut the record at each of these
    question = "one\u2028two\u0085three\x1cfour"
    text = question.replace("\x1c", "\\u001c")
    lines = f'{{"prompt": "{text}", "target_new": "x"}}\r\n'
    (edit,) = load_edits("jsonl", put(lines, "x.jsonl"))
    assert edit.prompt == question


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, put, make):
    path = put("old", "mine.jsonl")
    edits = load_edits("counterfact", put([make.counterfact()]))

    def stop(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("lga_fast.files.os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_jsonl(edits, path)
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["facts.json", "mine.jsonl"]


def test_many_records_of_one_id_are_numbered_in_linear_time():
    ids, count = CaseIds(), 200_000
    began = time.process_time()
    given = [ids.take("x", i) for i in range(count)]
    assert time.process_time() - began < 5  # hours, if each looked at all before it
    assert given[:3] == ["x", "x#2", "x#3"] and len(set(given)) == count
    assert [ids.take("y#2", 0), ids.take("y", 1), ids.take("y", 2)] == ["y#2", "y", "y#3"]
