"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017; MIT licence), when it is not on the machine."""

from collections.abc import Mapping
from pathlib import Path

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
BASE_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"


def fetch(files: tuple[str, ...], folder: Path, base_url: str = BASE_URL) -> Mapping[str, Path]:
    """Download the gzip files into `folder` (kept there) and return their paths by name.

    A file appears in `folder` only when it is complete. Raises `ValueError` naming the address when
    one cannot be had. The content is verified by whoever reads it.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    found = {}
    for file in files:
        url = f"{base_url.rstrip('/')}/{file}.gz"
        try:
            path = pooch.retrieve(
                url,
                known_hash=None,
                fname=f"{file}.gz",
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
            )
        except (requests.RequestException, OSError) as error:
            raise ValueError(
                f"{url}: cannot be downloaded ({error}); put the four files into a folder and say "
                "dataset.dir=FOLDER"
            ) from error
        found[file] = Path(path)
    return found
