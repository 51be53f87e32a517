"""Download the four files of a data set."""

from collections.abc import Iterable, Mapping
from pathlib import Path


def fetch(files: Iterable[str], folder: Path, base_url: str) -> Mapping[str, Path]:
    """Download `base_url`/NAME.gz for each name into `folder` and return the paths by name.

    Files that are there already are kept. A file appears in `folder` only when it is complete; its
    content is not verified here. Raises `ValueError` naming the address that failed.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    paths = {}
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
        paths[file] = Path(path)
    return paths
