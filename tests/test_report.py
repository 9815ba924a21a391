"""training.report: one page that needs nothing else, and what it says of damaged runs."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import needs_browser, shown
from hypothesis import given
from hypothesis import strategies as st

from training import report
from training.charts import Line, line_chart, ticks
from training.page import table

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf00000003000118d04d"
    "8d0000000049454e44ae426082"
)


def run_folder(folder: Path, lr: float = 0.1, steps: int = 5) -> Path:
    folder.mkdir(parents=True)
    record = {"command": "pretrain", "options": {"lr": lr, "note": "a < b"}, "environment": {"torch": "2"}}
    (folder / "run.json").write_text(json.dumps(record))
    lines = [{"step": n, "time": 1.0, "split": "train", "loss": 1 / n, "lr": lr} for n in range(1, steps + 1)]
    lines.append({"step": steps, "time": 1.0, "split": "validation", "loss": math.nan})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "metrics.json").write_text(json.dumps({"loss": 0.12345, "run": str(folder)}))
    (folder / "confusion.png").write_bytes(PIXEL)
    return folder


class Checked(HTMLParser):
    """Raises unless every element is closed, and collects what would be fetched."""

    VOID = ("meta", "link", "img", "path", "circle", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_of_two_runs(tmp_path: Path, capsys) -> None:
    runs = [run_folder(tmp_path / "a"), run_folder(tmp_path / "b", lr=0.2)]
    report.main([*map(str, runs), "--out", str(tmp_path / "r.html")])
    text = (tmp_path / "r.html").read_text()
    page = Checked()
    page.feed(text)
    assert not page.open and all(link.startswith("data:") for link in page.fetched) and "<script" not in text
    assert text.count("data:image/png") == 2 and "0.12345" in text
    assert "a &lt; b" in text or "note" not in text  # what does not differ is not listed
    differs = text.split("What differs")[1].split("</section>")[0]
    assert ">lr<" in differs and ">note<" not in differs
    assert json.loads(capsys.readouterr().out)["runs"] == [str(run) for run in runs]


def test_seeds_are_shown_one_by_one(tmp_path: Path) -> None:
    for seed in (10, 2):
        run_folder(tmp_path / "runs" / f"seed-{seed}")
    (tmp_path / "runs" / "metrics.json").write_text('{"loss": 0.5}')
    found = report.read_runs(tmp_path / "runs")
    assert [Path(run.name).name for run in found] == ["runs", "seed-2", "seed-10"]
    text = "".join(report.sections_of(found))
    assert "seed-10" in text and "0.5" in text


def test_a_cut_last_line_is_left_out_and_damage_is_not(tmp_path: Path, capsys) -> None:
    run = run_folder(tmp_path / "a")
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "sp')
    assert len(report.read_run(run).log) == 6
    with (run / "log.jsonl").open("a") as file:
        file.write("\n{}\n")
    (tmp_path / "empty").mkdir()
    for path, message in ((run, "line 7: is not JSON"), (tmp_path / "empty", "has no run.json")):
        with pytest.raises(SystemExit) as stop:
            report.main([str(path), "--out", str(tmp_path / "no.html")])
        assert stop.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "no.html").exists()


@pytest.mark.parametrize(
    "file, content",
    [
        *(("log.jsonl", line) for line in ("{}", "5", '{"step": 1, "split": "train", "loss": null}')),
        ("log.jsonl", '{"step": 1, "split": "train", "loss": "low"}'),
        ("log.jsonl", "\xff\n{}"),
        *(("run.json", content) for content in ("[]", "{")),
        ("metrics.json", "[1]"),
    ],
)
def test_damaged_files_are_named(file: str, content: str, tmp_path: Path, capsys) -> None:
    run = run_folder(tmp_path / "a")
    (run / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(SystemExit) as stop:
        report.main([str(run), "--out", str(tmp_path / "no.html")])
    assert stop.value.code == 2 and str(run / file) in capsys.readouterr().err


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_within(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert len(found) <= 11
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_a_chart_spans_its_points() -> None:
    svg = line_chart("a < b", [Line("x", [0, 10, 20], [1.0, math.inf, 3.0], 0), Line("y", [5], [math.nan], 1)])
    assert "a &lt; b" in svg
    line = re.search(r'class="line c0" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', svg)
    assert line is not None and [float(x) for x in line.groups()] == [56.0, 216.0, 448.0, 28.0]
    assert line_chart("nothing", [Line("x", [1], [math.nan], 0)]) == ""


def test_cells_are_escaped() -> None:
    assert "<td>&lt;b&gt;</td>" in table(["x"], [["<b>", 0.123456, 1234, None, True]])
    assert "0.12346" in table(["x"], [[0.123456]])


@needs_browser
def test_a_browser_shows_it(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "a")
    report.main([str(run), "--out", str(tmp_path / "r.html")])
    dom = shown(tmp_path / "r.html", tmp_path)
    assert "0.12345" in dom and dom.count("<svg") >= 2
