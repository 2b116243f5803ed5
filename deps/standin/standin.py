"""A build back end that builds nothing.

`pip download` asks an sdist's back end for the package's metadata before it keeps the archive, and
the real back ends want compilers and packages that we do not need: we only take C sources out of
the archive. This answers with the metadata that the archive itself carries. deps/fetch puts this
folder first on PYTHONPATH, so it answers for meson-python and for setuptools.
"""
import pathlib
from email.parser import HeaderParser


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    text = pathlib.Path("PKG-INFO").read_text(encoding="utf-8")
    head = HeaderParser().parsestr(text)
    name = head["Name"].replace("-", "_") + "-" + head["Version"] + ".dist-info"
    folder = pathlib.Path(directory, name)
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return name


def get_requires_for_build_wheel(config_settings=None):
    return []


def build_wheel(directory, config_settings=None, metadata_directory=None):
    raise RuntimeError("this package is only fetched for its sources, never built")
