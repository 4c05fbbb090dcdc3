"""The command line: parses, calls one function per command, prints. Everything heavy is imported inside.

Results go to standard output, progress and log to standard error. Exit status: 0 done, 1 a check failed, 2 the
user's mistake, 3 a check could not decide, 130 interrupted.
"""

import argparse
import contextlib
import dataclasses
import difflib
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from siamese_np._process import discard, log, mpi_rank, on_signal, printed, safe_streams, to_json
from siamese_np.errors import OptionError, SiameseError

if TYPE_CHECKING:
    from siamese_np.network import SiameseNetwork

# Of each command, for its help
EXAMPLES = {
    "train": ["", "--recipe best --out runs/best", "--preset mlp --epochs 1", "--resume runs/cnn3-1"],
    "evaluate": ["runs/cnn3-1", "runs/cnn3-1 --views"],
    "embed": ["runs/cnn3-1 photo.jpg scans/ -o collected", "runs/cnn3-1 scans/ -o embeddings.csv --show sheet.png"],
    "compare": ["runs/cnn3-1 one.png other.png"],
    "index": ["collected --engine faiss", "collected --engine usearch --ef-search 200"],
    "search": ["runs/cnn3-1 query.png --index collected -k 3"],
    "classify": ["mnist scans/ --show sheet.png", "runs/cnn3-1 one.png --index collected"],
    "export": [
        "runs/cnn3-1 -o model.onnx",
        "runs/cnn3-1 --to projector -o projector",
        "runs/cnn3-1 scans/ --to projector -o scanned",
        "runs/cnn3-1 --to npz -o weights.npz",
    ],
    "gradcheck": ["", "conv2d --kernel 3,2 --stride 2,1", "mylayer.py:MyLayer --shape 4,10"],
    "reproduce": ["--quick", "--main --seeds 3"],
    "trace": ["runs/cnn3-1 3 18 -o trace.html", "runs/cnn3-1 one.png other.png --label similar"],
    "bench": ["--quick", "--out results", "compare results/old results/new"],
    "learn": ["start exercises", "check exercises/01_dense.py", "hint dense"],
    "info": ["", "--warm-up"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with on_signal(), safe_streams():
            return _status(arguments)
    except KeyboardInterrupt:  # a second one, before the first was told
        return 130


def _status(arguments: Sequence[str]) -> int:
    args = argparse.Namespace()
    try:
        with _together(arguments):
            args = _parse(arguments)
            follows = args.command is train and bool(mpi_rank())  # another rank, which tells
            with _progress(args.quiet or follows):
                if args.threads is not None:
                    from siamese_np import set_threads

                    set_threads(args.threads)
                status: int = args.command(args)
                if status == 130 and not follows:
                    _tell_as_json(args, arguments, "interrupted")
                sys.stdout.flush()
                return status
    except SiameseError as error:
        return _mistake(args, arguments, str(error))
    except BrokenPipeError:  # the reader of our output has gone: nothing more to say to it
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _mistake(args, arguments, printed(f"{where}{error.strerror or error}"))
    except MemoryError as error:
        return _mistake(args, arguments, printed(f"there is not enough memory ({str(error) or 'none is left'})"))
    except KeyboardInterrupt:
        _tell_as_json(args, arguments, "interrupted")
        log("siamese-np: interrupted")
        return 130


@contextlib.contextmanager
def _together(arguments: Sequence[str]) -> Iterator[None]:
    """Within it, the ranks of a training that mpiexec has started end together, and the first alone prints."""
    if arguments[:1] != ["train"] or mpi_rank() is None:
        yield
        return
    from siamese_np.distributed import communicator

    with contextlib.ExitStack() as stack:
        stack.enter_context(communicator().together())
        if mpi_rank():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield


def train(args: argparse.Namespace) -> int:
    """Train, evaluate on the test images, draw, save."""
    from siamese_np.checkpoint import load_data_of_run
    from siamese_np.config import TrainConfig
    from siamese_np.datasets import load_dataset
    from siamese_np.evaluation import text
    from siamese_np.recipes import fitted, recipe
    from siamese_np.run import train_run

    names = [field.name for field in dataclasses.fields(TrainConfig)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config = None
    if args.resume is None:
        config = recipe(args.recipe or "default", **given)
        dataset = load_dataset(args.data, args.split, args.size, args.channels, args.form)
        config = fitted(config, dataset, given)
        folder = Path("runs") / f"{config.preset}-*" if args.out is None else Path(args.out)
    else:
        kept = {"recipe": args.recipe, "size": args.size, "colour": args.channels, "as": args.form, "out": args.out}
        if wrong := [*given, *(name for name, value in kept.items() if value is not None)]:
            option = "--" + wrong[0].replace("_", "-")
            raise OptionError(f"{option} cannot go with --resume: a resumed run keeps its options and its folder")
        folder = Path(args.resume)
        dataset = load_data_of_run(folder, args.data, args.split)
    run = train_run(
        config,
        dataset,
        folder,
        resume=args.resume is not None,
        overwrite=args.overwrite,
        checkpoint_every=args.checkpoint_every,
        on_metrics=lambda told: _result(args, told, text(told) + f"\n  trained in {told['seconds']:.1f} s"),
        log=_log_beside_bar,
        show_bar=sys.stderr.isatty(),
        reduction=args.reduction,
    )
    return 130 if run.interrupted else 0


def evaluate(args: argparse.Namespace) -> int:
    """Measure a saved model on the test images."""
    from siamese_np import evaluation
    from siamese_np.datasets import load_data_of

    siamese = _load(args)
    dataset = load_data_of(siamese, args.data, args.split, log)
    if siamese.views:  # the model's threshold is of single embeddings
        siamese.threshold = evaluation.calibrated(siamese.embed, dataset)
    metrics = {"views": siamese.views, **evaluation.evaluate(siamese, dataset).metrics}
    _result(args, metrics, evaluation.text(metrics))
    return 0


def embed(args: argparse.Namespace) -> int:
    """Embed pictures into a collection, or one file."""
    from siamese_np.collection.embed import run

    return _answer(args, *run(args))


def index(args: argparse.Namespace) -> int:
    """Build an approximate engine over a collection."""
    from siamese_np.collection.engines import run

    return _answer(args, *run(args))


def compare(args: argparse.Namespace) -> int:
    """Say how far apart two images are."""
    from siamese_np.collection.search import compare

    return _answer(args, *compare(args))


def search(args: argparse.Namespace) -> int:
    """List the pictures of a collection that are nearest to others."""
    from siamese_np.collection.search import search

    return _answer(args, *search(args))


def classify(args: argparse.Namespace) -> int:
    """Say the class of pictures."""
    from siamese_np.collection.search import classify

    return _answer(args, *classify(args))


def gradcheck(args: argparse.Namespace) -> int:
    """Check the gradients of everything here, of one operation, or of a user's layer."""
    import time

    from siamese_np.gradcheck.cases import check_target
    from siamese_np.gradcheck.report import EXIT, text
    from siamese_np.gradcheck.watchdog import no_longer_than

    given = {name: value for name, value in vars(args).items() if value is not None}
    window, options = (
        {str(name): given[name] for name in names if name in given}
        for names in (("kernel", "stride", "pad"), ("tolerance", "strict", "entries", "seconds", "reseed"))
    )
    if args.plot:
        from siamese_np.storage import check_output, png_mark

        check_output(Path(args.plot), "--plot", png_mark("gradcheck"), args.overwrite)
    start = time.perf_counter()
    with no_longer_than(args.seconds, str(args.target), args.json):
        report = check_target(args.target, args.shape, args.seed, window, progress=True, **options)
    seconds = time.perf_counter() - start
    if args.plot:
        from siamese_np.gradcheck.plot import plot

        plot(report, args.plot)
        log(f"V-curves: {args.plot}")
    _result(args, report.to_dict(), text(report, seconds, show_curve=args.target is not None))
    return 130 if report.interrupted else EXIT[report.verdict]


def export(args: argparse.Namespace) -> int:
    """Write a saved model for other tools: an ONNX file, plain arrays, or its embeddings for TensorBoard."""
    from siamese_np.export_command import run

    return _answer(args, *run(args, log))


def reproduce(args: argparse.Namespace) -> int:
    """Train and measure the accuracy tables of the README anew."""
    from siamese_np.reproduce.command import run

    _result(args, *run(args))
    return 0


def trace(args: argparse.Namespace) -> int:
    """Write a page that shows a pair of images on its way to the loss and back."""
    from siamese_np.tracing.command import run

    _result(args, *run(args))
    return 0


def bench(args: argparse.Namespace) -> int:
    """Measure this machine, the kernels, whole training steps, and other frameworks beside them."""
    from siamese_np.bench.command import run

    return run(args, _result)


def bench_compare(args: argparse.Namespace) -> int:
    """Say which timings of two benchmark runs became slower."""
    from siamese_np.bench.command import compare

    return compare(args, _result)


def learn(args: argparse.Namespace) -> int:
    """Exercises: write backward passes, and be told what is wrong with them."""
    from siamese_np.learn.command import run

    status, result, lines = run(args)
    return _answer(args, status, result, "\n".join(lines))


def info(args: argparse.Namespace) -> int:
    """Say what this installation is and uses."""
    import platform

    from siamese_np.runtime.jit import cache_folder
    from siamese_np.runtime.scheduler import get_threads
    from siamese_np.storage import versions

    seconds: dict[str, float] = {}
    if args.warm_up:
        from siamese_np.warm_up import warm_up

        seconds = warm_up()
    folder = cache_folder()
    result: dict[str, Any] = {
        "versions": versions(),
        "processor": platform.processor() or platform.machine(),
        "threads": get_threads(),
        "kernel_cache": str(folder) if folder else None,
        "compiled_kernels": len(list(folder.rglob("*.nbc"))) if folder else 0,
        "warm_up_seconds": seconds,
    }
    lines = [f"{name} {version}" for name, version in result["versions"].items()]
    lines += [
        f"threads {result['threads']} ({result['processor']})",
        f"compiled kernels: {result['compiled_kernels']} in {folder or 'no folder, compiled anew at each start'}",
    ]
    if seconds:
        lines += [f"  {name}: {value:.2f} s" for name, value in seconds.items()]
        lines.append(f"compiled or loaded in {sum(seconds.values()):.1f} s")
    _result(args, result, "\n".join(lines))
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command's arguments; what is wrong with them ends the process with status 2."""
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


def _parser(with_config: bool) -> "tuple[_Parser, dict[str, _Parser]]":
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

    def command(function: Any, description: str) -> argparse.ArgumentParser:
        name = function.__name__
        examples = "\n".join(["examples:", *(f"  siamese-np {name} {line}".rstrip() for line in EXAMPLES[name])])
        told: dict[str, Any] = {"help": description, "description": description, "epilog": examples}
        sub = commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, **told)
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        sub.add_argument("--quiet", action="store_true", help="no progress and no log, only results and mistakes")
        sub.add_argument("--threads", type=int, metavar="T", help="threads to use (all processors)")
        return sub

    model_help = "run folder, a model.npz, or mnist, the model that comes with the package"
    views_help = "embed each image as the mean of seven: itself, shifted and turned a little"
    data_help = "other data than the model was trained on, as `siamese-np train` takes them; may be given several times"
    split_help = "which of several data sets in a folder of IDX files, such as EMNIST's letters"

    sub = command(train, "train a network, evaluate it on the test images, draw and save the results")
    if with_config:
        _add_config(sub)
    sub.add_argument(
        "--data",
        metavar="PATH",
        nargs="+",
        action="extend",
        help="folder with a subfolder of pictures for each class (perhaps in train, val, test), folder of IDX files "
        "with MNIST's names, .npz, or .csv; several become one (the bundled MNIST)",
    )
    sub.add_argument("--split", metavar="S", help=split_help)
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
        help="how the ranks of mpiexec sum up gradients: in-order, with the same bits for any number of ranks, or "
        "allreduce, MPI's own sum (in-order)",
    )

    sub = command(evaluate, "measure a saved model on the test images")
    sub.add_argument("model", metavar="MODEL", help=model_help)
    sub.add_argument("--views", action="store_true", help=f"{views_help}; the threshold is calibrated anew")
    sub.add_argument("--data", metavar="PATH", action="append", help=data_help)
    sub.add_argument("--split", metavar="S", help=split_help)

    def on_pictures(function: Any, description: str, *names: str) -> argparse.ArgumentParser:
        sub = command(function, description)
        sub.add_argument("model", metavar="MODEL", help=model_help)
        for name in names:
            kinds = "image file, folder, pattern as 'scans/*.png', IDX file, or - for names on standard input"
            one, many = {"help": "image file"}, {"help": kinds, "nargs": "+"}
            sub.add_argument(name, metavar=name.upper(), **cast(Any, many if len(names) == 1 else one))
        sub.add_argument("--as", dest="form", metavar="F", help="read them as digit, resize or as-is (the model's)")
        sub.add_argument("--show", metavar="PNG", help="draw a sheet: each picture beside what the network sees of it")
        return sub

    sub = on_pictures(embed, "embed pictures into a collection, to be appended to and searched, or a file", "input")
    sub.add_argument("--views", action="store_true", help=views_help)
    output_help = "folder of a collection, new or to append to; or .npy, .npz (with paths) or .csv file"
    sub.add_argument("-o", "--output", metavar="OUT", required=True, help=output_help)
    sub.add_argument("--labels", metavar="FILE", help="classes of an IDX file's images, as IDX or CSV (subfolders)")
    sub.add_argument("--processes", type=int, default=1, metavar="N", help="processes that read image files (1)")

    engine: dict[str, Any] = {"choices": ("faiss", "usearch")}
    engine_help = "search with what `siamese-np index` built, approximately (exactly)"
    sub = command(index, "build an engine over a collection, for approximate search, and measure its recall")
    sub.add_argument("collection", metavar="COLLECTION", help="folder written by embed")
    sub.add_argument("--engine", **engine, required=True, help="library that builds it")
    sub.add_argument("--m", type=int, metavar="M", help="links of each embedding (faiss 32, usearch 16)")
    for name, what, default in (("construction", "building", 128), ("search", "searching", 64)):
        sub.add_argument(f"--ef-{name}", type=int, metavar="N", help=f"candidates kept while {what} ({default})")

    on_pictures(compare, "say how far apart two images are, and whether they are similar", "a", "b")

    sub = on_pictures(search, "list the pictures of a collection nearest to each query", "query")
    sub.add_argument("--views", action="store_true", help="the index was written with --views")
    sub.add_argument("--index", metavar="INDEX", required=True, help="collection or .npz written by embed")
    sub.add_argument("-k", type=int, default=5, metavar="K", help="how many (5)")
    sub.add_argument("--engine", **engine, help=engine_help)

    sub = on_pictures(classify, "say the class of pictures, by that of their nearest ones", "input")
    sub.add_argument("--views", action="store_true", help="the index was written with --views")
    sub.add_argument("--index", metavar="INDEX", help="collection with classes (the means of the model's own classes)")
    sub.add_argument("-k", type=int, default=5, metavar="K", help="how many of its pictures vote (5)")
    sub.add_argument("--engine", **engine, help=engine_help)

    sub = command(export, "write a saved model, or its embeddings, for other tools")
    sub.add_argument("model", metavar="MODEL", help=model_help)
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

    sub = command(gradcheck, "check backward passes against differences: all of ours, one of them, or your own")
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

    sub = command(trace, "show every number of a pair's way to the loss and back, as one HTML page")
    sub.add_argument("model", metavar="MODEL", help=model_help)
    sub.add_argument("a", metavar="A", help="image file, or number of a test image")
    sub.add_argument("b", metavar="B", help="image file, or number of a test image")
    sub.add_argument("-o", "--output", metavar="FILE", default="trace.html", help="page to write (trace.html)")
    sub.add_argument("--label", choices=("similar", "dissimilar"), help="what the pair is (by class, or as judged)")
    sub.add_argument("--only", action="store_true", help="no other pairs on the page")
    sub.add_argument("--data", metavar="PATH", action="append", help=data_help)
    sub.add_argument("--split", metavar="S", help=split_help)

    sub = command(reproduce, "train and measure the accuracy tables of the README anew")
    sub.add_argument("--quick", action="store_true", help="hardly any training, one seed: to see that it works")
    sub.add_argument("--main", action="store_true", help="recipes and baselines on the test images (if no other)")
    sub.add_argument("--ablations", action="store_true", help="the recipe best with one thing changed")
    sub.add_argument("--unseen", action="store_true", help="training without some of the digits")
    sub.add_argument("--fast", action="store_true", help="how soon 99 percent of the images are known")
    sub.add_argument("--seeds", type=int, metavar="N", help="trainings of each row (5, with --fast 30)")
    sub.add_argument("--out", metavar="DIR", default="reproduced", help="folder that keeps what is done (reproduced)")

    sub = command(bench, "measure this machine, the kernels, training, and other frameworks beside them")
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
    old_new.set_defaults(command=bench_compare)
    old_new.add_argument("old", metavar="OLD", help="benchmark.json, or its folder")
    old_new.add_argument("new", metavar="NEW", help="benchmark.json, or its folder")
    old_new.add_argument("--fail-over", metavar="P%", default="5%", help="least change that matters (5%%)")
    old_new.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    sub = command(learn, "exercises: write the backward passes yourself, and be told what is wrong with them")
    sub.add_argument(
        "action",
        choices=("list", "start", "check", "hint", "solution", "progress"),
        help="list the exercises; start FOLDER; check [NAME or FILE]; hint NAME; solution NAME; progress so far",
    )
    sub.add_argument("name", metavar="NAME", nargs="?", help="an exercise, by name or number; a folder for start")

    sub = command(info, "say what this installation is and uses")
    sub.add_argument("--warm-up", action="store_true", help="compile all kernels of the presets now")
    for name in ("embed", "compare", "search", "classify", "gradcheck", "trace", "reproduce", "bench"):
        words = "replace a file that is there, though this command did not write it"
        commands.choices[name].add_argument("--overwrite", action="store_true", help=words)
    return parser, cast(Any, commands.choices)


def _add_config(parser: argparse.ArgumentParser) -> None:
    """One option for the recipe, and one for each field of `TrainConfig`."""
    from siamese_np.config import PROTOCOL_DEFAULTS, TrainConfig
    from siamese_np.recipes import RECIPES

    names = ", ".join(RECIPES)
    parser.add_argument(
        "--recipe", metavar="R", help=f"options for a purpose, changed by those given: {names} (default)"
    )
    for field in dataclasses.fields(TrainConfig):
        *others, last = sorted(field.metadata["choices"]) or [""]
        choices = f": {', '.join(others)} or {last}" if others else ""
        defaults = {protocol: values.get(field.name) for protocol, values in PROTOCOL_DEFAULTS.items()}
        default = field.default
        if default is None:
            default = ", ".join(f"{protocol} {value}" for protocol, value in defaults.items())
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=cast(Any, field.type),
            metavar=field.metadata["metavar"],
            help=f"{field.metadata['help']}{choices} ({default})",
        )


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


