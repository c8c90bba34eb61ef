"""Compiles C with the system's compiler into a cache shared by all processes of a user.

Used for pipelines (shared objects), the switch process and the traffic tool (executables). Results live in
``${XDG_CACHE_HOME:-~/.cache}/shadowplane/`` under a name that hashes every input: source and header contents, flags
and the compiler's version. A file lock lets many processes that start at once compile once.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.api import CompilerMissing, EngineError
from engine.priority import ordinarily

NATIVE = Path(__file__).resolve().parent / "native"
INCLUDE = NATIVE / "include"
BASE_FLAGS = ("-std=gnu11", "-O2", "-g1", "-Wall", "-Wextra", "-fno-strict-aliasing", "-pipe")


class BuildError(EngineError):
    """The compiler rejected a source; the text holds its messages."""


def cache_dir() -> Path:
    """The cache directory, created when missing (mode 0700).

    EngineError when that cannot be done, and for one that somebody else may put code into: what is in it is run.
    """
    advice = "set XDG_CACHE_HOME to a directory of your own"
    try:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    except RuntimeError:  # a user whom the system does not know, without HOME
        raise EngineError(f"no home directory to keep compiled code in; {advice}") from None
    path = Path(base) / "shadowplane"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = path.stat()
    except OSError as error:
        raise EngineError(f"cache directory {path}: {error.strerror}; {advice}") from None
    if status.st_uid not in _trusted():
        raise EngineError(f"cache directory {path} belongs to somebody else (user {status.st_uid}); {advice}")
    if status.st_mode & stat.S_IWOTH:
        raise EngineError(f"cache directory {path} can be written to by everybody; {advice}, or `chmod o-w {path}`")
    return path


def _trusted() -> set[int]:
    """Whose compiled code is run: ours, root's, and that of whoever called us by sudo, whose program this is anyway."""
    us = os.geteuid()
    caller = os.environ.get("SUDO_UID", "")
    return {us, 0, int(caller)} if us == 0 and caller.isdigit() else {us, 0}


def compiler() -> list[str]:
    """The C compiler's command: ``$CC``, else cc, gcc or clang; :class:`CompilerMissing` when there is none."""
    wanted = os.environ.get("CC")
    if wanted:
        try:
            command = shlex.split(wanted)
        except ValueError as error:
            raise CompilerMissing(f"CC={wanted!r}: {error}") from None
        if command and shutil.which(command[0]):
            return command
        raise CompilerMissing(f"CC={wanted!r} is not an executable; unset CC or install a C compiler")
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return [found]
    raise CompilerMissing(
        "no C compiler found (looked for $CC, cc, gcc, clang); "
        "the embedded switch compiles P4 programs: install one, for example `apt install gcc libc6-dev`"
    )


@functools.cache
def _version(command: tuple[str, ...], identity: tuple[float, int]) -> str:
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilerMissing(f"{shlex.join(command)} --version fails: {error}") from error
    return done.stdout


def compiler_version() -> str:
    """First lines of ``cc --version``; part of every cache key."""
    command = compiler()
    found = Path(shutil.which(command[0]) or command[0])
    status = found.stat()
    return _version(tuple(command), (status.st_mtime, status.st_size))


