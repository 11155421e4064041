"""MAST's table 1, tables 6 to 10 and figures, of the cells of the study `mast`.

cells of a task -> Markdown, TASK.csv, TASK-sizes.png, TASK-curves.png, TASK-seeds.png
"""

from learner.studies.analysis import Finished, FinishedCell
from learner.studies.mast_methods import METHODS, ablations
from learner.studies.mast_plot import draw_curves, draw_seeds, draw_sizes
from learner.studies.mast_table import markdown, rows_of, write_csv


def study(study: Finished) -> str:
    """A step of analysis (learner/studies/analysis.py)."""
    by_env: dict[str, list[FinishedCell]] = {}
    for cell in study.cells:
        by_env.setdefault(cell.env, []).append(cell)
    texts: list[str] = []
    for env, own in by_env.items():
        ablated = ablations(env)
        known = [*METHODS, *(method.name for method in ablated)]
        own.sort(key=lambda cell: (known.index(cell.arm.partition("@")[0]), cell.arm, cell.seed))
        rows = rows_of(own, env)
        write_csv(rows, study.folder / f"{env}.csv")
        draw_sizes(rows, env, study.folder / f"{env}-sizes.png")
        draw_curves(own, env, study.folder / f"{env}-curves.png")
        draw_seeds(own, env, study.folder / f"{env}-seeds.png")
        texts += ["", f"## MAST's tables on {env}", "", markdown(rows, ablated, env)]
    return "\n".join(texts)
