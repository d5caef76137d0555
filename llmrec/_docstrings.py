"""An nbdev export processor: docstrings name the parameters, fields and results that have a comment. Written by hand, unlike the rest of the library."""
import ast
import io
import tokenize

INDENT = "    "


def comments(source):
    """{line number: the comment on it, without its sign}."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def entry(name, annotation, default, comment):
    """A parameter as numpydoc writes it."""
    kind = [ast.unparse(annotation)] if annotation else []
    kind += [f"default {ast.unparse(default)}"] if default is not None else []
    return [f"{name} : {', '.join(kind)}" if kind else name, INDENT + comment]


def parameters(node, said):
    """The entries of a function's parameters that have a comment on their line."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    pairs = [*zip(plain, [None] * (len(plain) - len(args.defaults)) + args.defaults), (args.vararg, None),
             *zip(args.kwonlyargs, args.kw_defaults), (args.kwarg, None)]
    stars = {args.vararg: "*", args.kwarg: "**"}
    found = [(stars.get(arg, "") + arg.arg, arg, default) for arg, default in pairs if arg and arg.lineno in said]
    return [line for name, arg, default in found for line in entry(name, arg.annotation, default, said[arg.lineno])]


def result(node, said):
    """The entry of what a function returns, if the line that ends its signature has a comment."""
    last = node.returns.end_lineno if node.returns else node.body[0].lineno - 1
    if last not in said or last <= node.lineno or any(arg.lineno == last for arg in ast.walk(node.args) if isinstance(arg, ast.arg)):
        return []
    if node.returns is None:
        return [INDENT + said[last]]
    return [] if ast.unparse(node.returns) == "None" else [ast.unparse(node.returns), INDENT + said[last]]


def fields(node, said):
    """The entries of a class's annotated fields."""
    found = [part for part in node.body if isinstance(part, ast.AnnAssign) and part.end_lineno in said]
    return [line for part in found for line in entry(part.target.id, part.annotation, part.value, said[part.end_lineno])]


def sections(node, said):
    """What is added to a docstring: {heading: lines}."""
    if isinstance(node, ast.ClassDef):
        return {"Attributes": fields(node, said)}
    return {"Parameters": parameters(node, said), "Returns": result(node, said)}


def with_docstrings(source):
    """Python text whose docstrings name the parameters, fields and results that have a comment."""
    lines, said = source.split("\n"), comments(source)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node)]
    for node in sorted(nodes, key=lambda node: -node.body[0].lineno):
        added = {heading: text for heading, text in sections(node, said).items() if text}
        if not added:
            continue
        doc = node.body[0]
        literal = ast.get_source_segment(source, doc.value)
        raw = literal.startswith("r")
        text = literal.removeprefix("r").strip('"' if '"' == literal.removeprefix("r")[0] else "'").rstrip()
        pad = " " * doc.col_offset
        told = [line for heading, part in added.items() for line in ["", heading, "-" * len(heading), *part]]
        body = [pad + (line if raw else line.replace("\\", "\\\\")) if line else "" for line in told]
        lines[doc.lineno - 1:doc.end_lineno] = [f'{pad}{"r" * raw}"""{text}', *body, f'{pad}"""']
    return "\n".join(lines)


def write_docstrings(cell):
    """An nbdev processor: the docstrings of an exported cell."""
    if cell.cell_type == "code" and {"export", "exporti"} & cell.directives_.keys():
        cell.source = with_docstrings(cell.source)
