# SPDX-License-Identifier: MIT
"""Kernels as Debian packages: which there are, and where their files lie once fetched.

apt works in a root of its own with lists of its own, so that the host's are left as they are; its
sources are the host's with other suites. Standard library only.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Which release gives which kernels: the archive's suites, and whether they lie beside the security
# archive's. The oldest has 5.10.
RELEASES = ("bullseye", "bookworm", "trixie")
BACKPORTS = ("bookworm", "trixie")
UPDATE_S = 600
READ_S = 300
FETCH_S = 600

# Those for virtual machines: a third of the size, and configured as the others where BPF is.
IMAGE = re.compile(r"linux-image-(\d+\.\d+)(\.\d+.*)-cloud-amd64$")


class AptError(RuntimeError):
    """apt could not do what it was asked to; the message says what it said."""


@dataclass(frozen=True)
class Source:
    uri: str
    suite: str
    keyring: str = ""

    def line(self):
        signed = f"[signed-by={self.keyring}] " if self.keyring else ""
        return f"deb {signed}{self.uri} {self.suite} main"


def parse_one_line(text):
    """Sources of a sources.list: `deb [options] URI suite component...`."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+\S", line)
        if match:
            options, uri, suite = match.groups()
            keyring = re.search(r"signed-by=(\S+)", options or "")
            found.append(Source(uri, suite, keyring.group(1) if keyring else ""))
    return found


def parse_deb822(text):
    """Sources of a .sources file."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = {}
        for line in stanza.splitlines():
            if not line.startswith(("#", " ", "\t")) and ":" in line:
                name, value = line.split(":", 1)
                fields[name.strip().lower()] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes") == "no":
            continue
        keyring = fields.get("signed-by", "")
        found += [Source(uri, suite, keyring if keyring.startswith("/") else "")
                  for uri in fields.get("uris", "").split()
                  for suite in fields.get("suites", "").split()]
    return found


def host_sources(folder=Path("/etc/apt")):
    found = []
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
        found += parse(path.read_text(encoding="utf-8"))
    return found


def debian_sources(sources, codename):
    """The archive and the security archive (or None) that serve the host's own release."""
    archive = next((s for s in sources if s.suite == codename), None)
    if archive is None:
        raise AptError(f"apt's sources name no suite {codename}: from where Debian's packages come "
                       "is not known")
    return archive, next((s for s in sources if s.suite == f"{codename}-security"), None)


def kernel_sources(archive, security):
    """All suites that have kernels, from where the host's own release comes."""
    found = []
    for release in RELEASES:
        found.append(Source(archive.uri, release, archive.keyring))
        if security is not None:
            found.append(Source(security.uri, f"{release}-security", security.keyring))
    found += [Source(archive.uri, f"{release}-backports", archive.keyring)
              for release in BACKPORTS]
    return [*found, Source(archive.uri, "sid", archive.keyring)]


def release_sources(archive, security):
    """The host's own release, for the guest's programs."""
    return [archive] + ([security] if security is not None else [])


def version_key(text):
    """Orders 5.10.0-46 before 5.10.0-100 and 6.12 before 6.100."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def newest_of_each(packages):
    """{"5.10": package of the newest image of 5.10, ...}, the oldest kernel first."""
    found = {}
    for package in packages:
        match = IMAGE.match(package)
        if not match:
            continue
        # 6.1.0-0.deb11.52 is the host's 6.1 made for an older release.
        series, rest = match.group(1), match.group(2)
        rank = ("-0.deb" not in rest, version_key(rest))
        if series not in found or rank > found[series][0]:
            found[series] = (rank, package)
    return {series: found[series][1] for series in sorted(found, key=version_key)}


class Apt:
    """apt with its lists and packages below `folder`."""

    def __init__(self, folder, sources):
        self.root = Path(folder) / "apt"
        self.packages = Path(folder) / "packages"
        for part in ("etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d",
                     "var/lib/apt/lists/partial", "var/cache/apt/archives/partial",
                     "var/lib/dpkg"):
            (self.root / part).mkdir(parents=True, exist_ok=True)
        self.packages.mkdir(parents=True, exist_ok=True)
        self.status = self.root / "var/lib/dpkg/status"
        self.status.touch()
        lines = "".join(source.line() + "\n" for source in sources)
        (self.root / "etc/apt/sources.list").write_text(lines, encoding="utf-8")

    # The host's apt.conf.d (a proxy, say) stays in force: only folders are other ones.
    def _options(self):
        return ["-q", "-o", f"Dir::State={self.root}/var/lib/apt",
                "-o", f"Dir::State::status={self.status}",
                "-o", f"Dir::Cache={self.root}/var/cache/apt",
                # Containers' apt keeps none, and reads all lists anew each time.
                "-o", "Dir::Cache::pkgcache=pkgcache.bin",
                "-o", "Dir::Cache::srcpkgcache=srcpkgcache.bin",
                "-o", f"Dir::Etc::sourcelist={self.root}/etc/apt/sources.list",
                "-o", f"Dir::Etc::sourceparts={self.root}/etc/apt/sources.list.d",
                "-o", f"Dir::Etc::preferences={self.root}/etc/apt/preferences",
                "-o", f"Dir::Etc::preferencesparts={self.root}/etc/apt/preferences.d",
                "-o", "APT::Sandbox::User=root"]

    def _run(self, tool, *arguments, seconds, cwd=None):
        try:
            done = subprocess.run([tool, *self._options(), *arguments], capture_output=True,
                                  text=True, check=False, timeout=seconds, cwd=cwd)
        except FileNotFoundError as error:
            raise AptError(f"there is no {tool}: kernels come as Debian packages") from error
        except subprocess.TimeoutExpired as error:
            raise AptError(f"{tool} {arguments[0]} did not end within {seconds} s") from error
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            raise AptError(f"{tool} {' '.join(arguments)}: {' '.join(said) or done.stderr.strip()}")
        return done.stdout

    def update(self):
        """The lists of all suites. One that is not there does not stop the others."""
        try:
            self._run("apt-get", "update", seconds=UPDATE_S)
        except AptError as error:
            if not any((self.root / "var/lib/apt/lists").glob("*_Packages*")):
                raise
            return str(error)
        return None

    def images(self):
        return newest_of_each(self._run("apt-cache", "pkgnames", "linux-image-",
                                        seconds=READ_S).split())

    def parts(self, image):
        """The image's package, and those that it is split into since 7.0."""
        shown = self._run("apt-cache", "show", "--no-all-versions", image, seconds=READ_S)
        depends = re.search(r"^Depends: (.*)$", shown, re.M)
        if depends is None:
            return [image]
        return [image, *re.findall(r"linux-(?:binary|modules)-[^\s,()]+", depends.group(1))]

    def fetch(self, image):
        """The .deb files of an image; those that are there already are not fetched again."""
        found = []
        for name in self.parts(image):
            shown = self._run("apt-cache", "show", "--no-all-versions", name, seconds=READ_S)
            version = re.search(r"^Version: (\S+)$", shown, re.M).group(1)
            path = self.packages / f"{name}_{version.replace(':', '%3a')}_amd64.deb"
            if not path.exists():
                self._run("apt-get", "download", f"{name}={version}", seconds=FETCH_S,
                          cwd=self.packages)
            if not path.exists():
                raise AptError(f"apt-get download left no {path.name}")
            found.append(path)
        return found
