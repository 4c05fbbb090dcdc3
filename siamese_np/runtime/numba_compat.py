"""Every private name of Numba that the package uses, and what takes its place where they do not work.

- Inlined functions stop before they become machine code of their own (`_Library`); in public: plain ``njit``.
- Machine code is kept with checksums, so that a damaged file means a recompile (`_RepairingCache`); in public:
  ``cache=True``, which executes whatever is there.
- A shard is called by its address, its arguments lie in a record (`pack_shards`); in public: on the caller alone.

With public names only, the same bits take twice as long to compile. A self-test tells which to use. It runs in a child
process, because a wrong private call can crash, and its outcome is kept in the cache folder for this version of Numba.
(`siamese_np.kernels.simd.vectors` needs no private names: it builds on ``numba.extending``, which is documented.)
"""

import atexit
import gc
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from siamese_np._process import lock
from siamese_np.errors import OptionError
from siamese_np.runtime.cache import Entries, folder_for
from siamese_np.runtime.scheduler import processors

PASSED = "passed"
CHILD = "from siamese_np.runtime.self_test import main; main()"
_told = False  # by warn_not_kept
SECONDS = 300  # it takes about 3, mostly to compile what is then in the cache
AHEAD = "from siamese_np.warm_up import compile_ahead; compile_ahead()"
TURN_SECONDS = 60  # for which another process may compile a kernel that is also wanted here


def checked() -> bool:
    """What ``SIAMESE_NP_CHECK`` says: whether each access to memory is to be tested."""
    wanted = os.environ.get("SIAMESE_NP_CHECK") or "0"
    if wanted not in ("0", "1"):
        raise OptionError(f"SIAMESE_NP_CHECK must be 0 or 1, not {wanted[:20]!r}")
    return wanted == "1"


def private_names_work() -> bool:
    """What ``SIAMESE_NP_NUMBA`` says ("private" or "public"), else the self-test, now or earlier."""
    wanted = os.environ.get("SIAMESE_NP_NUMBA") or ("public" if numba.config.DISABLE_JIT else "")
    if wanted in ("private", "public"):
        return wanted == "private"
    if wanted:
        raise OptionError(f"SIAMESE_NP_NUMBA must be private or public, not {wanted[:20]!r}")
    file, outcome = None, ""
    with suppress(OSError, RuntimeError, ValueError):  # no safe folder, nothing kept there, or no text
        versions = (numba.__version__, llvmlite.__version__, sys.version, platform.machine())
        file = folder_for("numba", "runtime", also=versions) / "self-test"
        outcome = file.read_text(encoding="utf-8")
    if not outcome:
        try:
            outcome = run_self_test()
            if file:
                file.write_text(outcome, encoding="utf-8")
        except OSError as error:
            file, outcome = None, outcome or f"its self-test cannot be run: {error}"
    if outcome != PASSED:
        again = f"; delete {file} to test again" if file else ""
        says = f"Numba {numba.__version__} does not work here as expected ({outcome})"
        slow = "kernels take twice as long to compile and run on one thread"
        warnings.warn(f"{says}: {slow}{again}", RuntimeWarning, stacklevel=2)
    return outcome == PASSED


def run_self_test() -> str:
    """`PASSED`, or what was wrong; OSError if no child process can be started."""
    if getattr(sys, "frozen", False) or not sys.executable:  # a frozen program would start itself
        raise OSError("this program cannot start another Python")
    try:
        done = subprocess.run(**_child(CHILD), capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"its self-test takes more than {SECONDS} s"
    said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
    return f"its self-test ends with status {done.returncode}: {said}" if done.returncode else PASSED


def _child(code: str) -> dict[str, Any]:
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]
    return {"args": command, "env": {**os.environ, "SIAMESE_NP_NUMBA": "private"}, "stdin": subprocess.DEVNULL}


def kernels_folder(private: bool) -> Path:
    """Folder of machine code, named after all sources, for Numba notices no edit in another file; and tests in it."""
    return folder_for("kernels", "runtime", "kernels", also=(private, CHECKED, numba.config.BOUNDSCHECK))


