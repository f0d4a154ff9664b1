# SPDX-License-Identifier: MIT
"""What a guest boots from: a userland, a kernel's modules, petrel as the host built it, an initrd.

Each is a disk of its own, so that only what is new is made: the userland once, modules once for
each kernel, petrel for each run. All are made without mounting anything.
"""

import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from .lab import ROOT, progress

# Beside those of a minimal system: what scripts/lab and the tests call.
USERLAND = ("kmod", "iproute2", "ethtool", "python3", "procps", "nftables", "bpftool",
            "busybox-static", "curl", "ipvsadm", "iputils-ping")
MAKE_S = 600
# What finds and mounts a disk; those that a kernel has built in are no files.
FIRST_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
BINARIES = ("petrel", "petrel-traffic", "balancer_test", "route_cache_netns_test",
            "tap_reader_test", "score_test", "fuzz_test", "flow_model_test", "petrel-bench-packets")


# Of the host, where it has them: a load of scripts/bench --wire.
TOOLS = ("wrk",)


class ImageError(RuntimeError):
    """An image could not be made; the message says which, and why."""


def run(*argv, seconds=MAKE_S, **options):
    try:
        done = subprocess.run([str(part) for part in argv], capture_output=True, text=True,
                              check=False, timeout=seconds, **options)
    except FileNotFoundError as error:
        raise ImageError(f"needs {argv[0]}, which is not installed: run scripts/setup --kernels") \
            from error
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{argv[0]} did not end within {seconds} s") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ImageError(f"{argv[0]}: {' '.join(lines[-3:]) or done.returncode}")
    return done.stdout


def make_disk(path, folder, size_mb):
    """An ext4 image of a folder; whole or not there at all."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    run("mkfs.ext4", "-q", "-d", folder, "-E", "root_owner=0:0", part, f"{size_mb}M")
    os.replace(part, path)


def folder_mb(folder):
    return sum(p.lstat().st_size for p in Path(folder).rglob("*") if not p.is_dir()) >> 20


# --- the userland -------------------------------------------------------------------------------

def make_userland(cache, codename, sources):
    """userland.img and the static busybox out of it."""
    image, busybox = cache / f"userland-{codename}.img", cache / "busybox"
    stamp = cache / f"userland-{codename}.packages"
    if image.exists() and busybox.exists() and stamp.exists() and \
            stamp.read_text(encoding="utf-8").split() == list(USERLAND):
        return image, busybox
    progress("making the guests' userland (once; some minutes)")
    stamp.unlink(missing_ok=True)
    listing = cache / "userland.list"
    listing.write_text("".join(s.line() + "\n" for s in sources), encoding="utf-8")
    archive = cache / "userland.tar"
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(USERLAND)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
        codename, archive, listing)
    folder = cache / "userland"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run("tar", "-x", "--exclude=./dev/*", "-C", folder, "-f", archive)
    for mount_point in ("petrel", "sys/fs/bpf"):
        (folder / mount_point).mkdir(parents=True, exist_ok=True)
    shutil.copy2(folder / "bin/busybox", busybox)
    make_disk(image, folder, folder_mb(folder) * 5 // 4 + 300)
    shutil.rmtree(folder)
    archive.unlink()
    stamp.write_text("\n".join(USERLAND) + "\n", encoding="utf-8")
    return image, busybox


# --- a kernel -----------------------------------------------------------------------------------

def load_order(modules_dep, wanted):
    """Files of the wanted modules with all that they need, in the order in which they load."""
    needs = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {re.sub(r"\.ko(\.\w+)?$", "", Path(p).name).replace("-", "_"): p for p in needs}
    order = []

    def add(path):
        if path in order:
            return
        for need in needs[path]:
            add(need)
        order.append(path)

    for name in wanted:
        if name in by_name:
            add(by_name[name])
    return order


def plain_module(path):
    """A module's bytes as insmod takes them."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def cpio(entries):
    """A newc archive of (name, mode, bytes)."""
    out = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def make_initrd(path, busybox, modules, order):
    folder, regular = 0o040755, 0o100755
    entries = [(name, folder, b"") for name in ("bin", "dev", "proc", "sys", "root", "modules")]
    entries += [("bin/busybox", regular, busybox.read_bytes()),
                ("init", regular, (ROOT / "scripts/lib/guest_initrd.sh").read_bytes())]
    names = []
    for number, module in enumerate(order):
        names.append(f"modules/{number:02}.ko")
        entries.append((names[-1], regular, plain_module(modules / module)))
    path.write_bytes(cpio(entries))


