"""Write the documentation of the command line from the table of options: `docs/options.md` and the man page.

    python -m tools.option_docs

`make check` compares the files with what would be written. The texts between the options are here; everything about an
option comes from `tensorhub.settings`.
"""

import re
import sys
from collections.abc import Iterator

from tensorhub import settings
from tensorhub.option_groups import DEPRECATED
from tensorhub.option_kinds import FLAG
from tensorhub.option_table import Option
from tools.layers import ROOT
from tools.triton_options import TRITON_OPTIONS

MARKDOWN = ROOT / "docs" / "options.md"
MAN_PAGE = ROOT / "docs" / "tensorhub-serve.1"

_INTRODUCTION = """\
# Options

All options of `tensorhub serve`. Those that Triton has are called as there, with the same values and defaults, so that
a command line of `tritonserver` works unchanged; the rest is marked "of tensorhub". An option is written
`--name=value` or `--name value`, or as `name = value` in the TOML file that `--config` names. The command line goes
before the environment, that before the file, and that before the default. "Several" options may be given several
times.

This page is written by `python -m tools.option_docs` from the tables in `tensorhub/option_groups.py`
and `tensorhub/network_options.py`.
"""

_MAN_HEAD = """\
.TH TENSORHUB\\-SERVE 1
.SH NAME
tensorhub\\-serve \\- serve a model repository over HTTP and gRPC
.SH SYNOPSIS
.B tensorhub serve
.BI \\-\\-model\\-repository= DIR
.RI [ options ]
.SH DESCRIPTION
Starts a server for the models of one or more repositories, and stops it on SIGTERM or SIGINT. It speaks the protocol of
Triton Inference Server, and takes its options. An option is written
.BI \\-\\- name = value
or
.BI \\-\\- "name value" ,
or as
.IB name " = " value
in the TOML file of
.BR \\-\\-config .
The command line goes before the environment, that before the file, and that before the default.
.SH OPTIONS
"""

_MAN_TAIL = """\
.SH ENVIRONMENT
.TP
.B TENSORHUB_RUN_DIR
The run directory, if
.B \\-\\-run\\-dir
is not given.
.TP
.BR AIP_MODE ", " AIP_HTTP_PORT ", " AIP_STORAGE_URI ", " AIP_PREDICT_ROUTE ", " AIP_HEALTH_ROUTE
Set by Vertex AI; see
.BR \\-\\-allow\\-vertex\\-ai .
.TP
.BR SAGEMAKER_TRITON_DEFAULT_MODEL_NAME ", " SAGEMAKER_TRITON_PING_MODE ", " SAGEMAKER_TRITON_INFERENCE_TYPE
The model of
.IR /invocations ,
what
.I /ping
tells (ready or live), and what
.I /invocations
does (infer, generate or generate_stream), with
.BR \\-\\-allow\\-sagemaker .
.SH EXIT STATUS
0 if the server was told to stop, 1 if it could not start or could not be kept alive.
.SH SEE ALSO
docs/options.md, docs/operations.md and docs/protocol.md of the project.
"""


def markdown() -> str:
    """Return the text of docs/options.md."""
    return "\n".join([_INTRODUCTION, *_markdown_sections()])


def _markdown_sections() -> Iterator[str]:
    for title, options in settings.SECTIONS.values():
        yield f"## {title}\n"
        yield "| option | default | what |\n|---|---|---|"
        for option in options:
            yield _markdown_row(option)
        yield ""
    yield "## Deprecated\n\nStill understood, with a warning that names what to write instead.\n"
    yield "| option | instead |\n|---|---|"
    for old in DEPRECATED:
        yield f"| `--{old.name}` {_cell(old.kind.metavar)} | {_cell(old.help)} |"
    yield ""


def _markdown_row(option: Option) -> str:
    value = "" if option.kind is FLAG else f" {_cell(option.kind.metavar)}"
    if option.repeatable:
        default = "several"
    else:
        text = option.kind.unparse(option.default)
        default = f"`{text}`" if text else "-"
    what = option.help
    if option.name not in TRITON_OPTIONS:
        what += " *Of tensorhub.*"
    if option.ignored:
        what += f" *Accepted without effect: {option.ignored}.*"
    return f"| `--{option.name}`{value} | {default} | {_cell(what)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("*>", "*\\>")


def man_page() -> str:
    """Return the text of the man page, in roff."""
    return "\n".join([_MAN_HEAD + "\n".join(_man_sections()), _MAN_TAIL])


def _man_sections() -> Iterator[str]:
    for title, options in settings.SECTIONS.values():
        yield f".SS {_roff(title)}"
        for option in options:
            yield _man_item(option.name, option.kind.metavar, settings.describe(option))
    yield ".SS Deprecated"
    for old in DEPRECATED:
        yield _man_item(old.name, old.kind.metavar, f"Please use {old.help}")


def _man_item(name: str, metavar: str, text: str) -> str:
    term = (
        f".BI \\-\\-{_roff(name)}= {_roff(metavar).replace(' ', chr(92) + ' ')}"
        if metavar
        else f".B \\-\\-{_roff(name)}"
    )
    return f".TP\n{term}\n{_roff(text)}"


def _roff(text: str) -> str:
    """Escape text: backslashes, hyphens, and what would be a request at the start of a line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def stale() -> list[str]:
    """Return the names of the files that are not what the table gives."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in ((MARKDOWN, markdown()), (MAN_PAGE, man_page()))
        if not path.exists() or path.read_text() != text
    ]


def main() -> int:
    """Write the files."""
    MARKDOWN.write_text(markdown())
    MAN_PAGE.write_text(man_page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
