"""The package's version, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("mitmgate")
except PackageNotFoundError:                # run from a checkout that is not installed
    VERSION = "0+unknown"
