"""What came out: figures and sentences at the top, tables and charts of answers, changes, and what was kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from unisd.evaluation.compare import Comparison
from unisd.evaluation.statistics import Interval
from unisd.studies.report.blocks import (
    Block,
    Cell,
    Figure,
    Row,
    Section,
    Table,
    Text,
    Tone,
    number,
    points_cell,
    share_cell,
    shown,
)
from unisd.studies.report.charts import Bars, Scatter, Whiskers
from unisd.studies.report.folder import Answers, Exam, Folder
from unisd.studies.report.items import ROOM, browser, examples

_MOST_ANSWERS = 8
_MOST_FIGURES = 6
_PARTS = (("accuracy", "correct"), ("parsable", "readable"), ("accuracy_among_parsable", "correct among readable"))


def figures(folder: Folder) -> list[Figure]:
    """Return the large numbers: of an exam before and after, else of the training alone."""
    exam = folder.exam
    found: list[Figure] = [] if exam is None else _of_several(exam) if len(exam.compared) > 1 else _of_exam(exam)
    if folder.summary:
        found.append(Figure("Steps", number(_float(folder.summary.get("steps"))), _cost(folder)))
    return found


def _of_exam(exam: Exam) -> list[Figure]:
    first = exam.answers[0]
    if not exam.compared:
        part = first.measured["accuracy"]
        note = f"{100 * part['low']:.1f} to {100 * part['high']:.1f} % (95 %), of {first.evaluation.n:,}"
        return [Figure(f"Correct, {exam.title}", f"{part['value']:.1%}", note)]
    other, change = exam.shown
    found = [
        Figure(
            f"Correct, {first.name} → {other.name}", f"{_count(first)} → {_count(other)}", f"of {first.evaluation.n:,}"
        ),
        Figure("Change, points", *_with_interval(change.difference), _tone(change)),
        Figure("of which content", *_with_interval(change.content)),
        Figure("of which format", *_with_interval(change.format)),
    ]
    if (drift := drift_of(other)) is not None:
        found.append(Figure("Drift", number(drift), "KL(base ‖ model), nats a token of the base's own text"))
    return found


def _of_several(exam: Exam) -> list[Figure]:
    """Return a figure a model, what it gained beside what it lost of the base."""
    first = exam.answers[0]
    found = [Figure(f"Correct, {first.name}", _count(first), f"of {first.evaluation.n:,}")]
    for other, change in exam.compared[:_MOST_FIGURES]:
        parts = [f"{100 * change.difference.estimate:+.1f} points, content {100 * change.content.estimate:+.1f}"]
        if (drift := drift_of(other)) is not None:
            parts.append(f"drift {number(drift)} nats a token")
        tone = _tone(change)
        found.append(Figure(f"Correct, {other.name}", _count(other), ", ".join(parts), tone))
    return found


def _tone(change: Comparison) -> Tone:
    return "good" if change.difference.low > 0 else "bad" if change.difference.high < 0 else "plain"


def _with_interval(part: Any) -> tuple[str, str]:
    return f"{100 * part.estimate:+.1f}", f"95 %: {100 * part.low:+.1f} to {100 * part.high:+.1f}"


def _count(answers: Answers) -> str:
    return f"{answers.evaluation.correct:,}"


def _cost(folder: Folder) -> str:
    seconds, memory = (_float(folder.summary.get(name)) for name in ("seconds", "peak_memory_bytes"))
    parts = [] if seconds is None else [f"{seconds:,.0f} s"]
    parts += [] if memory is None else [f"peak memory {memory / 2**30:.2f} GiB"]
    return ", ".join(parts)


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def verdict(folder: Folder) -> list[Text]:
    """Return what came out, in sentences; a collapse first."""
    found: list[Text] = []
    exam = folder.exam
    collapses = [
        f"{exam.title}, {answers.name}: {answers.given.in_words()}"
        for exam in folder.exams
        for answers in exam.answers[1:] or exam.answers
        if answers.given.collapsed
    ]
    if collapses:
        found.append(
            Text(
                [*collapses, "Such answers know nothing of the question; read the content, not the change."], "warning"
            )
        )
    told = folder.found.get("verdict")
    if exam is not None and exam.compared and isinstance(told, list) and told:
        learned = _learned(exam.compared[0][1])
        lines = [str(line) for line in told if not str(line).startswith("Collapse:")]
        found.append(Text(lines, "good" if learned else "plain"))
    elif exam is not None and not exam.training:
        found += [_said(exam, other, change) for other, change in exam.compared[:_MOST_FIGURES]]
    said = folder.audit.get("verdict")
    if isinstance(said, list):
        found.append(Text([str(line) for line in said], "good" if folder.audit.get("teaches") else "warning"))
    acting = [m for m in folder.summary.get("mechanisms") or [] if isinstance(m, Mapping)]
    if inert := [str(m.get("mechanism")) for m in acting if not m.get("acts")]:
        found.append(Text([f"Switched on, and did not act: {', '.join(inert)}."], "warning"))
    if folder.config and not folder.exams:
        found.append(Text(["What was learned has not been measured yet. To ask questions before and after:"]))
        found.append(Text([f"unisd evaluate {folder.path} --base --retention"], "code"))
    return found + ([Text(folder.damaged, "warning")] if folder.damaged else [])


def _learned(change: Comparison) -> bool:
    return change.content.low > 0 and not change.collapse[1]


def _said(exam: Exam, other: Answers, change: Comparison) -> Text:
    """Return what a model changed: in sentences, or in a line where there are several models."""
    learned = _learned(change)
    lines = [line for line in change.verdict() if line != change.collapse_in_words]
    if len(exam.compared) > 1:
        content = "more than the form was learned" if learned else "no more than the form is shown"
        lines = [
            f"{other.name}, against {exam.answers[0].name}: {change.in_words()}; {change.split_in_words()}: {content}."
        ]
    return Text(lines, "good" if learned else "plain")


def answer_sections(folder: Folder, training: bool) -> list[Section | None]:
    """Return two sections an exam: who was right how often, what changed, which answers were given; and items to read.

    Args:
        folder: what was read.
        training: of exams on training questions, or of the others.
    """
    sections: list[Section | None] = []
    main = folder.exam
    for exam in sorted((e for e in folder.exams if e.training is training), key=lambda e: e is not main):
        blocks: list[Block] = [_answers_table(exam)]
        if compared := exam.compared:
            blocks.append(_changes_table(exam, compared))
        blocks += _charts(exam, compared)
        blocks += [t for t in (_kept_table(exam), _instructions_table(exam), _scores_table(exam)) if t is not None]
        title = "What the teacher had to teach" if training else "Results"
        sections.append(Section(exam.name, f"{title}: {exam.title}", blocks, _about(exam)))
        found = examples(exam)
        more: list[Block] = [found] if found and found.items else []
        title = f"Questions and answers: {exam.title}"
        sections.append(Section(f"{exam.name}-answers", title, [*more, browser(exam, ROOM // len(folder.exams))]))
    return sections


def _about(exam: Exam) -> str:
    asked = exam.answers[0].summary.get("asked")
    said = (
        {name: asked[name] for name in ("source", "split", "limit") if asked.get(name)}
        if isinstance(asked, dict)
        else {}
    )
    parts = [f"{len(exam.answers[0].evaluation.by_example()):,} questions", *(f"{k} {v}" for k, v in said.items())]
    return f"{', '.join(parts)}. Intervals are 95 %."


def _answers_table(exam: Exam) -> Table:
    rows: list[Row] = []
    for answers in exam.answers:
        summary = answers.measured
        found = answers.given
        one = f"{found.share:.0%} {found.most_frequent}" if found.most_frequent is not None else "none readable"
        most = Cell(shown(one, 80) + (" (collapse)" if found.collapsed else ""), found.share)
        length = Cell(f"{summary['mean_tokens']:.0f}", summary["mean_tokens"])
        rows.append([answers.name, *(share_cell(summary[part]) for part, _ in _PARTS), length, most])
    columns = ["model", *(label for _, label in _PARTS), "mean tokens", "most frequent answer"]
    return Table(f"{exam.name}-correct", "Correct answers", columns, rows)


def _changes_table(exam: Exam, compared: Sequence[tuple[Answers, Comparison]]) -> Table:
    rows: list[Row] = [
        [
            other.name, points_cell(c.difference), points_cell(c.content), points_cell(c.format),
            Cell(f"{c.gained:,}", c.gained), Cell(f"{c.lost:,}", c.lost),
            Cell("" if c.mcnemar_p is None else f"{c.mcnemar_p:.2g}", c.mcnemar_p),
        ]
        for other, c in compared
    ]  # fmt: skip
    constant = compared[0][1]
    answer = shown(" ".join(constant.constant.split())[:60])
    note = (
        "In points, item by item. Format is what more readable answers are worth if all of them were the best "
        f"constant answer ({answer!r}, {constant.constant_share:.1%} right); content is the rest."
    )
    columns = ["model", "change", "content", "format", "gained", "lost", "McNemar p"]
    return Table(f"{exam.name}-change", f"Change against {exam.answers[0].name}", columns, rows, note)


def _charts(exam: Exam, compared: Sequence[tuple[Answers, Comparison]]) -> list[Block]:
    first = exam.answers[0].evaluation
    shares = [(a.name, a.measured["accuracy"]) for a in exam.answers]
    bars = [(name, part["value"], part["low"], part["high"]) for name, part in shares]
    _, constant = first.constant()
    charts: list[Block] = [
        Whiskers(f"{exam.name}-shares", "Correct answers", bars, "% correct", [("best constant answer", constant)])
    ]
    if len(compared) == 1:
        c = compared[0][1]
        parts = (("change", c.difference), ("content", c.content), ("format", c.format))
        rows = [(name, part.estimate, part.low, part.high) for name, part in parts]
        title = f"The change, split ({compared[0][0].name})"
        charts.append(Whiskers(f"{exam.name}-split", title, rows, "points", [("no change", 0.0)]))
    elif compared:
        for name, title in (("difference", "Change"), ("content", "Content")):
            found = [(other.name, getattr(c, name)) for other, c in compared]
            rows = [(label, part.estimate, part.low, part.high) for label, part in found]
            charts.append(Whiskers(f"{exam.name}-{name}", title, rows, "points", [("no change", 0.0)]))
    if (frontier := _frontier(exam, compared)) is not None:
        charts.append(frontier)
    if (given := _distribution_chart(exam)) is not None:
        charts.append(given)
    return charts


def _distribution_chart(exam: Exam) -> Bars | None:
    """Return how often each answer was given, beside how often it is the key; None where hardly any stands twice."""
    chosen = [exam.answers[0], exam.shown[0]] if exam.training and exam.compared else exam.answers[:3]
    found = {answers.name: answers.given for answers in chosen}
    keys = next(iter(found.values()))
    if max([*keys.keys.values(), *(max(d.answers.values(), default=0) for d in found.values())]) < 2:
        return None
    order = dict.fromkeys([*keys.keys, *(answer for d in found.values() for answer in d.answers)])
    counts = {a: max(keys.keys.get(a, 0), *(d.answers.get(a, 0) for d in found.values())) for a in order}
    listed = sorted(sorted(order, key=lambda a: -counts[a])[:_MOST_ANSWERS])
    groups: dict[str, list[float]] = {"keys": [keys.key_share(answer) for answer in listed]}
    for name, d in found.items():
        total = max(d.readable + d.unreadable, 1)
        groups[name] = [d.answers.get(answer, 0) / total for answer in listed] + [d.unreadable / total]
    labels, groups["keys"] = [*listed, "not readable"], [*groups["keys"], 0.0]
    if len(order) > len(listed):
        labels = [*labels, f"{len(order) - len(listed):,} others"]
        groups = {name: [*values, max(1 - sum(values), 0.0)] for name, values in groups.items()}
    what = "Functions called" if keys.function else "Answers given"
    return Bars(f"{exam.name}-answers-given", f"{what}, beside the keys", labels, groups, "% of all answers")


def drift_of(answers: Answers) -> float | None:
    """Return KL(base ‖ model) on the base's own text in nats a token, where it was measured."""
    kept = answers.summary.get("retention")
    text = kept.get("on_base_text") if isinstance(kept, dict) else None
    return _float(text.get("kl_base_adapted")) if isinstance(text, dict) else None