def _load(args: argparse.Namespace) -> "SiameseNetwork":
    from siamese_np.storage import load_model

    siamese = load_model(args.model)
    siamese.views = getattr(args, "views", False)
    return siamese


def _mistake(args: argparse.Namespace, arguments: Sequence[str], sentence: str) -> int:
    _tell_as_json(args, arguments, sentence)
    log(f"siamese-np: {sentence}", "\n")  # of code in it
    return 2


def _tell_as_json(args: argparse.Namespace, arguments: Sequence[str], sentence: str) -> None:
    """With ``--json``, the error instead of a result, unless that was printed."""
    json = any(len(argument) > 2 and "--json".startswith(argument) for argument in arguments)  # may be abbreviated
    if getattr(args, "json", json) and not hasattr(args, "told"):  # one object and nothing else
        with contextlib.suppress(OSError):
            print(to_json({"error": sentence}), flush=True)


def _result(args: argparse.Namespace, result: dict[str, Any], lines: str) -> None:
    args.told = True
    try:
        print(to_json(result) if args.json else printed(lines, "\n\t"), flush=True)
    except BrokenPipeError:  # the reader has gone, but a command may have more to do than to print
        discard(sys.stdout)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[None]:
    """Shows on standard error what the package logs; with `quiet` nothing comes there that a command writes."""
    handler, package = logging.Handler(), logging.getLogger("siamese_np")
    handler.emit = lambda record: log(record.getMessage())  # type: ignore[method-assign]
    level = package.level
    with contextlib.ExitStack() as stack:
        if quiet:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        package.addHandler(handler)
        package.setLevel(logging.INFO)
        try:
            yield
        finally:
            package.removeHandler(handler)
            package.setLevel(level)


def _answer(args: argparse.Namespace, status: int, result: dict[str, Any], lines: str) -> int:
    _result(args, result, lines)
    return status


def _log_beside_bar(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(printed(line), file=sys.stderr)
