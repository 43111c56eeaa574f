"""What an operator may set, in `$AIAAS_HOME/aiaas_config.py` as `c.ServiceConfig.name = value`."""

from __future__ import annotations

from traitlets import Int, List, Unicode
from traitlets.config import Configurable


class ServiceConfig(Configurable):
    """Settings of the service. Empty means: below the platform's home."""

    records_url = Unicode(
        "",
        help="SQLAlchemy URL of the records: SQLite below the home by default, "
        "postgresql+psycopg://… for PostgreSQL. Where it holds a password, use "
        "records_url_file instead.",
    ).tag(config=True)

    records_url_file = Unicode(
        "", help="A file (mode 600) that holds records_url; it wins over records_url."
    ).tag(config=True)

    artifacts_url = Unicode(
        "", help="fsspec URL under which uploads are kept: a directory, or s3://bucket/prefix."
    ).tag(config=True)

    max_upload_bytes = Int(4 << 30, help="Largest upload and largest registered file.").tag(
        config=True
    )

    max_runs = Int(8, help="Most runs started and not over; the others wait in the queue.").tag(
        config=True
    )

    max_runs_per_user = Int(4, help="The same for one user.").tag(config=True)

    dataset_roots = List(
        Unicode(),
        help="Directories from which everybody may register files, besides their own notebook "
        "directory.",
    ).tag(config=True)