def compile_in_two_processes() -> None:
    """Where no kernel is compiled yet, start a child that compiles those of a training step, most of them (AHEAD).

    What it has compiled when this process gets there is in the cache. It ends with this process.
    """
    alone = "SIAMESE_NP_NUMBA" in os.environ or numba.config.DISABLE_JIT or processors() == 1
    if alone or getattr(sys, "frozen", False) or not sys.executable:
        return
    with suppress(OSError, RuntimeError):  # no safe folder, or no child can be started
        if not any(kernels_folder(private=True).iterdir()):
            child = subprocess.Popen(**_child(AHEAD), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            atexit.register(child.kill)


CHECKED = checked()
compile_in_two_processes()
PRIVATE = private_names_work()
SHARED = PRIVATE and not (CHECKED or numba.config.BOUNDSCHECK)  # a shard cannot hand on its IndexError

if PRIVATE:
    from numba.core.caching import FunctionCache
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.serialize import dumps
else:  # some version may lack them
    FunctionCache = JITCodeLibrary = Compiler = object

WORD = ir.IntType(64)
ADDRESS = ir.IntType(8).as_pointer()
SHARD = ir.FunctionType(WORD, [ADDRESS, WORD])  # failed = function(record of the arguments, s)
MEMORY = ir.LiteralStructType([WORD, ADDRESS, ADDRESS, ADDRESS, WORD])  # counter, two words of its end, data, bytes


def compile_kernel(function: Callable[..., Any], folder: Path | None, **options: Any) -> Any:
    """`function` compiled on its first call, its machine code kept in `folder`."""
    compiled = None
    if folder is not None:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(folder)  # only while the cache is made: other packages keep theirs
        try:
            compiled = numba.njit(cache=True, **options)(function)
            if PRIVATE:
                compiled._cache = _RepairingCache(function)
        except RuntimeError:  # Numba finds no folder at all
            pass
        finally:
            numba.config.CACHE_DIR = before
        if compiled is None or folder not in Path(compiled.stats.cache_path).parents:
            compiled = None  # never in another folder, which nobody has checked
            warn_not_kept(f"Numba cannot use {folder} for some of them")
    compiled = compiled or numba.njit(**options)(function)
    if PRIVATE:
        compiled.compile = _one_at_a_time(compiled.compile, folder and folder / f"{function.__name__}.lock")
    return compiled


def warn_not_kept(reason: object) -> None:
    """Say that each start compiles anew; once in all, not for each kernel."""
    global _told
    if not _told:
        _told = True
        says = "compiled kernels are not kept, every start compiles anew"
        warnings.warn(f"{says}: {reason}", RuntimeWarning, stacklevel=2)


def _one_at_a_time(compile_once: Callable[[Any], Any], turn: Path | None) -> Callable[[Any], Any]:
    """Wait while another process compiles the same kernel: then it is in the cache.

    And disable garbage collection meanwhile: of all the objects Numba makes, it would take a tenth of the time.
    """

    def compile_faster(signature: Any) -> Any:
        collecting = gc.isenabled()
        gc.disable()
        try:
            with _locked(turn):
                return compile_once(signature)
        finally:
            if collecting:
                gc.enable()

    return compile_faster


@contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    """Keep a file locked, where there can be one. Who keeps it locked for a minute is waited for no longer."""
    with ExitStack() as stack:
        with suppress(OSError):
            if path:
                file, last = stack.enter_context(open(path, "ab")), time.monotonic() + TURN_SECONDS
                while not lock(file.fileno()) and time.monotonic() < last:
                    time.sleep(0.01)
        yield


class _RepairingCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache with our files, where a damaged one means a recompile and a full disk means no cache."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        made_from = f"{numba.__version__} {self._impl.locator.get_source_stamp()}"
        self._cache_file = Entries(Path(self._cache_path), self._impl.filename_base, made_from, dumps)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(Exception):  # what was saved may fit no more, in any way
            return super().load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            warn_not_kept(error)


def compile_inlined(function: Callable[..., Any], arrays: bool, **options: Any) -> Any:
    """`function` as a piece of the kernels that call it. All options are given: it would inherit its first caller's."""
    options["no_cpython_wrapper"] = True
    if not PRIVATE:
        return numba.njit(**options)(function)
    options["forceinline"] = bool(options["fastmath"])
    compiled = numba.njit(pipeline_class=_InlinedCompiler, _nrt=arrays, **options)(function)
    template = compiled.get_call_template
    compiled.get_call_template = lambda args, kws: template([_unliteral(arg) for arg in args], kws)
    return compiled


class _InlinedCompiler(Compiler):  # type: ignore[misc]
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.state.library = _Library(self.state.targetctx.codegen(), "inlined")


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """Code that waits to be linked into that of others: it is neither optimised nor translated on its own."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> "_Library":
        return self

    def set_env(self, name: str, env: Any) -> None:
        """There is no environment: it is what functions need that call back into Python."""


def _unliteral(typed: Any) -> Any:
    """The type of any number, where Numba knows that it is always the same: or each would be compiled for it."""
    if isinstance(typed, types.BaseNamedTuple):  # Numba makes none of literals
        return typed
    if isinstance(typed, types.BaseTuple):
        return types.Tuple([_unliteral(item) for item in typed])
    return types.unliteral(typed)


def pack_shards(function: Any) -> Any:
    """For compiled code, ``pack(arguments)`` of an inlined ``function(*arguments, s)``.

    It gives the address of a `SHARD` and of its first argument, a record on the stack of the caller.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def pack(typing_context: Any, arguments: Any) -> Any:
        given = (*arguments.types, types.int64)
        wanted = types.Dispatcher(function).get_call_type(typing_context, given, {})

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            casted = context.cast(builder, values[0], arguments, types.Tuple(wanted.args[:-1]))
            record = cgutils.alloca_once_value(builder, casted)
            compiled = function.overloads[tuple(wanted.args)]
            context.active_code_library.add_linking_library(compiled.library)
            callee = context.declare_function(builder.module, compiled.fndesc)
            shard = ir.Function(builder.module, SHARD, builder.module.get_unique_name(f"{builder.function.name}.shard"))
            shard.linkage = "internal"
            body = ir.IRBuilder(shard.append_basic_block())
            src = body.bitcast(shard.args[0], casted.type.as_pointer())
            loaded = [body.load(cgutils.gep_inbounds(body, src, 0, i)) for i in range(len(arguments))]
            called = (wanted.return_type, wanted.args, [*loaded, shard.args[1]])
            status, _ = context.call_conv.call_function(body, callee, *called)
            body.ret(body.zext(status.is_error, WORD))
            addresses = [builder.ptrtoint(shard, WORD), builder.ptrtoint(record, WORD)]
            return context.make_tuple(builder, signature.return_type, addresses)

        return types.UniTuple(types.int64, 2)(arguments), generate

    return pack


def check_bounds(context: Any, b: Any, array: Any, first: Any, count: int) -> None:
    """For compiled code, IndexError unless the `count` numbers from `first` on are in the array or its padding.

    Padding is what was allocated for it past its end; of what Python allocated the size is kept as 0.
    """
    size = cgutils.alloca_once_value(b, array.nitems)
    with b.if_then(cgutils.is_not_null(b, array.meminfo)):
        memory = b.bitcast(array.meminfo, MEMORY.as_pointer())
        data, length = (b.load(cgutils.gep_inbounds(b, memory, 0, i)) for i in (3, 4))
        left = b.sub(b.add(b.ptrtoint(data, WORD), length), b.ptrtoint(array.data, WORD))
        numbers = b.sdiv(left, array.itemsize)
        b.store(b.select(b.icmp_signed(">", numbers, array.nitems), numbers, array.nitems), size)
    last = b.sub(b.load(size), WORD(count))
    with cgutils.if_unlikely(b, b.or_(b.icmp_signed("<", first, WORD(0)), b.icmp_signed(">", first, last))):
        where = f"{context.fndesc.modname}.{context.fndesc.qualname}"
        context.call_conv.return_user_exc(b, IndexError, (f"{where} reaches outside of an array",))
