"""A session as people read it: its machine, its tables, the budgets.

Session -> show (terminal) | render (markdown for docs/results/performance.md)
"""

from rich.console import Console

from tests.benchmarks.budgets import budget_table
from tests.benchmarks.record import Session
from tests.benchmarks.tables import Table, as_markdown, as_rich, tables


def all_tables(session: Session) -> list[Table]:
    """Budgets first."""
    return [budget_table(session), *tables(session)]


def show(session: Session, console: Console) -> None:
    """Print everything."""
    console.print(conditions(session), highlight=False)
    for table in all_tables(session):
        console.print(as_rich(table))
    for error in errors(session):
        console.print(error, style="red", highlight=False)


def render(session: Session) -> str:
    """Markdown of everything."""
    parts = [conditions(session), *(as_markdown(table) for table in all_tables(session))]
    failed = errors(session)
    if failed:
        parts.append("Not measured:\n\n" + "\n".join(f"- {error}" for error in failed))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def conditions(session: Session) -> str:
    """One paragraph: when, on what, how busy it was."""
    machine, source = session.machine, session.source
    versions = ", ".join(
        f"{name} {machine[name]}"
        for name in ("python", "torch", "numpy", "pyzmq", "libzmq", "magent2")
        if machine.get(name)
    )
    dirty = " with changes" if source.get("dirty") else ""
    loads = " to ".join(str(load[0]) for load in (session.load_before, session.load_after) if load)
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    repeats = session.options.get("repeat", 1)
    return (
        f"{session.begun}, {machine['cores']} cores of {machine['cpu_model']}{gpu}, "
        f"{machine['memory_gb']} GB, Linux {machine['kernel']}, {versions}; commit "
        f"{source.get('commit')}{dirty}; load average {loads}; {repeats} repetition"
        f"{'s' if repeats != 1 else ''}, {session.wall_s / 60:.0f} minutes."
    )


def errors(session: Session) -> list[str]:
    """What could not be measured, and why."""
    return [
        f"{row.benchmark}, {row.kind}, {row.case}: {row.error.strip().splitlines()[-1]}"
        for row in session.rows
        if row.error
    ]