def _frontier(exam: Exam, compared: Sequence[tuple[Answers, Comparison]]) -> Scatter | None:
    drifts = [(other, c.difference, drift_of(other)) for other, c in compared]
    points = {a.name: [(drift, d.estimate, d.low, d.high)] for a, d, drift in drifts if drift is not None}
    if len(points) < 2:
        return None
    about = "Up is better, left is better: much gained, little forgotten."
    x = "KL(base ‖ model) on the base's text, nats a token"
    return Scatter(f"{exam.name}-frontier", "Gain against drift", points, x, "change, points", about=about)


def _kept_table(exam: Exam) -> Table | None:
    rows: list[Row] = []
    for answers in exam.answers:
        kept = answers.summary.get("retention")
        try:
            own, base, shape = kept["on_adapted_text"], kept["on_base_text"], kept["drift"]  # type: ignore[index]
            values = (
                base["kl_base_adapted"], own["kl_adapted_base"], own["jsd"], kept["ppl_ret"],  # type: ignore[index]
                base["entropy_base"], own["entropy_adapted"],
                shape["base"]["mean_tokens"], shape["adapted"]["mean_tokens"],
            )  # fmt: skip
            rows.append([answers.name, *(Cell(number(_float(v)), _float(v)) for v in values)])
        except (KeyError, TypeError, IndexError):
            continue
    columns = ["model", "KL(base ‖ model)", "KL(model ‖ base)", "JSD", "PPL_ret"]
    columns += ["entropy, base", "entropy", "tokens, base", "tokens"]
    note = (
        "KL(base ‖ model) on the base's own text, the others on the model's; nats a token. PPL_ret: perplexity of the "
        "model's answers under the base. The smaller, the more of the base is left."
    )
    return Table(f"{exam.name}-kept", "What was kept of the base", columns, rows, note) if rows else None


