"""Draw accuracy against the bytes of labels: one set of codes, its labels stored in several forms.

    python benchmarks/label_bytes.py DATASET ARTIFACT TEACHER OUT [PROTOCOL]

ARTIFACT was made from DATASET, TEACHER is the folder of a stored teacher. For each form, OUT holds the artifact with these
labels and its evaluation; `label-bytes.png` and `label-bytes.md` show all. The same command continues.
"""

import sys
from pathlib import Path

from latentdd_plugin import load_artifact
from latentdd_plugin.artifacts.artifact import labelled
from latentdd_plugin.artifacts.file import save_artifact
from latentdd_plugin.core.config import EvaluationConfig, LabelConfig
from latentdd_plugin.experiments.evaluate import evaluate_artifact
from latentdd_plugin.nn.teacher import load_teacher
from latentdd_plugin.results.evaluation import Evaluation
from latentdd_plugin.results.figures import COLOURS, INK, draw_frame, draw_interval, new_figure, png_of
from latentdd_plugin.results.grid import write_file

EVALUATOR = "convnet"
FORMS = {
    "class numbers": LabelConfig("hard"),
    "fp32": LabelConfig("soft", "fp32"),
    "fp16": LabelConfig("soft", "fp16"),
    "int8": LabelConfig("soft", "int8"),
    "int8, top 5": LabelConfig("soft", "int8", top_k=5),
    "int8, top 2": LabelConfig("soft", "int8", top_k=2),
    "10 views, fp16": LabelConfig("views", "fp16", views=10),
    "3 views, int8, top 5": LabelConfig("views", "int8", top_k=5, views=3),
}


def scored(name: str, dataset: str, source: Path, teacher: Path, out: Path, protocol: str) -> Evaluation:
    """Return the evaluation of the artifact with labels of this form."""
    form, artifact = FORMS[name], load_artifact(source)
    path = out / f"{name.replace(', ', '-').replace(' ', '-')}.safetensors"
    if form.taught:
        artifact = labelled(artifact, artifact.decode(), form, load_teacher(teacher), 0)
    save_artifact(artifact, path)
    regime = LabelConfig() if form.taught else form
    config = EvaluationConfig(dataset=dataset, evaluators=(EVALUATOR,), protocol=protocol, labels=regime)
    return evaluate_artifact(path, config, out=out / path.stem)


def draw(found: dict[str, Evaluation], path: Path) -> None:
    """Write the plot: bytes of labels per class and accuracy, with 95% intervals; class numbers are a line."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure, (axis,) = new_figure(1, 6.4, 4.2)
    for name, one in found.items():
        accuracy, size = one.summary[EVALUATOR], one.budget.bytes.labels / len(one.dataset.classes)
        if not size:
            axis.axhline(100 * accuracy.mean, color=INK, linestyle="--", linewidth=1)
            axis.annotate(name, (1, 100 * accuracy.mean), xycoords=("axes fraction", "data"), color=INK, fontsize=8,
                          ha="right", va="bottom")  # fmt: skip
            continue
        colour = COLOURS["views" in name]
        draw_interval(axis, size, accuracy.ci95 and [100 * end for end in accuracy.ci95], colour)
        axis.plot([size], [100 * accuracy.mean], "o", color=colour)
        axis.annotate(
            name, (size, 100 * accuracy.mean), xytext=(5, -12), textcoords="offset points", color=INK, fontsize=8
        )
    axis.set_xscale("log")
    axis.margins(x=0.2)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("bytes of labels per class", color=INK)
    axis.set_ylabel(f"accuracy of {EVALUATOR}, %", color=INK)
    draw_frame(axis)
    write_file(path, png_of(figure))


def main(dataset: str, source: str, teacher: str, out: str, protocol: str = "fast.v1") -> None:
    """Score every form, and print and draw them."""
    folder, found = Path(out), dict[str, Evaluation]()
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["| labels | bytes of labels | bytes in the file | accuracy |", "|---|---|---|---|"]
    for name in FORMS:
        one = found[name] = scored(name, dataset, Path(source), Path(teacher), folder, protocol)
        spent = one.budget.bytes
        rows.append(f"| {name} | {spent.labels:,} | {spent.file:,} | {one.summary[EVALUATOR]} |")
        print(rows[-1], flush=True)
        draw(found, folder / "label-bytes.png")
    write_file(folder / "label-bytes.md", ("\n".join(rows) + "\n").encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
