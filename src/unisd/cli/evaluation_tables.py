"""The tables of ``unisd evaluate``."""

from typing import Any

from unisd.cli.tables import show, table
from unisd.evaluation.answers import in_words


def show_report(report: Any) -> None:
    """Print all results, what else was measured, and the comparisons."""
    _show_results(report)
    _show_subjects(report)
    _show_measures(report)
    _show_instructions(report)
    rows = [
        (model, label, found.against, found.in_words())
        for model, by_task in report.comparisons.items()
        for label, found in by_task.items()
    ]
    if rows:
        columns = ("model", "task", "against", "change of accuracy; questions gained and lost")
        show(table("Compared item by item, 95 % intervals", columns, rows, columns[-1:]))
    for model, lost in report.forgetting.items():
        print(
            f"{model}: {100 * lost['change']:+.1f} points on average over tasks not trained on "
            f"({', '.join(lost['tasks'])}; worst {lost['worst']})"
        )

    _show_split(report)
    for note in report.notes:
        print(note)


def _show_split(report: Any) -> None:
    """Print what of each change is format and what content, and whose answers are nearly all the same one."""
    for model, by_task in report.comparisons.items():
        for label, found in by_task.items():
            if found.difference.estimate or found.readable[0] != found.readable[1]:
                print(f"{model}, {label}: of the change {found.split_in_words()}")
    for result in report.results:
        if (said := result.evaluation.distribution()).collapsed:
            print(f"{result.model}, {result.exam.label}: {said.in_words()}")


def _show_results(report: Any) -> None:
    rows = []
    for result in report.results:
        s = result.evaluation.summary()
        more = [f"{name} {value['value']:.1%}" for name, value in s.get("scores", {}).items()]
        more += [f"pass@{k} {value['value']:.1%}" for k, value in s.get("pass_at_k", {}).items()]
        if s.get("too_long"):
            more.append(f"{s['too_long']} too long")
        cells = (in_words(s["accuracy"]), in_words(s["parsable"]), f"{s['mean_tokens']:.0f}", ", ".join(more))
        rows.append((result.model, _named(result.exam.label, s["metric"]), *cells))
    columns = ("model", "task", "correct", "parsable", "tokens", "also")
    show(table("Evaluation, 95 % intervals", columns, rows, ["also"]))


def _show_subjects(report: Any) -> None:
    for result in report.results:
        if subjects := result.evaluation.summary().get("subjects"):
            rows = [(name, in_words(part)) for name, part in subjects.items()]
            show(table(f"{result.exam.label}, {result.model}, by subject", ("subject", "correct"), rows))


def _show_measures(report: Any) -> None:
    rows = []
    for result in report.results:
        named = (result.model, result.exam.label)
        if fit := result.measures.get("ppl_fit"):
            rows.append((*named, "perplexity of gold answers", f"{_figure(fit['value'])} ({fit['of']} items)"))
        if c := result.measures.get("calibration"):
            text = f"ECE {c['ece']:.3f}, Brier {c['brier']:.3f}, "
            text += f"confidence {c['confidence']:.1%}, right {c['accuracy']:.1%}"
            rows.append((*named, "calibration of the immediate answer", text))
        if (kept := result.measures.get("retention")) and "drift" in kept:
            own, base, drift = kept["on_adapted_text"], kept["on_base_text"], kept["drift"]
            rows.append((*named, "PPL_ret (the base reads its answers)", _figure(kept["ppl_ret"])))
            rows.append(
                (*named, "JSD to the base, nats a token", f"{own['jsd']:.4f} own text, {base['jsd']:.4f} base's")
            )
            kl = f"{own['kl_adapted_base']:.4f} own text, {base['kl_adapted_base']:.4f} base's"
            rows.append((*named, "KL(adapted ‖ base), nats a token", kl))
            entropy = f"{base['entropy_base']:.2f} → {own['entropy_adapted']:.2f} nats"
            length = f"{drift['base']['mean_tokens']:.0f} → {drift['adapted']['mean_tokens']:.0f} tokens"
            distinct = f"distinct-2 {drift['base']['distinct_2']:.3f} → {drift['adapted']['distinct_2']:.3f}"
            rows.append((*named, "drift from the base", f"entropy {entropy}, {length}, {distinct}"))
    if rows:
        show(table("Likelihood and retention", ("model", "task", "measure", "value"), rows, ["value"]))


def _show_instructions(report: Any) -> None:
    """Print a table a model: what became of following instructions, which does not depend on the task."""
    found = {result.model: (result.measures.get("retention") or {}).get("instructions") for result in report.results}
    for model, said in found.items():
        if said:
            parts = {"all of a prompt's": said["all"], **said["kinds"]}
            rows = [(name, _of(part["base"]), _of(part["adapted"]), _changed(part)) for name, part in parts.items()]
            title = f"{model}: instructions followed, of {said['prompts']} prompts; change with 95 % intervals"
            columns = ("constraints", "base", "adapted", "change in points; gained and lost")
            show(table(title, columns, rows, columns[-1:]))


def _of(part: dict[str, Any]) -> str:
    return f"{part['count']} of {part['of']}"


def _changed(part: dict[str, Any]) -> str:
    value, low, high = (100 * part["change"][name] for name in ("estimate", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}], +{part['gained']} −{part['lost']}"


def _named(label: str, metric: str) -> str:
    return label if metric == "accuracy" else f"{label} ({metric})"


def _figure(value: float | None) -> str:
    return "beyond any number" if value is None else f"{value:.2f}"