def make_kernel(cache, packages, busybox):
    """(release, vmlinuz, initrd, disk of modules) of a kernel's packages."""
    name = packages[0].name.split("_")[0].removeprefix("linux-image-")
    folder = cache / "kernels" / packages[0].stem
    vmlinuz, initrd, disk = folder / "vmlinuz", folder / "initrd", folder / "modules.img"
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / "tree"
    if not (disk.exists() and vmlinuz.exists()):
        shutil.rmtree(tree, ignore_errors=True)
        for package in packages:
            run("dpkg", "-x", package, tree)
        found = [*tree.glob("boot/vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")]
        modules = next((p for p in (tree / "lib/modules", tree / "usr/lib/modules")
                        if (p / name).is_dir()), None)
        if not found or modules is None:
            raise ImageError(f"the packages of {name} hold no kernel, or none of its modules")
        shutil.copy2(found[0], vmlinuz)  # since 7.0 it lies among the modules, which are moved
        merged = folder / "merged"
        shutil.rmtree(merged, ignore_errors=True)
        (merged / "lib/modules").mkdir(parents=True)
        shutil.move(modules / name, merged / "lib/modules" / name)
        run("depmod", "-b", merged, name)
        lib = merged / "lib/modules"
        (folder / "release").write_text(name, encoding="utf-8")
        keep_first_modules(folder, lib / name)
        make_disk(disk, lib, folder_mb(lib) * 5 // 4 + 48)
        shutil.rmtree(tree)
        shutil.rmtree(merged)
    order = (folder / "first/order").read_text(encoding="utf-8").split()
    make_initrd(initrd, busybox, folder / "first", order)
    return name, vmlinuz, initrd, disk


def keep_first_modules(folder, modules):
    """Those that the initrd holds, for a later one's sake."""
    order = load_order((modules / "modules.dep").read_text(encoding="utf-8"), FIRST_MODULES)
    first = folder / "first"
    shutil.rmtree(first, ignore_errors=True)
    for module in order:
        (first / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(modules / module, first / module)
    first.mkdir(exist_ok=True)
    (first / "order").write_text("\n".join(order) + "\n", encoding="utf-8")


# --- petrel -------------------------------------------------------------------------------------

# Of the C library: must be the guest's own.
OF_THE_LOADER = re.compile(r"^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv)\.so.*)$")


def libraries(binary):
    """Paths of the shared libraries that a program needs."""
    found = []
    for line in run("ldd", binary).splitlines():
        match = re.match(r"\s*(\S+) => (/\S+)", line)
        if match and not OF_THE_LOADER.match(match.group(1)):
            found.append((match.group(1), Path(match.group(2))))
        elif "not found" in line:
            raise ImageError(f"{binary} needs a library that is not there: {line.strip()}")
    return found


def make_petrel(path, work, bin_dir, job):
    """A disk with the host's build, the libraries it needs, scripts, the model and the job."""
    tree = work / "petrel"
    shutil.rmtree(tree, ignore_errors=True)
    for part in ("bin", "lib"):
        (tree / part).mkdir(parents=True)
    for name in BINARIES:
        if not (bin_dir / name).is_file():
            raise ImageError(f"there is no {name} in {bin_dir}")
    tools = [Path(found) for found in map(shutil.which, TOOLS) if found]
    for program in [bin_dir / name for name in BINARIES] + tools:
        run("strip", "-o", tree / "bin" / program.name, program)
        for library, file in libraries(program):
            shutil.copy2(file, tree / "lib" / library)
    shutil.copytree(ROOT / "scripts", tree / "scripts", symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "model", tree / "model", ignore=shutil.ignore_patterns("sample"))
    # Where scripts/lab looks for the lab's own programs.
    objects = tree / "build/host/tests/lab"
    objects.mkdir(parents=True)
    for found in sorted(ROOT.glob("build/*/tests/lab/*.bpf.o"), key=lambda p: p.stat().st_mtime):
        shutil.copy2(found, objects / found.name)  # the newest of each name stays
    (tree / "job.json").write_text(json.dumps(job), encoding="utf-8")
    make_disk(path, tree, folder_mb(tree) * 5 // 4 + 32)
    shutil.rmtree(tree)


def unpack_results(disk, folder):
    """The guest writes a tar onto its last disk; empty until it has."""
    with tarfile.open(disk) as archive:
        archive.extractall(folder, members=[m for m in archive if m.isfile() and "/" not in m.name])
