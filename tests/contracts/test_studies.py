"""Every study keeps the same contract."""

from __future__ import annotations

import dataclasses
import json

import pytest

from lga_fast import registry
from lga_fast.errors import LgaFastError
from lga_fast.studies import Experiment, study
from tests.studies.conftest import setting  # noqa: F401 - a fixture
from tests.studies.facts import REQUESTS

NAMES = registry.names("lga_fast.studies")
FEW = {"draws": 5, "proxy_draws": 2, "repeats": 1, "batched": 1, "alone": 1, "facts": 1}


def kind(name):
    return registry.member("lga_fast.studies", name).Study


@pytest.mark.parametrize("name", NAMES)
def test_options_have_a_text_and_a_default_and_are_checked(name):
    assert issubclass(kind(name), Experiment) and kind(name)().name == name
    assert {"jinja2", "matplotlib"} <= set(kind(name).packages)
    for field in dataclasses.fields(kind(name)):
        assert field.default is not dataclasses.MISSING, field.name
        assert field.metadata["help"].endswith("."), field.name
        with pytest.raises(LgaFastError):
            kind(name)(**{field.name: object()})


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_written_and_has_what_repeats_it(name, setting):  # noqa: F811
    facts = [
        dataclasses.replace(REQUESTS[i % 3], case_id=f"{relation}:{i}")
        for i, relation in enumerate(["club_city", "city_country"] * 3)
    ]
    asked = setting(facts, proxy=1, test=2)
    options = {f.name: FEW[f.name] for f in dataclasses.fields(kind(name)) if f.name in FEW}
    report = study(name, asked, **options)
    assert report.study == name and report.title.endswith("?") and report.text and report.tables
    written = json.loads((asked.out / f"{name}.json").read_text())
    assert written["study"] == name and written["made"]["setting"]["proxy"] == 1
    assert {key: written["made"][key] for key in options} == options
    for suffix in ("md", "html"):
        assert report.title in (asked.out / f"{name}.{suffix}").read_text()
    pictures = {file.name for file in asked.out.glob(f"{name}-*.png")}
    assert pictures == {f"{name}-{picture.name}.png" for picture in report.pictures} != set()
    for i, table in enumerate(report.tables, 1):
        for suffix, text in (("csv", table.csv()), ("tex", table.latex())):
            assert (asked.out / f"{name}-table{i}.{suffix}").read_text() == text
    assert all(file.with_suffix(".pdf").exists() for file in asked.out.glob(f"{name}-*.svg"))
    if "repeats" not in options:  # seconds differ
        study(name, asked, **options)  # the sweeps are read again
        assert json.loads((asked.out / f"{name}.json").read_text()) == written
