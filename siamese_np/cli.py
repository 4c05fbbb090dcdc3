"""The command line: parses, calls one function per command, prints. Everything heavy is imported inside.

Results go to standard output, progress and log to standard error. Exit status: 0 done, 1 a check failed, 2 the
user's mistake, 3 a check could not decide, 130 interrupted.
"""

import argparse
import contextlib
import dataclasses
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from siamese_np._process import discard, log, mpi_rank, on_signal, printed, safe_streams, to_json
from siamese_np.errors import OptionError, SiameseError
from siamese_np.options import parse

# Commands that are a function elsewhere: of the arguments it makes exit status, JSON object, and lines for people
ELSEWHERE = {
    "embed": "collection.embed:run",
    "index": "collection.engines:run",
    "compare": "collection.search:compare",
    "search": "collection.search:search",
    "classify": "collection.search:classify",
    "export": "export_command:run",
    "reproduce": "reproduce.command:run",
    "trace": "tracing.command:run",
    "learn": "learn.command:run",
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
            args = parse(arguments)
            follows = args.command == "train" and bool(mpi_rank())  # another rank, which tells
            with _progress(args.quiet or follows):
                if args.threads is not None:
                    from siamese_np import set_threads

                    set_threads(args.threads)
                status = _run(args)
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


def _run(args: argparse.Namespace) -> int:
    if args.command in ELSEWHERE:
        module, _, function = ELSEWHERE[args.command].partition(":")
        status, result, lines = getattr(importlib.import_module(f"siamese_np.{module}"), function)(args)
        _result(args, result, lines)
    else:
        status = HERE[args.command](args)
    return int(status)


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
    from siamese_np.storage import load_model

    siamese = load_model(args.model)
    siamese.views = args.views
    dataset = load_data_of(siamese, args.data, args.split, log)
    if siamese.views:  # the model's threshold is of single embeddings
        siamese.threshold = evaluation.calibrated(siamese.embed, dataset)
    metrics = {"views": siamese.views, **evaluation.evaluate(siamese, dataset).metrics}
    _result(args, metrics, evaluation.text(metrics))
    return 0


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


def bench(args: argparse.Namespace) -> int:
    """Measure this machine, the kernels, whole training steps, and other frameworks beside them."""
    from siamese_np.bench.command import run

    return run(args, _result)


def bench_compare(args: argparse.Namespace) -> int:
    """Say which timings of two benchmark runs became slower."""
    from siamese_np.bench.command import compare

    return compare(args, _result)


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


HERE = {command.__name__: command for command in (train, evaluate, gradcheck, bench, bench_compare, info)}


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


def _log_beside_bar(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(printed(line), file=sys.stderr)
