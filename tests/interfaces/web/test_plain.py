"""Plain Zarr at /REF/key, as a client sees it that knows nothing of us."""

from __future__ import annotations

import html
import re
from urllib.parse import unquote, urljoin

import pytest

import versioned_zarr as vz
from tests.interfaces.web.conftest import BIG, VALUES
from tests.interfaces.web.served import client_of, serving

MIB = 1 << 20


def test_values_are_what_they_are_under_every_name_of_the_version(
    web, repository, snapshot
) -> None:
    commit = repository.branches["main"].cid
    for ref in ("main", "v1", "feature%2Fx", "heads%2Fmain", "tags%2Fv1", snapshot.cid, commit):
        for key, value in VALUES.items():
            if "odd" not in key:
                found = web.get(f"/{ref}/{key}")
                assert (found.status_code, found.content) == (200, value)
    assert web.get("/main/odd/%C4%85%20%C4%99%252F%3A%3F%23%3Cb%3E").content == b"odd"


def test_branches_and_tags_are_asked_for_again_and_cids_are_kept(web, snapshot) -> None:
    cid = snapshot._find("zarr.json").cid
    for ref in ("main", "v1"):
        found = web.get(f"/{ref}/zarr.json")
        assert found.headers["cache-control"] == "no-cache"
        assert found.headers["etag"] == f'"{vz.ipld.cid.to_text(cid)}"'
        again = web.get(f"/{ref}/zarr.json", headers={"If-None-Match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == found.headers["etag"]
    fixed = web.get(f"/{snapshot.cid}/zarr.json").headers["cache-control"]
    assert fixed == "public, max-age=29030400, immutable"


@pytest.mark.parametrize("path", ["nope", "a/c/9/9", "a/c/0/0/x", "zarr.json/", "a//c", "x" * 300])
def test_a_key_that_is_not_there_is_404(web, path) -> None:
    assert web.get(f"/main/{path}").status_code in {400, 404}
    assert web.get("/main/a/c/9/9").status_code == 404


@pytest.mark.parametrize(
    ("said", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        (f"bytes={MIB - 3}-{MIB + 3}", MIB - 3, MIB + 4),
        (f"bytes={2 * MIB}-99999999", 2 * MIB, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_a_range_is_206(web, said, start, stop) -> None:
    found = web.get("/main/big/v", headers={"Range": said})
    want = BIG[start:stop]
    assert (found.status_code, found.content) == (206, want)
    first = BIG.index(want[:64])
    said_back = f"bytes {first}-{first + len(want) - 1}/{len(BIG)}" if len(want) > 9 else None
    assert said_back in {None, found.headers["content-range"]}


@pytest.mark.parametrize("said", ["bytes=9999999-", "bytes=-0", "bytes=9999999-99999999"])
def test_a_range_of_nothing_is_416(web, said) -> None:
    found = web.get("/main/big/v", headers={"Range": said})
    assert found.status_code == 416
    assert found.headers["content-range"] == f"bytes */{len(BIG)}"


@pytest.mark.parametrize("said", ["bytes=x-y", "bytes=9-3", "lines=1-2", "bytes=", "bytes=-"])
def test_a_range_that_cannot_be_read_is_ignored(web, said) -> None:
    found = web.get("/main/a/c/0/0", headers={"Range": said})
    assert (found.status_code, found.content) == (200, b"chunk")


def test_a_range_of_another_version_is_all(web) -> None:
    ranged = {"Range": "bytes=0-1"}
    etag = web.get("/main/a/c/0/0").headers["etag"]
    assert web.get("/main/a/c/0/0", headers={**ranged, "If-Range": etag}).status_code == 206
    assert web.get("/main/a/c/0/0", headers={**ranged, "If-Range": '"old"'}).status_code == 200


def test_head_tells_the_length_and_sends_nothing(web) -> None:
    for key, value in (("big/v", BIG), ("a/c/0/0", b"chunk"), ("a/c/0/1", b"")):
        found = web.head(f"/main/{key}", headers={"Range": "bytes=0-1"})
        assert (found.status_code, found.content) == (200, b"")
        assert found.headers["content-length"] == str(len(value))
        assert found.headers["accept-ranges"] == "bytes"
    assert web.head("/main/nope").status_code == 404


def test_only_reading_is_allowed(web) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        found = web.request(method, "/main/zarr.json")
        assert found.status_code == 405
        assert set(found.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_lists_lead_to_everything(web, repository) -> None:
    names = {entry["name"]: entry for entry in web.get("/?format=json").json()}
    assert set(names) == {"main", "feature/x", "v1"}
    assert names["v1"]["kind"] == "tag"
    assert names["main"]["cid"] == repository.branches["main"].cid
    seen, waiting = set(), ["/"]
    while waiting:
        page = waiting.pop()
        if "many" in page:
            continue
        found = web.get(page)
        assert found.status_code == 200
        if found.headers["content-type"].startswith("text/html"):
            assert "script" not in found.text or "page.html" in found.text
            links = re.findall(r'href="(?!/)([^"]*)"', found.text)
            waiting += [urljoin(page, html.unescape(link)) for link in links]
        else:
            seen.add(unquote(page))
    for ref in ("main", "feature%2Fx", "v1"):
        assert {f"/{unquote(ref)}/{key}".replace("%2F", "/") for key in VALUES} <= {
            path.replace("%2F", "/") for path in seen
        }


def test_a_directory_is_listed_as_json_too(web, snapshot) -> None:
    assert web.get("/main/a").headers["location"] == "/main/a/"
    assert web.get("/feature%2Fx").headers["location"] == "/feature%2Fx/"
    found = web.get("/main/a/c/0/", headers={"Accept": "application/json"})
    assert [(entry["name"], entry["size"]) for entry in found.json()] == [("0", 5), ("1", 0)]
    etag = found.headers["etag"]
    known = web.get("/main/a/c/0/?format=json", headers={"If-None-Match": etag})
    assert known.status_code == 304
    many = web.get("/main/many/?format=json").json()
    assert sorted(entry["name"] for entry in many) == snapshot.list_dir("many")


def test_no_value_is_sent_as_something_that_a_browser_would_run(web) -> None:
    found = web.get("/main/page.html")
    assert found.headers["content-type"] == "application/octet-stream"
    assert found.headers["x-content-type-options"] == "nosniff"
    page = web.get("/main/odd/")
    assert "<b>" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_pages_of_chosen_origins_may_read(web) -> None:
    asked = {"Origin": "https://example.org"}
    found = web.get("/main/zarr.json", headers=asked)
    assert found.headers["access-control-allow-origin"] == "https://example.org"
    assert {"ETag", "Content-Range", "Content-Length"} <= set(
        found.headers["access-control-expose-headers"].split(", ")
    )
    other = web.get("/main/zarr.json", headers={"Origin": "https://example.com"})
    assert "access-control-allow-origin" not in other.headers
    preflight = {
        **asked,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range",
    }
    assert web.options("/main/zarr.json", headers=preflight).status_code == 200


def test_a_new_commit_is_seen_at_once_and_the_old_tree_stays() -> None:
    repository = vz.create("memory://web-moves")
    with serving(repository) as port, client_of(port) as web:
        for number in (b"1", b"2"):
            before = repository.checkout("main").cid
            with repository.session(message="more") as session:
                session.write("k", number)
            assert web.get("/main/k").content == number
            assert web.get(f"/{before}/k").status_code == (404 if number == b"1" else 200)
        repository.branches.create("gone")
        assert web.get("/gone/k").content == b"2"
        repository.branches.delete("gone")
        assert web.get("/gone/k").status_code == 404


def test_a_name_of_a_branch_and_a_tag_must_say_which() -> None:
    repository = vz.create("memory://web-ambiguous")
    repository.tags.create("both")
    with repository.session(message="more") as session:
        session.write("k", b"1")
    repository.branches.create("both")
    repository.branches.create("ipfs")
    with serving(repository) as port, client_of(port) as web:
        assert web.get("/both/k").status_code == 400
        assert web.get("/heads%2Fboth/k").content == b"1"
        assert web.get("/tags%2Fboth/k").status_code == 404
        assert web.get("/heads%2Fipfs/k").content == b"1"
        assert 'href="heads%2Fipfs/"' in web.get("/").text
