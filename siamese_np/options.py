"""The options of the command line: of each command a function that adds them to its parser."""

import argparse
import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from typing import Any, NoReturn, cast

from siamese_np.errors import OptionError

MODEL = "run folder, a model.npz, or mnist, the model that comes with the package"
VIEWS = "embed each image as the mean of seven: itself, shifted and turned a little"
WRITTEN_IN_VIEWS = "the index was written with --views"
DATA = "other data than the model was trained on, as `siamese-np train` takes them; may be given several times"
SPLIT = "which of several data sets in a folder of IDX files, such as EMNIST's letters"
ENGINES = ("faiss", "usearch")
ENGINE = "search with what `siamese-np index` built, approximately (exactly)"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command's name and its arguments; OptionError tells what is wrong with them."""
    parser, commands = _parser(with_config=list(arguments[:1]) == ["train"])
    for argument in arguments:
        if argument.startswith("--") and argument.endswith("=--"):  # of which argparse makes an empty list
            parser.error(f"argument {argument[:-3]}: expected a value, not --")
        if not argument or (argument.startswith("--") and argument.endswith("=")):  # a path would be this folder
            parser.error("an argument is an empty word: leave it out, or say which")
    at = next((i for i, argument in enumerate(arguments) if not argument.startswith("-")), len(arguments))
    name, *rest = arguments[at:] or [""]
    if name and name not in commands:
        parser.error(f"there is no command {name!r}{_did_you_mean(name, commands)}")
    for argument in rest[: rest.index("--") if "--" in rest else None]:
        given, options = argument.split("=")[0], commands[name].options()
        if given.startswith("--") and not any(option.startswith(given) for option in options):
            commands[name].error(f"there is no option {given}{_did_you_mean(given, options)}")
    args, left = parser.parse_known_args(arguments)
    if left and (not hasattr(args, "input") or any(argument.startswith("-") for argument in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        args.input += left  # which follow an option; some versions of argparse do not gather them
    return args


def _did_you_mean(given: str, names: Iterable[str]) -> str:
    """A question for the end of a sentence: the name that was perhaps meant, such as --learning-rate by --lr."""
    near = [name for name in names if given == "--" + "".join(word[:1] for word in name[2:].split("-"))]
    near += difflib.get_close_matches(given, names, 1)
    return f"; did you mean {near[0]}?" if near else ""


class _Parser(argparse.ArgumentParser):
    """A parser that tells a mistake in one sentence, as the commands do."""

    def options(self) -> list[str]:
        """All that start with ``--``, also those of the commands inside."""
        inside = [
            sub for action in self._actions if isinstance(action.choices, dict) for sub in action.choices.values()
        ]
        own = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        return own + [name for sub in inside for name in sub.options()]

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message} (`{self.prog} --help` says what is possible)")


def _parser(with_config: bool) -> tuple[_Parser, dict[str, _Parser]]:
    """The parser, and that of each command; the options of `TrainConfig` only if asked for: it takes a second."""
    parser = _Parser(
        prog="siamese-np",
        description="Siamese networks on MNIST with contrastive loss, every gradient by hand, in NumPy and Numba.",
        epilog="Exit status: 0 done, 1 a check failed, 2 your mistake (one sentence says which), "
        "3 a check could not decide, 130 interrupted.",
    )
    version = next((found.version for found in metadata.distributions(name="siamese_np")), "unknown")
    parser.add_argument("--version", action="version", version=f"siamese-np {version}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (description, add_options, lines) in COMMANDS.items():
        examples = "\n".join(["examples:", *(f"  siamese-np {name} {line}".rstrip() for line in lines)])
        told: dict[str, Any] = {"help": description, "description": description, "epilog": examples}
        sub = commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, **told)
        sub.set_defaults(command=name)
        _json(sub)
        sub.add_argument("--quiet", action="store_true", help="no progress and no log, only results and mistakes")
        sub.add_argument("--threads", type=int, metavar="T", help="threads to use (all processors)")
        if name == "train" and with_config:
            _config(sub)
        add_options(sub)
    return parser, cast(Any, commands.choices)


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _overwrite(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--overwrite", action="store_true", help="replace a file that is there, though this command did not write it"
    )


def _config(sub: argparse.ArgumentParser) -> None:
    """One option for the recipe, and one for each field of `TrainConfig`."""
    from siamese_np.config import PROTOCOL_DEFAULTS, TrainConfig
    from siamese_np.recipes import RECIPES

    names = ", ".join(RECIPES)
    sub.add_argument("--recipe", metavar="R", help=f"options for a purpose, changed by those given: {names} (default)")
    for field in dataclasses.fields(TrainConfig):
        *others, last = sorted(field.metadata["choices"]) or [""]
        choices = f": {', '.join(others)} or {last}" if others else ""
        defaults = {protocol: values.get(field.name) for protocol, values in PROTOCOL_DEFAULTS.items()}
        default = field.default
        if default is None:
            default = ", ".join(f"{protocol} {value}" for protocol, value in defaults.items())
        sub.add_argument(
            "--" + field.name.replace("_", "-"),
            type=cast(Any, field.type),
            metavar=field.metadata["metavar"],
            help=f"{field.metadata['help']}{choices} ({default})",
        )


def _train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--data",
        metavar="PATH",
        nargs="+",
        action="extend",
        help="folder with a subfolder of pictures for each class (perhaps in train, val, test), folder of IDX files "
        "with MNIST's names, .npz, or .csv; several become one (the bundled MNIST)",
    )
    sub.add_argument("--split", metavar="S", help=SPLIT)
    sub.add_argument("--size", metavar="HxW", type=_size, help="height and width of images (as they are, at most 64)")
    colour = sub.add_mutually_exclusive_group()
    for flag, channels in (("--colour", 3), ("--grey", 1)):
        colour.add_argument(
            flag, dest="channels", action="store_const", const=channels, help=f"{flag[2:]} images (as the data)"
        )
    sub.add_argument(
        "--as",
        dest="form",
        metavar="FORM",
        help="how pictures become images: digit, its digit found; resize; as-is (digit if the data look like MNIST)",
    )
    sub.add_argument("--out", metavar="RUN", help="run folder to write; * stands for a free number (runs/PRESET-*)")
    sub.add_argument("--overwrite", action="store_true", help="write into --out though it holds a run")
    sub.add_argument("--resume", metavar="RUN", help="go on with an interrupted run")
    sub.add_argument(
        "--checkpoint-every",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="save within an epoch, too, after so long: what a kill may cost (60)",
    )
    sub.add_argument(
        "--reduction",
        metavar="R",
        default="in-order",
        help="how the ranks of mpiexec, which must all run train, sum up gradients: in-order, with the same bits for "
        "any number of ranks, or allreduce, MPI's own sum (in-order)",
    )


