"""The command line: parses, calls one function per command, prints. Everything heavy is imported inside.

Results go to standard output, progress and log to standard error. Exit status: 0 done, 1 a check failed, 2 the
user's mistake, 3 a check could not decide, 130 interrupted.
"""

import argparse
import codecs
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from siamese_np.errors import ModelError, OptionError, SiameseError

if TYPE_CHECKING:
    from siamese_np.network import SiameseNetwork

# What --overwrite removes, in this order: what is left when it is interrupted is a run that can be resumed, or none
RUN_FILES = ("metrics.json", "report.html", "history.csv", "model.npz", "checkpoint.npz")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    with _streams():
        args = _parser().parse_args(arguments)
        try:
            if args.threads is not None:
                from siamese_np.runtime.scheduler import set_threads

                set_threads(args.threads)
            status: int = args.command(args)
            sys.stdout.flush()
            return status
        except SiameseError as error:
            _log(f"siamese-np: {error}")
            return 2
        except BrokenPipeError:  # the reader of our output has gone: nothing more to say to it
            return 0
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _log(f"siamese-np: {where}{error.strerror or error}")
            return 2
        except KeyboardInterrupt:
            _log("siamese-np: interrupted")
            return 130


def train(args: argparse.Namespace) -> int:
    """Train, judge on the test images, draw, save."""
    from siamese_np.datasets import load_dataset
    from siamese_np.run_folder import judge, text, write_history, write_run
    from siamese_np.storage import versions
    from siamese_np.training import Options, Training

    names = ("preset", "protocol", "epochs", "batch_size", "seed", "margin", "learning_rate", "optimizer", "schedule")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.resume is not None:
        if given or args.out is not None:
            wrong = "--" + next(iter([*given, "out"])).replace("_", "-")
            raise OptionError(f"{wrong} cannot go with --resume: a resumed run keeps its options and its folder")
        dataset = load_dataset(args.data)
        folder = Path(args.resume)
        run = Training.resume(dataset, folder)
        _log(f"resuming {folder} after epoch {len(run.history)}")
    else:
        options = Options.of(**given)
        dataset = load_dataset(args.data)
        run = Training(dataset, options)
        folder = run.folder = _new_run_folder(args.out, options.preset, args.overwrite)

    _log(f"{dataset.name}: training on {run.protocol.says}")
    _log("options: " + ", ".join(f"{name} {value}" for name, value in vars(run.options).items()))
    _log(f"run folder: {folder}")
    try:
        run.run(_log_beside_bar, show_bar=sys.stderr.isatty())
    except BaseException:
        with contextlib.suppress(OSError):  # what ended the training is what the user must hear of
            write_history(folder, run.history)
        raise
    write_history(folder, run.history)
    _log(f"trained in {run.seconds:.1f} s; compiling or loading the kernels before took {run.compile_seconds:.1f} s")
    if run.interrupted:
        _log(f"interrupted; the weights of epoch {run.best_epoch} are kept, `--resume {folder}` goes on")
        return 130

    _log("judging on the test images")
    judgement = judge(run.siamese, dataset)
    figures = {
        **judgement.figures,
        "seconds": run.seconds,
        "images_per_second": run.history[-1]["images_per_second"],
        "compile_seconds": run.compile_seconds,
        "epoch": run.best_epoch,
        "options": vars(run.options),
        "versions": versions(),
        "run": str(folder),
    }
    _result(args, figures, text(figures) + f"\n  trained in {run.seconds:.1f} s")
    _log("drawing")
    write_run(folder, judgement, dataset, run.history, figures)
    _log(f"pictures and page: {folder / 'report.html'}")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Judge a saved model on the test images."""
    from siamese_np.datasets import load_dataset
    from siamese_np.run_folder import judge, text

    figures = judge(_load(args.model), load_dataset(args.data)).figures
    _result(args, figures, text(figures))
    return 0


def embed(args: argparse.Namespace) -> int:
    """Write the embeddings of image files, folders and IDX files."""
    import time

    from siamese_np.datasets import load_images
    from siamese_np.storage import EMBEDDING_SUFFIXES, fingerprint, write_embeddings

    output = Path(args.output)
    if output.suffix not in EMBEDDING_SUFFIXES:
        raise OptionError(f"--output must end in one of {', '.join(EMBEDDING_SUFFIXES)}, not {output.name!r}")
    if not output.parent.is_dir():
        raise OptionError(f"there is no folder {output.parent} for --output")
    siamese = _load(args.model)
    images, names = load_images(args.input)
    siamese.embed(images[:1])
    start = time.perf_counter()
    emb = siamese.embed(images)
    seconds = time.perf_counter() - start
    write_embeddings(output, emb, names, fingerprint(siamese))
    figures = {
        "images": len(emb),
        "embedding_size": emb.shape[1],
        "output": str(output),
        "seconds": seconds,
        "images_per_second": len(emb) / seconds,
    }
    _result(args, figures, f"{len(emb):,} embeddings of {emb.shape[1]} numbers written to {output}")
    return 0


def compare(args: argparse.Namespace) -> int:
    """Say how far apart two images are."""
    from siamese_np.datasets import read_image

    siamese = _load(args.model)
    a, b = (read_image(path)[None, :, :, None] for path in (args.a, args.b))
    distance = float(siamese.distances(a, b)[0])
    figures = {"distance": distance, "threshold": siamese.threshold, "similar": distance < siamese.threshold}
    verdict, sign = ("similar", "below") if figures["similar"] else ("dissimilar", "not below")
    _result(args, figures, f"{verdict}: distance {distance:.4f} is {sign} the threshold {siamese.threshold:.4f}")
    return 0


def search(args: argparse.Namespace) -> int:
    """List the images of an index that are nearest to a query image."""
    from siamese_np.datasets import read_image
    from siamese_np.metrics import nearest
    from siamese_np.storage import fingerprint, read_embeddings

    siamese = _load(args.model)
    emb, paths = read_embeddings(Path(args.index), siamese.network.output_shape[0], fingerprint(siamese))
    query = siamese.embed(read_image(args.query)[None, :, :, None])
    indices, distances = nearest(query, emb, min(args.k, len(emb)) if args.k > 0 else args.k)
    found = [
        {"path": paths[i], "distance": float(d), "similar": bool(d < siamese.threshold)}
        for i, d in zip(indices[0], distances[0], strict=True)
    ]
    lines = [
        f"{hit['distance']:8.4f}  {'similar   ' if hit['similar'] else 'dissimilar'}  {hit['path']}" for hit in found
    ]
    _result(args, {"threshold": siamese.threshold, "nearest": found}, "\n".join(lines))
    return 0


def gradcheck(args: argparse.Namespace) -> int:
    """Check the gradients of everything here, of one operation, or of a person's own layer."""
    import time

    from siamese_np.gradcheck import check_target
    from siamese_np.gradcheck.report import EXIT, text

    if args.plot and not Path(args.plot).absolute().parent.is_dir():
        raise OptionError(f"there is no folder {Path(args.plot).parent} for --plot")
    start = time.perf_counter()
    report = check_target(args.target, args.shape, args.seed)
    seconds = time.perf_counter() - start
    if args.plot:
        from siamese_np.gradcheck.curve import plot

        plot(report, args.plot)
        _log(f"V-curves: {args.plot}")
    _result(args, report.to_dict(), text(report, seconds, curves=args.target is not None))
    return EXIT[report.verdict]