def _instructions_table(exam: Exam) -> Table | None:
    """Return how many instructions are still followed; None where that was not measured."""
    rows: list[Row] = []
    for answers in exam.answers:
        kept = answers.summary.get("retention")
        try:
            said: Any = kept["instructions"]  # type: ignore[index]
            for name, part in {"all of a prompt's": said["all"], **said["kinds"]}.items():
                cells = [share_cell(part["base"]), share_cell(part["adapted"]), points_cell(Interval(**part["change"]))]
                cells += [Cell(f"{part[word]:,}", part[word]) for word in ("gained", "lost")]
                rows.append([answers.name, str(name), *cells])
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    columns = ["model", "constraints", "base", "model's", "change, points", "gained", "lost"]
    note = (
        "Instructions on everyday topics with constraints that code checks, such as exactly three sentences: of how "
        "many prompts all constraints are followed, and how many constraints of each kind."
    )
    return Table(f"{exam.name}-instructions", "Instructions followed", columns, rows, note) if rows else None


def _scores_table(exam: Exam) -> Table | None:
    """Return further measures: scores of the task, pass@k, perplexity of gold answers, calibration, by subject."""
    rows: list[Row] = []
    for answers in exam.answers:
        summary = answers.measured
        named = [
            *summary.get("scores", {}).items(),
            *((f"pass@{k}", v) for k, v in summary.get("pass_at_k", {}).items()),
        ]
        named += [(f"correct: {subject}", part) for subject, part in summary.get("subjects", {}).items()]
        rows += [[answers.name, str(name), share_cell(part)] for name, part in named]
        fit, calibration = (answers.summary.get(name) for name in ("ppl_fit", "calibration"))
        if isinstance(fit, dict) and (value := _float(fit.get("value"))) is not None:
            rows.append([answers.name, "perplexity of gold answers", Cell(number(value), value)])
        for name, label in (("ece", "calibration error (ECE)"), ("brier", "Brier score")):
            if isinstance(calibration, dict) and (value := _float(calibration.get(name))) is not None:
                rows.append([answers.name, label, Cell(number(value), value)])
    return Table(f"{exam.name}-more", "Further measures", ["model", "measure", "value"], rows) if rows else None