def _evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", help=MODEL)
    sub.add_argument("--views", action="store_true", help=f"{VIEWS}; the threshold is calibrated anew")
    sub.add_argument("--data", metavar="PATH", action="append", help=DATA)
    sub.add_argument("--split", metavar="S", help=SPLIT)


def _pictures(sub: argparse.ArgumentParser, *names: str) -> None:
    """The model and the pictures it is given: one list, or a single file for each of several names."""
    sub.add_argument("model", metavar="MODEL", help=MODEL)
    for name in names:
        kinds = "image file, folder, pattern as 'scans/*.png', IDX file, or - for names on standard input"
        one, many = {"help": "image file"}, {"help": kinds, "nargs": "+"}
        sub.add_argument(name, metavar=name.upper(), **cast(Any, many if len(names) == 1 else one))
    sub.add_argument("--as", dest="form", metavar="F", help="read them as digit, resize or as-is (the model's)")
    sub.add_argument("--show", metavar="PNG", help="draw a sheet: each picture beside what the network sees of it")


def _embed(sub: argparse.ArgumentParser) -> None:
    _pictures(sub, "input")
    sub.add_argument("--views", action="store_true", help=VIEWS)
    output_help = "folder of a collection, new or to append to; or .npy, .npz (with paths) or .csv file"
    sub.add_argument("-o", "--output", metavar="OUT", required=True, help=output_help)
    sub.add_argument("--labels", metavar="FILE", help="classes of an IDX file's images, as IDX or CSV (subfolders)")
    sub.add_argument("--processes", type=int, default=1, metavar="N", help="processes that read image files (1)")
    _overwrite(sub)


