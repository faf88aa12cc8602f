"""The user's face models: listed, added, checked, removed, and fetched with their checksums."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nextgenface.cli import models as command
from nextgenface.errors import ModelError
from nextgenface.facemodel import download, library, registry
from nextgenface.facemodel.catalogue import KNOWN, Download

from tests.solver import model_files
from tests.solver.sampled_face import source


@pytest.fixture()
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, but the built-in model is there."""
    source()
    built = registry.builtin_files()[0]
    target = tmp_path / "home"
    monkeypatch.delenv("NEXTGENFACE_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXTGENFACE_HOME", str(target))
    place = registry.builtin_path()
    place.parent.mkdir(parents=True)
    place.write_bytes(built.read_bytes())
    return target


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert command.main(["list", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_the_list_says_what_could_be_installed_and_under_which_licence(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = listed(capsys)
    assert set(rows) == {"builtin", *(entry.name for entry in KNOWN)}
    assert rows["builtin"]["installed"] and not rows["bfm"]["installed"]
    assert "research" in str(rows["bfm"]["licence"]) and "faces.dmi.unibas.ch" in str(rows["bfm"]["source"])
    assert (
        rows["gnm"]["downloadable"] and rows["ict"]["downloadable"] and not rows["flame2020"]["downloadable"]
    )
    assert command.main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "CC-BY-4.0" in shown and "model2017-1_face12_nomouth.h5" in shown


def test_add_check_and_remove(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_files.write_basel(tmp_path / "files", vertices=1500, sizes=(4, 3, 3))
    paths = [str(p) for p in sorted((tmp_path / "files").iterdir())]
    assert command.main(["add", *paths, "--name", "bfm", "--source", "my disk", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["shape"] == 4 and report["albedo"] == 3
    row = listed(capsys)["bfm"]
    assert row["installed"] and row["kind"] == "Basel Face Model" and row["source"] == "my disk"
    about = library.read_about(home / "models" / "bfm")
    assert set(about["sha256"]) == {Path(p).name for p in paths}
    assert command.main(["check", "bfm", "--json"]) == 0
    (checked,) = json.loads(capsys.readouterr().out)
    assert checked["ok"] and checked["hash"] == report["hash"] and "layout" in checked["notes"][0]
    assert command.main(["add", *paths, "--name", "bfm"]) == ModelError.exit_code
    assert command.main(["remove", "bfm", "--json"]) == 0
    assert not (home / "models" / "bfm").exists()
    assert command.main(["remove", "bfm"]) == ModelError.exit_code


def test_what_does_not_load_is_not_kept(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_files.write_gnm(tmp_path / "files", spacing=16.0, sizes=(3, 2))
    broken = tmp_path / "files" / "gnm_head.npz"
    with np.load(broken) as archive:
        arrays = dict(archive)
    arrays["vertex_identity_basis"][0, 0, 0] = np.nan
    np.savez(broken, **arrays)
    assert command.main(["add", str(broken), "--name", "gnm", "--json"]) == ModelError.exit_code
    assert "not finite" in json.loads(capsys.readouterr().out)["problem"]
    assert [p.name for p in (home / "models").iterdir()] == [registry.builtin_path().name]
    for name in ("../evil", "builtin", ""):
        with pytest.raises(ModelError, match="cannot be the name"):
            library.add([broken], name)
    with pytest.raises(ModelError, match="no face model of a known format"):
        library.add([Path(__file__)], "x")


def test_only_openly_licensed_models_are_fetched(home: Path) -> None:
    with pytest.raises(ModelError, match=r"asked for at https://flame\.is\.tue\.mpg\.de.*ict, gnm"):
        library.download("flame2023-open", print)


# ---- fetching --------------------------------------------------------------------------------------------


class _Server(http.server.BaseHTTPRequestHandler):
    """A small hub: files with ranges, and the listings of checksums. `cut` bytes, then the line breaks."""

    files: dict[str, bytes] = {}
    cut = 0
    asked: list[str | None] = []

    def do_GET(self) -> None:
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        if asked:
            start = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = type(self).cut if type(self).cut and not asked else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture()
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Server]]:
    _Server.files, _Server.cut, _Server.asked = {}, 0, []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{running.server_address[1]}"
    for name in ("HUB", "GITHUB_API", "GITHUB_RAW"):
        monkeypatch.setattr(download, name, address)
    yield _Server
    running.shutdown()
    running.server_close()


def quiet(_text: str) -> None:
    """Nobody listens."""


def offer_hub(server: type[_Server], content: bytes, checksum: str) -> Download:
    entry = {"path": "v3_0/gnm_head.npz", "size": len(content), "lfs": {"oid": checksum}}
    server.files = {
        "/api/models/google/gnm-v3/revision/main": json.dumps({"sha": "abc"}).encode(),
        "/api/models/google/gnm-v3/tree/abc/v3_0": json.dumps([entry]).encode(),
        "/google/gnm-v3/resolve/abc/v3_0/gnm_head.npz": content,
    }
    return Download("huggingface", "google/gnm-v3", "main", "v3_0/gnm_head.npz", 1)


def test_a_broken_connection_goes_on_where_it_stopped(server: type[_Server], tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000
    what = offer_hub(server, content, hashlib.sha256(content).hexdigest())
    server.cut = 100_000
    with pytest.raises(ModelError):
        download.fetch_model(what, tmp_path, quiet)
    assert (tmp_path / "gnm_head.npz.part").stat().st_size == 100_000
    assert download.fetch_model(what, tmp_path, quiet) == "abc"
    assert (tmp_path / "gnm_head.npz").read_bytes() == content and server.asked[-1] == "bytes=100000-"
    before = len(server.asked)
    download.fetch_model(what, tmp_path, quiet)  # only the listings
    assert len(server.asked) == before + 2


def test_a_wrong_checksum_is_thrown_away(server: type[_Server], tmp_path: Path) -> None:
    what = offer_hub(server, b"something else", hashlib.sha256(b"the model").hexdigest())
    with pytest.raises(ModelError, match="checksum"):
        download.fetch_model(what, tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_a_repository_is_checked_by_gits_own_ids(server: type[_Server], tmp_path: Path) -> None:
    files = {"FaceXModel/a.obj": b"v 0 0 0\n", "FaceXModel/b.obj": b"v 1 0 0\n"}
    ids = {k: hashlib.sha1(b"blob %d\0" % len(v) + v).hexdigest() for k, v in files.items()}
    tree = [{"type": "blob", "path": k, "sha": ids[k]} for k in files] + [
        {"type": "blob", "path": "README.md", "sha": "0"},
        {"type": "blob", "path": "FaceXModel/../../x", "sha": "0"},
    ]
    server.files = {f"/o/r/c0ffee/{k}": v for k, v in files.items()} | {
        "/repos/o/r/commits/master": json.dumps({"sha": "c0ffee", "commit": {"tree": {"sha": "7"}}}).encode(),
        "/repos/o/r/git/trees/7?recursive=1": json.dumps({"tree": tree}).encode(),
    }
    what = Download("github", "o/r", "master", "FaceXModel", 1)
    assert download.fetch_model(what, tmp_path, quiet) == "c0ffee"
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.obj")} == set(files)
    server.files["/o/r/c0ffee/FaceXModel/b.obj"] = b"v 6 6 6\n"
    (tmp_path / "FaceXModel" / "b.obj").unlink()
    with pytest.raises(ModelError, match="checksum"):
        download.fetch_model(what, tmp_path, quiet)


def test_download_installs_a_model(server: type[_Server], home: Path, tmp_path: Path) -> None:
    model_files.write_gnm(tmp_path / "files", spacing=12.0, sizes=(3, 2))
    content = (tmp_path / "files" / "gnm_head.npz").read_bytes()
    offer_hub(server, content, hashlib.sha256(content).hexdigest())
    place, model = library.download("gnm", quiet)
    assert place == home / "models" / "gnm" and len(model.shape_variance) == 3
    about = library.read_about(place)
    assert about["licence"] == "Apache-2.0" and "abc" in about["source"]
    assert library.check("gnm").hash == model.hash


def test_a_stop_while_the_model_is_checked_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model_files.write_gnm(tmp_path / "files", spacing=12.0, sizes=(3, 2))

    def stop(place: Path) -> None:
        assert place.is_dir(), "its files are there already"
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "load_place", stop)
    assert command.main(["add", str(tmp_path / "files"), "--name", "mine"]) == 130
    assert not (home / "models" / "mine").exists() and "mine" not in listed(capsys)