def bench(args: argparse.Namespace) -> int:
    """Measure this machine, the kernels, whole training steps, and other frameworks beside them."""
    from siamese_np.bench.command import run

    return run(args)


def bench_compare(args: argparse.Namespace) -> int:
    """Say which timings of two benchmark runs became slower."""
    from siamese_np.bench.command import compare

    return compare(args)


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
    figures: dict[str, Any] = {
        "versions": versions(),
        "processor": platform.processor() or platform.machine(),
        "threads": get_threads(),
        "kernel_cache": str(folder) if folder else None,
        "compiled_kernels": len(list(folder.rglob("*.nbc"))) if folder else 0,
        "warm_up_seconds": seconds,
    }
    lines = [f"{name} {version}" for name, version in figures["versions"].items()]
    lines += [
        f"threads {figures['threads']} ({figures['processor']})",
        f"compiled kernels: {figures['compiled_kernels']} in {folder or 'no folder, compiled anew at each start'}",
    ]
    if seconds:
        lines += [f"  {name}: {value:.2f} s" for name, value in seconds.items()]
        lines.append(f"compiled or loaded in {sum(seconds.values()):.1f} s")
    _result(args, figures, "\n".join(lines))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="siamese-np",
        description="Siamese networks on MNIST with contrastive loss, every gradient by hand, in NumPy and Numba.",
        epilog="Exit status: 0 done, 1 a check failed, 2 your mistake (one sentence says which), "
        "3 a check could not decide, 130 interrupted.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function: Any, description: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=description, description=description)
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        sub.add_argument("--threads", type=int, metavar="T", help="threads to use (all processors)")
        return sub

    model_help = "run folder, or a model.npz"
    data_help = "folder of IDX files with MNIST's names (the bundled MNIST)"

    sub = command(train, "train a network, judge it on the test images, draw and save the results")
    sub.add_argument("--preset", metavar="P", help="cnn or mlp (cnn)")
    sub.add_argument("--protocol", metavar="P", help="batch or notebook (batch)")
    sub.add_argument("--epochs", type=int, metavar="N", help="passes over the data (batch 4, notebook 5)")
    sub.add_argument("--batch-size", type=int, metavar="B", help="images (batch 256) or pairs (notebook 32) a step")
    sub.add_argument("--seed", type=int, metavar="S", help="seed of everything random (0)")
    sub.add_argument("--margin", type=float, metavar="M", help="margin of the contrastive loss (1)")
    sub.add_argument("--learning-rate", type=float, metavar="R", help="at the top of the schedule")
    sub.add_argument("--optimizer", metavar="O", help="adam or sgd (adam)")
    sub.add_argument("--schedule", metavar="S", help="constant, cosine or one-cycle (one-cycle)")
    sub.add_argument("--data", metavar="DIR", help=data_help)
    sub.add_argument("--out", metavar="RUN", help="run folder to write (runs/PRESET-1, -2, ...)")
    sub.add_argument("--overwrite", action="store_true", help="write into --out though it holds a run")
    sub.add_argument("--resume", metavar="RUN", help="go on with an interrupted run")

    sub = command(evaluate, "judge a saved model on the test images")
    sub.add_argument("model", metavar="MODEL", help=model_help)
    sub.add_argument("--data", metavar="DIR", help=data_help)

    sub = command(embed, "write the embeddings of images")
    sub.add_argument("model", metavar="MODEL", help=model_help)
    sub.add_argument("input", metavar="INPUT", nargs="+", help="image file, folder of images, or IDX file")
    sub.add_argument("-o", "--output", metavar="FILE", required=True, help=".npy, .npz (with paths) or .csv")

    sub = command(compare, "say how far apart two images are, and whether they are similar")
    sub.add_argument("model", metavar="MODEL", help=model_help)
    sub.add_argument("a", metavar="A", help="image file")
    sub.add_argument("b", metavar="B", help="image file")

    sub = command(search, "list the images of an index nearest to a query image")
    sub.add_argument("model", metavar="MODEL", help=model_help)
    sub.add_argument("query", metavar="QUERY", help="image file")
    sub.add_argument("--index", metavar="FILE", required=True, help=".npz written by embed")
    sub.add_argument("-k", type=int, default=5, metavar="K", help="how many (5)")

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
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="seed of everything random (0)")
    sub.add_argument("--plot", metavar="FILE", help="save the V-curves, error against step, as a PNG picture")

    sub = command(bench, "measure this machine, the kernels, training, and other frameworks beside them")
    sub.add_argument("--quick", action="store_true", help="at most a minute, with less of everything")
    sub.add_argument(
        "--only", metavar="NAME", nargs="+", action="extend", help="sections: clocks ladder end-to-end peers (all)"
    )
    sub.add_argument("--out", metavar="DIR", help="folder for benchmark.json, benchmark.md and pictures (none)")
    sub.add_argument("--rung", metavar="FILE.py", help="put your own kernels on the ladder")
    sub.add_argument("--peer-python", metavar="PYTHON", help="interpreter that has the other frameworks (this one)")
    old_new = sub.add_subparsers(metavar="compare OLD NEW").add_parser(
        "compare", description="Say which timings became slower; exit status 1 if any did."
    )
    old_new.set_defaults(command=bench_compare)
    old_new.add_argument("old", metavar="OLD", help="benchmark.json, or its folder")
    old_new.add_argument("new", metavar="NEW", help="benchmark.json, or its folder")
    old_new.add_argument("--fail-over", metavar="P%", default="5%", help="least change that matters (5%%)")
    old_new.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    sub = command(info, "say what this installation is and uses")
    sub.add_argument("--warm-up", action="store_true", help="compile all kernels of the presets now")
    return parser


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(length) for length in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a shape is whole numbers such as 4,10, not {text!r}") from None