def sources_key(files: Iterable[Path], extra: Iterable[str] = ()) -> str:
    """Hash of file names, file contents and strings, in order."""
    digest = hashlib.sha256()
    for file in files:
        data = file.read_bytes()
        digest.update(f"{file.name}\0{len(data)}\0".encode())
        digest.update(data)
    for text in extra:
        digest.update(f"\0{len(text)}\0{text}".encode())
    return digest.hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(
    sources: Sequence[Path],
    suffix: str,
    *,
    name: str,
    link: Sequence[str],
    flags: Sequence[str],
    generated: Mapping[str, str],
    include: Sequence[Path],
    libraries: Sequence[str],
    jobs: int,
) -> Path:
    command = compiler()
    all_flags = [*BASE_FLAGS, *flags]
    directories = [INCLUDE, *include]
    headers = sorted(h for d in directories for h in d.glob("*.h"))
    texts = [f"{file}\n{text}" for file, text in generated.items()]
    key = sources_key(
        [*sources, *headers],
        [compiler_version(), *command, *all_flags, *link, *libraries, *texts],
    )
    target = cache_dir() / f"{name}-{key}{suffix}"
    if whole(target):
        touch(target)
        return target
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise EngineError(
            f"cache directory {target.parent}: cannot be written to; set XDG_CACHE_HOME to a directory that can"
        )
    with _locked(target.with_suffix(".lock")):
        if whole(target):
            return target
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache_dir()) as scratch:
            work = Path(scratch)
            for file, text in generated.items():
                (work / file).write_text(text)
            units = [*sources, *(work / file for file in generated if file.endswith(".c"))]
            includes = [f"-I{d}" for d in (work, *directories)]
            objects = [work / f"{i}-{unit.stem}.o" for i, unit in enumerate(units)]
            # What is the same for every program is compiled once: its objects are kept, too
            kept: dict[Path, Path] = {}
            if not any(file.endswith(".h") for file in generated):
                for unit, obj in zip(units[: len(sources)], objects, strict=False):
                    own = sources_key([unit, *headers], [compiler_version(), *command, *all_flags])
                    kept[obj] = cache_dir() / f"object-{own}.o"
            missing = [obj for obj in objects if obj not in kept or not whole(kept[obj])]
            commands = [
                [*command, *all_flags, *includes, "-c", str(unit), "-o", str(obj)]
                for unit, obj in zip(units, objects, strict=True)
                if obj in missing
            ]
            _run_all(commands, jobs)
            for obj in missing:
                if obj in kept:
                    _to_disk(obj)
                    obj.replace(kept[obj])
            objects = [kept.get(obj, obj) for obj in objects]
            out = work / ("out" + suffix)
            _run_all([[*command, *all_flags, *link, *map(str, objects), "-o", str(out), *libraries]], 1)
            _to_disk(out)  # half a library after a power cut would end every process that loads it
            out.replace(target)
    return target


def whole(path: Path) -> bool:
    """Whether a compiled file is there and reaches to its end: one that was cut short, say by a full disk when it was
    copied, would end every process that loads it. What is looked at is the table that ELF files end with.
    """
    try:
        with path.open("rb") as file:
            head, size = file.read(64), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return False
    if len(head) < 64 or not head.startswith(b"\x7fELF"):
        return False
    if head[4:6] != b"\x02\x01":  # neither 64 bits nor little-endian: not looked into
        return True
    (at,), (each, count) = struct.unpack_from("<Q", head, 0x28), struct.unpack_from("<HH", head, 0x3A)
    return bool(at + each * count <= size)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all; ``OSError``."""
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}-", dir=path.parent, delete=False) as scratch:
        work = Path(scratch.name)
        try:
            scratch.write(data)
            # As what compilers write: whoever may read the shared objects may read what belongs to them
            os.fchmod(scratch.fileno(), 0o644)
            scratch.close()
            _to_disk(work)
            work.replace(path)
        except BaseException:
            work.unlink(missing_ok=True)
            raise


def touch(path: Path) -> None:
    """Record the use, so that a cleaner can tell what is stale; a read-only cache is fine."""
    try:
        os.utime(path)
    except PermissionError:
        return


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _run_all(commands: Sequence[list[str]], jobs: int) -> None:
    pending = list(reversed(commands))
    running: list[tuple[list[str], subprocess.Popen[str]]] = []
    try:
        while pending or running:
            while pending and len(running) < jobs:
                cmd = pending.pop()
                running.append((cmd, ordinarily(functools.partial(_start, cmd))))
            cmd, process = running.pop(0)
            output, _ = process.communicate()
            if process.returncode:
                raise BuildError(f"{shlex.join(cmd)} failed ({process.returncode}):\n{output.strip()[-4000:]}")
    finally:
        for _cmd, process in running:
            process.kill()
            process.communicate()


def build_shared(
    sources: Sequence[Path],
    *,
    name: str,
    generated: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    include: Sequence[Path] = (),
    libraries: Sequence[str] = (),
    jobs: int = 2,
) -> Path:
    """Compile ``sources`` and ``generated`` (file name to text; headers allowed) to a cached shared object.

    ``engine/native/include`` is always on the include path. Raises :class:`CompilerMissing` or :class:`BuildError`.
    """
    return _build(
        sources,
        ".so",
        name=name,
        link=("-shared", "-Wl,-z,defs"),
        flags=("-fPIC", "-fvisibility=hidden", *flags),
        generated=generated or {},
        include=include,
        libraries=libraries,
        jobs=jobs,
    )


def build_executable(
    sources: Sequence[Path],
    *,
    name: str,
    generated: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    include: Sequence[Path] = (),
    libraries: Sequence[str] = (),
    jobs: int = 2,
) -> Path:
    """As :func:`build_shared`, for an executable (``libraries`` such as ``-lm``, ``-ldl``)."""
    return _build(
        sources,
        "",
        name=name,
        link=(),
        flags=flags,
        generated=generated or {},
        include=include,
        libraries=libraries,
        jobs=jobs,
    )