def _index(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("collection", metavar="COLLECTION", help="folder written by embed")
    sub.add_argument("--engine", choices=ENGINES, required=True, help="library that builds it")
    sub.add_argument("--m", type=int, metavar="M", help="links of each embedding (faiss 32, usearch 16)")
    for name, what, default in (("construction", "building", 128), ("search", "searching", 64)):
        sub.add_argument(f"--ef-{name}", type=int, metavar="N", help=f"candidates kept while {what} ({default})")


def _compare(sub: argparse.ArgumentParser) -> None:
    _pictures(sub, "a", "b")
    _overwrite(sub)


def _search(sub: argparse.ArgumentParser) -> None:
    _pictures(sub, "query")
    sub.add_argument("--views", action="store_true", help=WRITTEN_IN_VIEWS)
    sub.add_argument("--index", metavar="INDEX", required=True, help="collection or .npz written by embed")
    sub.add_argument("-k", type=int, default=5, metavar="K", help="how many (5)")
    sub.add_argument("--engine", choices=ENGINES, help=ENGINE)
    _overwrite(sub)


def _classify(sub: argparse.ArgumentParser) -> None:
    _pictures(sub, "input")
    sub.add_argument("--views", action="store_true", help=WRITTEN_IN_VIEWS)
    sub.add_argument("--index", metavar="INDEX", help="collection with classes (the means of the model's own classes)")
    sub.add_argument("-k", type=int, default=5, metavar="K", help="how many of its pictures vote (5)")
    sub.add_argument("--engine", choices=ENGINES, help=ENGINE)
    _overwrite(sub)


def _export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", help=MODEL)
    sub.add_argument("input", metavar="INPUT", nargs="*", help="of projector: images to embed (the test images)")
    sub.add_argument(
        "--to",
        choices=("onnx", "projector", "npz"),
        help="ONNX file, folder for TensorBoard's projector, or weights as plain arrays (onnx; of PATH.npz, npz)",
    )
    sub.add_argument("-o", "--output", metavar="PATH", required=True, help="file to write, or folder of projector")
    sub.add_argument("--overwrite", action="store_true", help="replace it, if it exists; ONNX files of ours always are")
    sub.add_argument("--index", metavar="INDEX", help="of projector: collection or .npz written by embed")
    sub.add_argument("--data", metavar="DIR", help="of projector: data whose test images to embed")


def _gradcheck(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="an operation such as conv2d, or your own layer or function as package.module:object (everything)",
    )
    sub.add_argument(
        "--shape",
        metavar="N,...",
        type=_shape,
        action="append",
        default=[],
        help="shape of the input, such as 4,10; for a function once for each of its arrays",
    )
    sub.add_argument(
        "--kernel", metavar="KH,KW", type=_pair, help="window of conv2d, such as 3,3 (three of our choice)"
    )
    sub.add_argument("--stride", metavar="SH,SW", type=_pair, help="stride of conv2d (1,1)")
    sub.add_argument("--pad", metavar="PH,PW", type=_pair, help="padding of conv2d on each side (0,0)")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="seed of everything random (0)")
    sub.add_argument("--tolerance", type=float, metavar="T", help="largest relative error that passes (1e-6)")
    sub.add_argument("--strict", action="store_true", default=None, help="hold your layer to the contract of ours too")
    sub.add_argument("--entries", type=int, metavar="N", help="entries of each array to check one by one")
    sub.add_argument("--seconds", type=float, metavar="S", help="stop then, and report what was checked by then")
    sub.add_argument("--reseed", action="store_true", default=None, help="seed NumPy before every forward, for dropout")
    sub.add_argument("--plot", metavar="FILE", help="save the V-curves, error against step, as a PNG picture")
    _overwrite(sub)


