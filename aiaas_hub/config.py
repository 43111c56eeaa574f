"""What an operator may set, in `$AIAAS_HOME/aiaas_config.py` as `c.ServiceConfig.name = value`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, Enum, Float, Int, List, Unicode
from traitlets.config import Config, Configurable
from traitlets.config.loader import PyFileConfigLoader

from aiaas_hub.home import Home


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

    max_workers = Int(
        None, allow_none=True, help="Most workers of runs that are started; None: as many as fit."
    ).tag(config=True)

    max_workers_per_user = Int(None, allow_none=True, help="The same for one user.").tag(
        config=True
    )

    max_gpus = Int(
        None, allow_none=True, help="Most GPUs of runs that are started; None: as many as fit."
    ).tag(config=True)

    max_gpus_per_user = Int(None, allow_none=True, help="The same for one user.").tag(config=True)

    max_queued_per_user = Int(200, help="Most runs of one user that wait in the queue.").tag(
        config=True
    )

    queue_patience_seconds = Int(
        300,
        help="How long a run that does not fit lets smaller ones go ahead; then what becomes free "
        "is kept for it.",
    ).tag(config=True)

    collective_seconds = Int(
        600,
        min=1,
        help="How long a run's workers wait for each other in a step that all of them take, such "
        "as DDP's of the gradients; then the run has failed, or goes on by --retries. More than "
        "the longest that one worker does alone.",
    ).tag(config=True)

    max_requests_per_user = Int(
        128,
        min=1,
        help="Most requests to one user's endpoints that are inferred at the same time; twice as "
        "many more wait for their turn, and what is beyond is answered with HTTP 429.",
    ).tag(config=True)

    serving_memory_bytes = Int(
        None,
        allow_none=True,
        help="Memory that all served models together may take; a publish that would not fit is "
        "refused. None: half of the machine's, or four fifths of a pod's of Triton.",
    ).tag(config=True)

    max_streams_per_user = Int(
        64, help="Most streams of live state that one user may have open."
    ).tag(config=True)

    ray_address = Unicode(
        os.environ.get("AIAAS_RAY_ADDRESS", ""),
        help="Address of the Jobs API of a Ray cluster that exists, http://HOST:8265; empty "
        "(and no AIAAS_RAY_ADDRESS): the platform starts a Ray of its own on this machine.",
    ).tag(config=True)

    ray_token_file = Unicode(
        "", help="A file that holds that cluster's token, if it asks for one."
    ).tag(config=True)

    ray_storage = Unicode(
        "",
        help="Directory for the runs' checkpoints that service and cluster have at the same path.",
    ).tag(config=True)

    ray_api_url = Unicode(
        "",
        help="Address of this service as that cluster reaches it, up to …/api/v1; empty: the one "
        "on loopback, for a cluster on this machine.",
    ).tag(config=True)

    waiting_drivers = Int(
        # Two for who runs one thing after the other; on a small machine the second would take
        # the processors that the first run needs.
        1 if (os.cpu_count() or 1) < 4 else 2,
        help="How many drivers of the own Ray wait for a run with their workers, so that it begins "
        "in moments; each takes about 1.2 GB. Fewer are kept where memory is short.",
    ).tag(config=True)

    waiting_workers = Int(2, help="Workers that wait with each of these drivers.").tag(config=True)

    waiting_seconds = Int(
        3600, help="After so long without a run they end, until the next one."
    ).tag(config=True)

    kubernetes_namespace = Unicode(
        "",
        help="Namespace in which runs become RayJobs of KubeRay, each with a Ray cluster of its "
        "own; empty: runs are not on Kubernetes.",
    ).tag(config=True)

    kubernetes_kubeconfig = Unicode(
        "", help="A kubeconfig file; empty: the account of the pod that the service runs in."
    ).tag(config=True)

    kubernetes_platform = Unicode(
        "aiaas", help="Names this platform in labels: several may share a namespace."
    ).tag(config=True)

    kubernetes_api_url = Unicode(
        "", help="Address of this service as pods reach it, up to …/api/v1."
    ).tag(config=True)

    kubernetes_image = Unicode("", help="Image of the pods of runs: images/ray.").tag(config=True)

    kubernetes_ray_version = Unicode(
        "", help="Version of Ray in that image; empty: the one installed beside the service."
    ).tag(config=True)

    kubernetes_storage_claim = Unicode(
        "", help="A ReadWriteMany PersistentVolumeClaim of that namespace, for checkpoints."
    ).tag(config=True)

    kubernetes_worker_memory = Unicode("4Gi", help="Memory of a worker's pod.").tag(config=True)

    kubernetes_head_memory = Unicode("4Gi", help="Memory of the pod of a run's Ray head.").tag(
        config=True
    )

    kubernetes_queue = Unicode(
        "", help="A LocalQueue of Kueue in which runs wait for their turn; empty: no Kueue."
    ).tag(config=True)

    kubernetes_gpu_profile = Unicode(
        "",
        help="Slug of the profile whose kind of GPU, node selector and tolerations the workers "
        "with GPUs have; empty: runs get no GPUs.",
    ).tag(config=True)

    kubernetes_worker_profile = Unicode(
        "",
        help="Slug of the profile whose node selector and tolerations the workers without GPUs "
        "have, such as those of spot nodes; empty: none. Heads have neither.",
    ).tag(config=True)

    kubernetes_autoscaling = Bool(
        False,
        help="Whether a sweep's workers come and go with its trials, by Ray's autoscaler in the "
        "pod of its head; else they are all there from its beginning to its end.",
    ).tag(config=True)

    kubernetes_idle_seconds = Int(
        60, min=1, help="After so long without work an autoscaled worker goes."
    ).tag(config=True)

    kubernetes_pull_secrets = List(
        Unicode(), help="Secrets of that namespace with which images are pulled."
    ).tag(config=True)

    kubernetes_environment = Dict(
        value_trait=Unicode(),
        key_trait=Unicode(),
        help="Variables of runs' pods, such as HTTPS_PROXY. Not for secrets.",
    ).tag(config=True)

    kubernetes_keep_seconds = Int(3600, min=0, help="How long a RayJob that is over is kept.").tag(
        config=True
    )

    kubernetes_node_patience_seconds = Int(
        60,
        min=0,
        help="After so long a silence of their node a run's pods are given up, and others take "
        "their place.",
    ).tag(config=True)

    serving_namespace = Unicode(
        "",
        help="Namespace in which models are served by pods of Triton behind pods of Envoy; empty: "
        "both run beside the service.",
    ).tag(config=True)

    serving_url = Unicode(
        "",
        help="fsspec URL, s3://bucket/prefix, under which served models are kept for those pods.",
    ).tag(config=True)

    serving_image = Unicode("", help="Image of Triton's pods: images/triton.").tag(config=True)

    serving_agent_image = Unicode("", help="Image of the agent in Triton's pods: images/hub.").tag(
        config=True
    )

    serving_secret_file = Unicode(
        "/etc/aiaas-serving/control",
        help="A file with the key `control` of the Secret `triton`, with which the service may "
        "load models.",
    ).tag(config=True)

    serving_gateway_url = Unicode(
        "", help="Address of the gateway as callers and notebooks reach it."
    ).tag(config=True)

    serving_groups = Enum(
        ("shared", "owner"),
        "shared",
        help="Whether all models are served by the same pods, or each owner's by pods of their "
        "own.",
    ).tag(config=True)

    serving_workload = Enum(
        ("deployment", "inferenceservice"),
        "deployment",
        help="What Triton's pods are made by: a Deployment, or an InferenceService of KServe.",
    ).tag(config=True)

    serving_replicas = Int(
        2, min=1, help="Pods of Triton that a group begins with; an autoscaler may change it."
    ).tag(config=True)

    serving_cpus = Float(2, min=0.1, help="Processors that a pod of Triton asks for.").tag(
        config=True
    )

    serving_gpus = Int(
        0, min=0, help="GPUs of a pod of Triton; with any, all its models run on them."
    ).tag(config=True)

    serving_pod_memory_bytes = Int(
        8 << 30, min=1 << 28, help="Memory of a pod of Triton, with all models of its group."
    ).tag(config=True)

    serving_node_selector = Dict(
        value_trait=Unicode(), key_trait=Unicode(), help="Labels of the nodes of Triton's pods."
    ).tag(config=True)

    serving_tolerations = List(
        Dict(), help="Tolerations of Triton's pods, in Kubernetes' words."
    ).tag(config=True)

    query_seconds = Int(300, help="How long one query over datasets may take.").tag(config=True)

    query_memory_bytes = Int(
        1 << 30,
        help="Memory of one query; what does not fit goes to disk, as far as query_spill_bytes.",
    ).tag(config=True)

    query_spill_bytes = Int(8 << 30, help="Disk that one query may take while it runs.").tag(
        config=True
    )

    query_threads = Int(min(4, os.cpu_count() or 1), help="Processors that one query may use.").tag(
        config=True
    )

    query_rows = Int(
        5_000_000,
        help="Most rows of a result that is answered; a result that is saved as a dataset has no "
        "such limit.",
    ).tag(config=True)

    query_result_bytes = Int(
        2 << 30, help="Most memory that a result which is answered may take in a notebook."
    ).tag(config=True)

    max_queries = Int(
        2, help="Queries that run at the same time; the others wait for their turn."
    ).tag(config=True)

    max_queries_per_user = Int(
        4, help="Queries of one user that run or wait; more are refused."
    ).tag(config=True)

    spark_address = Unicode(
        os.environ.get("AIAAS_SPARK_ADDRESS", ""),
        help="Address of a Spark Connect server for '%%aiaas sql --engine spark', sc://HOST:PORT. "
        "It has to see the artifacts' directory at the same path as the service, and what it may "
        "do is its own operator's to confine. Empty (and no AIAAS_SPARK_ADDRESS): each query has "
        "a Spark of its own on this machine.",
    ).tag(config=True)

    retired_hours = Int(
        168,
        help="How long the content of a retired dataset version is kept, for whoever takes it "
        "back; that of one which a run refers to is kept for ever.",
    ).tag(config=True)

    quotas_file = Unicode(
        "", help="What users may use; empty: `quotas.yaml` in the platform's home, if there."
    ).tag(config=True)

    profiles_file = Unicode(
        os.environ.get("AIAAS_PROFILES", ""),
        help="Profiles, for the prices of what runs use; the hub names its own file.",
    ).tag(config=True)

    endpoint_price_per_hour = Float(
        0.0, min=0, help="What a served version of an endpoint costs per hour."
    ).tag(config=True)

    log_format = Enum(
        ("text", "json"), "text", help="Of the service's log: lines of text or of JSON."
    ).tag(config=True)

    remote_sources = Dict(
        help="Places outside from which every user may register data, as prefix of a URI and what "
        "its file system is made with: {'s3://bucket/open': {'region': 'eu-central-1'}}. Those "
        "are the arguments of pyarrow's S3FileSystem, GcsFileSystem (gs://) and AzureFileSystem "
        "(abfss://CONTAINER@ACCOUNT.dfs.core.windows.net), of fsspec's WebHDFS (webhdfs://, and "
        "hdfs://, which is read over WebHDFS), and of other schemes those of fsspec's, whose "
        "package has to be installed. Keep credentials in the environment or in files of the "
        "libraries."
    ).tag(config=True)

    secret_sources: Dict[str, Any] = Dict(
        {"s3://": {}, "gs://": {}, "abfss://": {}},
        help="Places from which a user may register data with a secret of their own, as in "
        "remote_sources: a prefix, or of s3, gs and abfss a whole scheme, which then leads to the "
        "cloud itself or to the endpoint in the arguments. No arguments with credentials: the "
        "secret brings them. Empty: nobody does.",
    ).tag(config=True)

    secrets_key_file = Unicode(
        "",
        help="A file with the key that users' secrets are sealed with, one Fernet key a line, the "
        "newest first; empty: the platform makes one below its home (secrets/storage_keys).",
    ).tag(config=True)

    remote_hosts = List(
        Unicode(),
        help="Hosts that may be asked over the web although they are not public or only speak "
        "http. Every other address must be https and public.",
    ).tag(config=True)

    dataset_roots = List(
        Unicode(),
        help="Directories from which everybody may register files, besides their own notebook "
        "directory.",
    ).tag(config=True)


def read_config(home: Home) -> ServiceConfig:
    """The operator's settings; a file that does not exist sets nothing."""
    loaded = Config()
    if home.config.exists():
        loader = PyFileConfigLoader(home.config.name, path=str(home.root))
        loaded = loader.load_config()
    config = ServiceConfig(config=loaded)
    if config.records_url_file:
        config.records_url = Path(config.records_url_file).read_text().strip()
    config.records_url = config.records_url or home.records_url
    config.artifacts_url = config.artifacts_url or str(home.artifacts / "blobs")
    if config.serving_memory_bytes is None and config.serving_namespace:
        config.serving_memory_bytes = config.serving_pod_memory_bytes * 4 // 5
    if config.serving_memory_bytes is None:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        config.serving_memory_bytes = machine // 2
    return config
