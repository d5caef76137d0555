"""Runs the cells of one submission in plain Python; `tests.tools.exercises grade` starts it for each submission.

No notebook kernel is involved. IPython's magics are syntax errors here, nothing can rewrite a cell before it runs,
and the kernel and the tags that a submission names mean nothing."""
import json
import linecache
import os
import sys
import warnings

TOOLS = ("builtins", "numpy", "pandas", "scipy", "llmrec")  # what the checks are made of


def execute(source, name, namespace):
    """Run one cell; return its error as one line, or "" if it ran to its end."""
    linecache.cache[name] = len(source), None, source.splitlines(True), name  # where inspect.getsource looks
    try:
        exec(compile(source, name, "exec"), namespace)
    except BaseException as error:  # a cell that leaves the program, too
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def restore(tools):
    """Give modules back what they held at first, `tools` being pairs of their names now and then."""
    for present, original in tools:
        present.update(original)


def run(cells, namespace):
    """Run `cells`, dicts of kind, task and source; yield (task, error) of each graded one, error "" where its checks hold.

    Before the checks of a task, the tools and all that the locked cells above define are made anew, whatever an answer
    has put in their place."""
    locked, above = [cell["source"] for cell in cells if cell["kind"] == "locked"], []
    with warnings.catch_warnings():
        for source in locked:
            execute(source, "<locked>", {"__name__": "__main__"})  # imports the tools before any answer runs
        modules = [module for name, module in sys.modules.items() if name.split(".")[0] in TOOLS]
        tools = [(vars(module), dict(vars(module))) for module in modules]
        for number, cell in enumerate(cells):
            if cell["kind"] == "locked":
                above.append(cell["source"])
            if cell["kind"] == "graded":
                restore(tools)
                for source in above:
                    execute(source, "<locked>", namespace)
            error = execute(cell["source"], f"<cell {number}>", namespace)
            if cell["kind"] == "graded":
                yield cell["task"], error
        restore(tools)


def keep_notebooks_shut(event, args):
    """Audit hook: no answer is read from another notebook, such as the teacher's."""
    named = event == "open" and isinstance(args[0], (str, bytes, os.PathLike))
    if named and os.path.realpath(os.fsdecode(args[0])).endswith(".ipynb"):
        raise PermissionError("no notebook can be opened while this one is graded")


def main():
    """Read a job from standard input, and write a line of JSON for each graded cell."""
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what answers print does not mix with the report
    job = json.load(sys.stdin)
    sys.addaudithook(keep_notebooks_shut)
    for task, error in run(job["cells"], {"__name__": "__main__"}):
        print("\n" + json.dumps([job["token"], task, error]), file=report, flush=True)


if __name__ == "__main__":
    main()