def _load(model: str) -> "SiameseNetwork":
    from siamese_np.storage import load_model

    return load_model(model)


def _new_run_folder(out: str | None, preset: str, overwrite: bool) -> Path:
    """Make the run folder: `out`, or the next free one; never over an existing run unless asked."""
    if out is None:
        number = 1
        while (folder := Path("runs") / f"{preset}-{number}").exists():
            number += 1
    else:
        folder = Path(out)
        if folder.exists() and not folder.is_dir():
            raise ModelError(f"{folder} is a file, but a run needs a folder")
        if folder.is_dir() and any(folder.iterdir()):
            if not overwrite:
                raise ModelError(f"{folder} is not empty; choose another --out, or add --overwrite to write over it")
            for name in RUN_FILES:
                (folder / name).unlink(missing_ok=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ModelError(f"the run folder {folder} cannot be written: {error.strerror or error}") from None
    return folder


def _result(args: argparse.Namespace, figures: dict[str, Any], lines: str) -> None:
    try:
        print(json.dumps(figures) if args.json else lines, flush=True)
    except BrokenPipeError:  # the reader has gone, but a command may have more to do than to print
        _discard(sys.stdout)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _log_beside_bar(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


class _Log:
    """Standard error for the time of a command: what cannot be written to it is dropped, and ends nothing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Make standard output and standard error safe to write to, whatever the caller of the command made of them.

    A reader of the log may leave, its disk may be full, or there may be no stream at all: that is no reason to
    end a training. Python itself writes what is left in its buffers at exit, and failing there changes the exit
    status, so such a stream is turned to nowhere.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed; its descriptor must not become that of a file we write
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="siamese_np.escape")
    out, log = sys.stdout, sys.stderr
    try:
        with contextlib.redirect_stderr(cast(Any, _Log(log))):
            yield
    finally:
        for stream in (out, log):
            try:
                stream.flush()
            except (OSError, ValueError):
                _discard(stream)


def _discard(stream: Any) -> None:
    """Let all that is still written to `stream` go nowhere."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what a stream cannot: a file name's bytes as they are, any other character as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error("siamese_np.escape", _escape)