def _trace(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", help=MODEL)
    sub.add_argument("a", metavar="A", help="image file, or number of a test image")
    sub.add_argument("b", metavar="B", help="image file, or number of a test image")
    sub.add_argument("-o", "--output", metavar="FILE", default="trace.html", help="page to write (trace.html)")
    sub.add_argument("--label", choices=("similar", "dissimilar"), help="what the pair is (by class, or as judged)")
    sub.add_argument("--only", action="store_true", help="no other pairs on the page")
    sub.add_argument("--data", metavar="PATH", action="append", help=DATA)
    sub.add_argument("--split", metavar="S", help=SPLIT)
    _overwrite(sub)


def _reproduce(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--quick", action="store_true", help="hardly any training, one seed: to see that it works")
    sub.add_argument("--main", action="store_true", help="recipes and baselines on the test images (if no other)")
    sub.add_argument("--ablations", action="store_true", help="the recipes best and fast with one thing changed each")
    sub.add_argument("--unseen", action="store_true", help="training without some of the digits")
    sub.add_argument("--fast", action="store_true", help="how soon 99 percent of the images are known")
    sub.add_argument("--seeds", type=int, metavar="N", help="trainings of each row (5; best changed 3; fast 30, 10)")
    sub.add_argument("--out", metavar="DIR", default="reproduced", help="folder that keeps what is done (reproduced)")
    _overwrite(sub)


def _bench(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--quick", action="store_true", help="at most a minute, with less of everything")
    sub.add_argument(
        "--only",
        metavar="NAME",
        nargs="+",
        action="extend",
        help="sections: clocks ladder end-to-end peers (these four), dense-input avx2 thread-counts op",
    )
    sub.add_argument(
        "--op", metavar="NAME", help="only conv2d, dense or maxpool2d of your shape, or grid: 20 published layers"
    )
    sub.add_argument("--shape", metavar="N,...", type=_shape, help="its input: N,H,W,C, or N,D of dense")
    sub.add_argument("--kernel", metavar="K,F", type=_shape, help="its window K or KH,KW and filters F; E of dense")
    sub.add_argument("--stride", metavar="SH,SW", type=_pair, help="its stride (1,1; of pooling, its window)")
    sub.add_argument("--pad", metavar="PH,PW", type=_pair, help="padding of conv2d on each side (0,0)")
    sub.add_argument("--out", metavar="DIR", help="folder for benchmark.json, benchmark.md and pictures (none)")
    sub.add_argument("--rung", metavar="FILE.py", help="put your own kernels on the ladder")
    sub.add_argument(
        "--peer-python",
        metavar="PYTHON",
        action="append",
        default=[],
        help="interpreter that has other frameworks; may be given several times (this one)",
    )
    old_new = sub.add_subparsers(metavar="compare OLD NEW").add_parser(
        "compare",
        description="Say which timings became slower or faster; exit status 1 if any is slower.",
    )
    old_new.set_defaults(command="bench_compare")
    old_new.add_argument("old", metavar="OLD", help="benchmark.json, or its folder")
    old_new.add_argument("new", metavar="NEW", help="benchmark.json, or its folder")
    old_new.add_argument("--fail-over", metavar="P%", default="5%", help="least change that matters (5%%)")
    _json(old_new)
    _overwrite(sub)


def _learn(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "action",
        choices=("list", "start", "check", "hint", "solution", "progress"),
        help="list the exercises; start FOLDER; check [NAME or FILE]; hint NAME; solution NAME; progress so far",
    )
    sub.add_argument("name", metavar="NAME", nargs="?", help="an exercise, by name or number; a folder for start")


def _info(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--warm-up", action="store_true", help="compile all kernels of the presets now")


def _pair(text: str) -> tuple[int, ...]:
    pair = _shape(text)
    if len(pair) != 2:
        raise argparse.ArgumentTypeError(f"these are two whole numbers such as 3,2, not {text!r}")
    return pair


def _size(text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"a size is height x width, such as 60x40, not {text!r}")
    return tuple(int(part) for part in parts)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(length) for length in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a shape is whole numbers such as 4,10, not {text!r}") from None


# Of each command: what it does, its options, and examples for its help
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], list[str]]] = {
    "train": (
        "train a network, evaluate it on the test images, draw and save the results",
        _train,
        ["", "--recipe best --out runs/best", "--preset mlp --epochs 1", "--resume runs/cnn3-1"],
    ),
    "evaluate": ("measure a saved model on the test images", _evaluate, ["runs/cnn3-1", "runs/cnn3-1 --views"]),
    "embed": (
        "embed pictures into a collection, to be appended to and searched, or a file",
        _embed,
        ["runs/cnn3-1 photo.jpg scans/ -o collected", "runs/cnn3-1 scans/ -o embeddings.csv --show sheet.png"],
    ),
    "index": (
        "build an engine over a collection, for approximate search, and measure its recall",
        _index,
        ["collected --engine faiss", "collected --engine usearch --ef-search 200"],
    ),
    "compare": (
        "say how far apart two images are, and whether they are similar",
        _compare,
        ["runs/cnn3-1 one.png other.png"],
    ),
    "search": (
        "list the pictures of a collection nearest to each query",
        _search,
        ["runs/cnn3-1 query.png --index collected -k 3"],
    ),
    "classify": (
        "say the class of pictures, by that of their nearest ones",
        _classify,
        ["mnist scans/ --show sheet.png", "runs/cnn3-1 one.png --index collected"],
    ),
    "export": (
        "write a saved model, or its embeddings, for other tools",
        _export,
        [
            "runs/cnn3-1 -o model.onnx",
            "runs/cnn3-1 --to projector -o projector",
            "runs/cnn3-1 scans/ --to projector -o scanned",
            "runs/cnn3-1 --to npz -o weights.npz",
        ],
    ),
    "gradcheck": (
        "check backward passes against differences: all of ours, one of them, or your own",
        _gradcheck,
        ["", "conv2d --kernel 3,2 --stride 2,1", "mylayer.py:MyLayer --shape 4,10"],
    ),
    "trace": (
        "show every number of a pair's way to the loss and back, as one HTML page",
        _trace,
        ["runs/cnn3-1 3 18 -o trace.html", "runs/cnn3-1 one.png other.png --label similar"],
    ),
    "reproduce": (
        "train and measure the accuracy tables of the README anew",
        _reproduce,
        ["--quick", "--main --seeds 3"],
    ),
    "bench": (
        "measure this machine, the kernels, training, and other frameworks beside them",
        _bench,
        ["--quick", "--out results", "compare results/old results/new"],
    ),
    "learn": (
        "exercises: write the backward passes yourself, and be told what is wrong with them",
        _learn,
        ["start exercises", "check exercises/01_dense.py", "hint dense"],
    ),
    "info": ("say what this installation is and uses", _info, ["", "--warm-up"]),
}
