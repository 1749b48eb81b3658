"""HTTP with encryption: who is served, who is not, and which files are refused before anything starts."""

import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http

from tests.certificates import Certificates, make_certificates
from tests.serving import EXAMPLE_MODELS, is_ready, serving


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def _context(files: Certificates, *, client: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.authority))
    if client:
        context.load_cert_chain(files.client, files.client_key)
    return context


def _options(files: Certificates) -> list[str]:
    return [f"--http-server-cert={files.server}", f"--http-server-key={files.server_key}", "--allow-grpc=false"]


def test_encrypted(files: Certificates, tmp_path: Path) -> None:
    ready = partial(is_ready, context=_context(files))
    with serving(tmp_path, ["--http-use-ssl=true", *_options(files)], ready=ready) as server:
        port = int(server.http.rpartition(":")[2])
        assert not is_ready(port), "plain HTTP is not served"
        assert not is_ready(port, ssl.create_default_context()), "nobody vouches for the certificate"
        client = tritonclient.http.InferenceServerClient(
            server.http, ssl=True, ssl_options={"ca_certs": str(files.authority)}
        )
        data = np.arange(1 << 20, dtype=np.float32)
        tensor = tritonclient.http.InferInput("INPUT0", data.shape, "FP32")
        tensor.set_data_from_numpy(data)
        for _ in range(3):  # large bodies, one after the other on one connection
            result = client.infer("identity", [tensor]).as_numpy("OUTPUT0")
            assert result is not None
            assert np.array_equal(result, data)
        client.close()


def test_clients_show_a_certificate_too(files: Certificates, tmp_path: Path) -> None:
    options = ["--http-use-ssl-mutual=true", f"--http-root-cert={files.authority}", *_options(files)]
    with serving(tmp_path, options, ready=partial(is_ready, context=_context(files, client=True))) as server:
        port = int(server.http.rpartition(":")[2])
        assert not is_ready(port, _context(files)), "a client without a certificate"
        stranger = _context(files)
        stranger.load_cert_chain(files.stranger, files.stranger_key)
        assert not is_ready(port, stranger), "a client that nobody vouches for"


@pytest.mark.parametrize(
    ("certificate", "key", "root", "part"),
    [
        ("absent", "server_key", "", "No such file"),
        ("server", "client_key", "", "KEY_VALUES_MISMATCH"),
        ("server_key", "server_key", "", "--http-server-cert"),
        ("server", "locked_key", "", "has a password"),
        ("server", "server_key", "absent", "--http-root-cert"),
        ("server", "server_key", "server_key", "--http-root-cert"),
    ],
)
def test_files_that_cannot_be_used(
    files: Certificates, tmp_path: Path, certificate: str, key: str, root: str, part: str
) -> None:
    def path(name: str) -> Path:
        return tmp_path / "absent.pem" if name == "absent" else getattr(files, name)

    options = [f"--http-server-cert={path(certificate)}", f"--http-server-key={path(key)}", "--http-use-ssl=1"]
    if root:
        options += ["--http-use-ssl-mutual=1", f"--http-root-cert={path(root)}"]
    command = [sys.executable, "-m", "tensorhub", "serve", f"--model-repository={EXAMPLE_MODELS}"]
    done = subprocess.run(
        [*command, f"--run-dir={tmp_path / 'run'}", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert part in done.stderr
    assert done.stderr.count("\n") == 1
