"""The IPFS gateway, by the sections of its specifications and of the gateway-conformance suite."""

from __future__ import annotations

import hashlib
import io
import tarfile
import uuid

import pytest

import versioned_zarr as vz
from tests.interfaces.web.conftest import BIG, VALUES
from tests.interfaces.web.served import client_of, request, serving
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.car_v1 import Car
from versioned_zarr.tree.dag import resolve
from versioned_zarr.tree.dag_nodes import pieces

MIB = 1 << 20
FOR_EVER = "public, max-age=29030400, immutable"
RAW, CAR = "application/vnd.ipld.raw", "application/vnd.ipld.car"


def read_car(data: bytes) -> tuple[list[str], list[tuple[cids.Cid, bytes]]]:
    """The roots and blocks of a CARv1, every block checked."""
    stream = Car(io.BytesIO(data), "a CAR")
    assert stream.version == 1
    blocks = []
    for section in stream.sections():
        cids.check(section.cid, section.data, "a CAR")
        blocks.append((section.cid, section.data))
    return [cids.to_text(root) for root in stream.roots], blocks


def names(*found) -> list[str]:
    return [cids.to_text(cid) for cid in found]


@pytest.fixture
def root(snapshot):
    return f"/ipfs/{snapshot.cid}"


@pytest.fixture
def way(repository, snapshot):
    """Gives the CIDs on the way along a path."""
    get = repository._stores.blocks.get
    return lambda path: resolve(get, snapshot._tree, path.split("/"))


class TestPlain:
    """Path Gateway: deserialized responses."""

    def test_a_value_is_immutable_and_names_its_roots(self, web, root, way, snapshot) -> None:
        found = web.get(f"{root}/a/c/0/0")
        assert (found.status_code, found.content) == (200, b"chunk")
        assert found.headers["cache-control"] == FOR_EVER
        assert found.headers["x-ipfs-path"] == f"{root}/a/c/0/0"
        roots = names(*way("a/c/0/0").roots)
        assert found.headers["x-ipfs-roots"] == ",".join(roots)
        assert found.headers["etag"] == f'"{roots[-1]}"'

    def test_if_none_match(self, web, root) -> None:
        """Path Gateway: If-None-Match; weakly compared, in a list, or any."""
        etag = web.get(f"{root}/a/c/0/0").headers["etag"]
        for known in (etag, f"W/{etag}", f'"one", "two", {etag}', "*"):
            found = web.get(f"{root}/a/c/0/0", headers={"If-None-Match": known})
            assert (found.status_code, found.content) == (304, b"")
        assert web.get(f"{root}/a/c/0/0", headers={"If-None-Match": '"x"'}).status_code == 200

    def test_a_range(self, web, root) -> None:
        """Path Gateway: Range."""
        found = web.get(f"{root}/big/v", headers={"Range": f"bytes={MIB - 2}-{MIB + 1}"})
        assert (found.status_code, found.content) == (206, BIG[MIB - 2 : MIB + 2])
        assert found.headers["content-range"] == f"bytes {MIB - 2}-{MIB + 1}/{len(BIG)}"

    def test_a_directory_is_redirected_to_and_listed(self, web, root, way) -> None:
        """Path Gateway: Location, use in directory URL normalization; ETag of an index."""
        found = web.get(f"{root}/odd")
        assert (found.status_code, found.headers["location"]) == (301, f"{root}/odd/")
        found = web.get(f"{root}/a/c/")
        end = names(way("a/c").end)[0]
        assert "Index of" in found.text
        assert found.headers["etag"].startswith('"DirIndex-')
        assert found.headers["etag"].endswith(f'_CID-{end}"')
        assert found.headers["cache-control"] != FOR_EVER
        for known in (found.headers["etag"], f'W/"{end}"'):
            again = web.get(f"{root}/a/c/", headers={"If-None-Match": known})
            assert again.status_code == 304

    def test_a_commit_is_a_directory_too(self, web, repository) -> None:
        commit = repository.branches["main"]
        assert web.get(f"/ipfs/{commit.cid}/tree/a/c/0/0").content == b"chunk"
        assert web.get(f"/ipfs/{commit.cid}/commit.json").json()["message"] == commit.message

    def test_what_is_not_there(self, web, root) -> None:
        """Path Gateway: 404, 400, 412 with only-if-cached."""
        missing = names(cids.hash_function("sha2-256").raw(b"not here"))[0]
        for path in (f"{root}/nope", f"{root}/a/c/0/0/x", f"/ipfs/{missing}", f"{root}/zarr.json/"):
            assert web.get(path).status_code == 404
            assert web.head(path).status_code == 404
        only = {"Cache-Control": "only-if-cached"}
        assert web.get(f"/ipfs/{missing}", headers=only).status_code == 412
        assert web.get(f"{root}/zarr.json", headers=only).status_code == 200
        for bad in ("bad", "bafybei", "Qm", "b" * 59, "0", "zz", "f01", "kk", missing[:-1]):
            assert web.get(f"/ipfs/{bad}").status_code == 400

    def test_service_workers_of_a_whole_cid_are_denied(self, web, snapshot) -> None:
        """Path Gateway: Service-Worker."""
        found = web.get(f"/ipfs/{snapshot.cid}", headers={"Service-Worker": "script"})
        assert found.status_code == 400

    def test_file_names(self, web, root) -> None:
        """Path Gateway: Content-Disposition."""
        found = web.get(f"{root}/a/c/0/0", params={"filename": "testąęłż.pdf"})
        want = (
            "inline; filename=\"test____.pdf\"; filename*=UTF-8''test%C4%85%C4%99%C5%82%C5%BC.pdf"
        )
        assert found.headers["content-disposition"] == want
        found = web.get(f"{root}/a/c/0/0", params={"download": "true", "filename": 'a"\r\nX: y'})
        assert found.headers["content-disposition"].startswith('attachment; filename="a___X: y"')
        assert "x" not in found.headers

    def test_cids_in_any_base(self, web, snapshot) -> None:
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"
        number = int.from_bytes(snapshot._tree, "big")
        base36 = ""
        while number:
            number, digit = divmod(number, 36)
            base36 = digits[digit] + base36
        forms = [f"k{base36}", f"f{snapshot._tree.hex()}", snapshot.cid.upper()]
        alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
        for start, data in (("", snapshot._tree[2:]), ("z", snapshot._tree)):
            number, text = int.from_bytes(data, "big"), ""
            while number:
                number, digit = divmod(number, 58)
                text = alphabet[digit] + text
            forms.append(start + text)
        for form in forms:
            assert web.get(f"/ipfs/{form}/a/c/0/0").content == b"chunk"

    def test_the_probe(self, web) -> None:
        """Trustless Gateway: dedicated probe paths."""
        for path in ("bafkqaaa", "bafkqaaa?format=raw"):
            found = web.get(f"/ipfs/{path}")
            assert (found.status_code, found.content) == (200, b"")
            assert web.head(f"/ipfs/{path}").status_code == 200
        roots, blocks = read_car(web.get("/ipfs/bafkqaaa?format=car").content)
        assert (roots, blocks) == (["bafkqaaa"], [])

    def test_an_identity_cid_is_its_own_answer(self, web) -> None:
        cid = "bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa"
        assert web.get(f"/ipfs/{cid}").content == b"hello i am inlined cid\n"
        found = web.get(f"/ipfs/{cid}", headers={"Accept": f"{CAR}; dups=y"})
        assert "dups=y" in found.headers["content-type"]
        assert read_car(found.content)[1] == []


class TestFormats:
    """Path Gateway: Accept, format and Content-Location."""

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            (RAW, RAW),
            (f"{RAW}, */*;q=0.1", RAW),
            (f"*/*, {CAR}", f"{CAR}; version=1; order=dfs; dups=n"),
            (f"{CAR};version=1;order=dfs;dups=y", f"{CAR}; version=1; order=dfs; dups=y"),
            (f"{CAR};version=2, {CAR};order=unk;q=0.5", f"{CAR}; version=1; order=dfs; dups=n"),
            ("application/x-tar", "application/x-tar"),
            ("text/html,application/xhtml+xml,*/*;q=0.8", "application/octet-stream"),
            ("application/vnd.ipld.dag-json, */*;q=0.1", "application/octet-stream"),
        ],
    )
    def test_accept_chooses(self, web, root, accept, kind) -> None:
        found = web.get(f"{root}/a/c/0/0", headers={"Accept": accept})
        assert found.headers["content-type"] == kind
        assert "accept" in found.headers["vary"].lower()
        if kind != "application/octet-stream":
            same = web.get(found.headers["content-location"])
            assert (same.headers["content-type"], same.content) == (kind, found.content)
            assert same.headers["etag"] == found.headers["etag"]

    @pytest.mark.parametrize(
        "accept",
        [
            "application/vnd.ipld.dag-json",
            "application/vnd.ipld.dag-cbor",
            "application/vnd.ipfs.ipns-record",
            f"{CAR};version=2",
            f"{CAR};order=bfs",
            f"{RAW};q=0, application/vnd.ipld.dag-cbor",
        ],
    )
    def test_what_is_not_there_is_406(self, web, root, accept) -> None:
        assert web.get(f"{root}/a/c/0/0", headers={"Accept": accept}).status_code == 406

    def test_json_under_a_bare_cid_is_told_from_its_bytes(self, web, root, way) -> None:
        """gateway-conformance: a UnixFS file with JSON bytes."""
        document = f"/ipfs/{names(way('zarr.json').end)[0]}"
        for path in (document, f"{root}/zarr.json"):
            for query in ("", "?format=json"):
                found = web.get(path + query, headers={"Accept": RAW if query else "*/*"})
                assert found.headers["content-type"] == "application/json"
                assert found.content == VALUES["zarr.json"]
        for path in ("a/c/0/0", "a/c/0/1", "page.html", "big/v"):
            found = web.get(f"/ipfs/{names(way(path).end)[0]}")
            assert found.headers["content-type"] == "application/octet-stream"

    def test_json_that_is_asked_for_is_sent_as_such(self) -> None:
        made = vz.create(f"memory://{uuid.uuid4()}")
        large = b'{"a": [' + b"1, " * 40_000 + b"1]}"
        values = {"attrs": b'{"a": 1}', "zarr.json": large, "none": b"\x00"}
        with made.session(message="x") as session:
            for key, value in values.items():
                session.write(key, value)
        root = f"/ipfs/{made.checkout().cid}"
        with serving(made) as port, client_of(port) as web:
            for key in ("attrs", "zarr.json"):
                found = web.get(f"{root}/{key}?format=json")
                assert found.headers["content-type"] == "application/json"
                assert found.content == values[key]
            assert web.get(f"{root}/none?format=json").status_code == 406

    def test_a_range_is_there_where_a_block_outside_it_is_missing(self) -> None:
        """gateway-conformance: a range of a file of which a block before it is missing."""
        made = vz.create(f"memory://{uuid.uuid4()}")
        stores = made._stores
        leaves = [stores.hash.raw(b"lost leaf!"), stores.hash.raw(b"kept leaf!")]
        data = b"\x08\x02\x18\x14" + b"\x20\x0a" * 2
        node = dag_pb.encode([("", leaf, 10) for leaf in leaves], data)
        root = stores.hash.dag_pb(node)
        stores.blocks.put([(root, node), (leaves[1], b"kept leaf!")], root)
        with serving(made) as port, client_of(port) as web:
            found = web.get(f"/ipfs/{cids.to_text(root)}", headers={"Range": "bytes=12-15"})
            assert (found.status_code, found.content) == (206, b"pt l")
            assert web.get(f"/ipfs/{cids.to_text(root)}").status_code == 404

    @pytest.mark.parametrize("path", ["", "/a", "/a/c/0/1", "/big/v", "/page.html"])
    def test_what_is_no_json_is_not_called_so(self, web, root, path) -> None:
        assert web.get(f"{root}{path}", params={"format": "json"}).status_code == 406

    @pytest.mark.parametrize(
        "value",
        [
            b"[" * 60_000,
            b'{"a": "' + b"x" * (1 << 16) + b'"}',
            b"7",
            '{"a": 1}'.encode("utf-16"),
            b"{\xff}",
        ],
    )
    def test_what_only_begins_like_json_is_data(self, value) -> None:
        repository = vz.create(f"memory://{uuid.uuid4()}")
        with repository.session(message="x") as session:
            session.write("v", value)
        cid = resolve(repository._stores.blocks.get, repository.checkout()._tree, ["v"]).end
        with serving(repository) as port, client_of(port) as web:
            found = web.get(f"/ipfs/{cids.to_text(cid)}")
        assert (found.status_code, found.content) == (200, value)
        assert found.headers["content-type"] == "application/octet-stream"

    @pytest.mark.parametrize("name", ["dag-json", "json", "cbor", "ipns-record", "zip", ""])
    def test_an_unknown_format_is_406(self, web, root, name) -> None:
        assert web.get(f"{root}/a/c/0/0", params={"format": name}).status_code == 406

    def test_the_url_goes_before_the_header(self, web, root) -> None:
        accept = {"Accept": f"{CAR};dups=y"}
        assert web.get(f"{root}?format=raw", headers=accept).headers["content-type"] == RAW
        assert "dups=y" in web.get(f"{root}?format=car", headers=accept).headers["content-type"]
        found = web.get(f"{root}?format=car&car-dups=n", headers=accept)
        assert "dups=n" in found.headers["content-type"]
        assert web.get(f"{root}?format=car&car-version=2").status_code == 406


class TestRaw:
    """Trustless Gateway: block responses."""

    def test_a_block_with_its_headers(self, web, root, way, repository) -> None:
        for path in ("", "/a", "/big/v", "/a/c/0/0"):
            found = web.get(f"{root}{path}", params={"format": "raw"})
            end = way(path[1:]).end if path else cids.from_text(root[6:])
            text = cids.to_text(end)
            assert found.content == repository._stores.blocks.get(end)
            assert found.headers["etag"] == f'"{text}.raw"'
            assert found.headers["content-disposition"] == f'attachment; filename="{text}.bin"'
            assert found.headers["x-content-type-options"] == "nosniff"
            assert found.headers["cache-control"] == FOR_EVER
            assert hashlib.sha256(found.content).digest() == end[-32:]

    def test_a_range_of_a_block(self, web, root) -> None:
        whole = web.get(f"{root}?format=raw").content
        found = web.get(f"{root}?format=raw", headers={"Range": "bytes=6-16"})
        assert (found.status_code, found.content) == (206, whole[6:17])
        assert found.headers["content-range"] == f"bytes 6-16/{len(whole)}"


def get_car(web, path: str, **params: str) -> list[str]:
    found = web.get(path, params={"format": "car", **params})
    assert found.status_code == 200
    return names(*(cid for cid, _ in read_car(found.content)[1]))


class TestCar:
    """Trustless Gateway: CAR responses."""

    def test_a_whole_snapshot_comes_depth_first_each_block_once(
        self, web, root, snapshot, repository
    ) -> None:
        found = web.get(root, params={"format": "car"})
        roots, blocks = read_car(found.content)
        assert roots == [snapshot.cid]
        held = {cid: memoryview(block) for cid, block in blocks}
        assert len(held) == len(blocks)
        assert blocks[0][0] == snapshot._tree
        for key, value in VALUES.items():
            link = resolve(held.__getitem__, snapshot._tree, key.split("/"))
            assert b"".join(pieces(held.__getitem__, link.end, 0, len(value))) == value
        assert found.headers["content-disposition"] == f'attachment; filename="{snapshot.cid}.car"'
        assert found.headers["etag"].startswith(f'"{snapshot.cid}.car.')
        assert found.headers["accept-ranges"] == "none"

    def test_duplicates_come_if_they_are_asked_for(self, web, root, way) -> None:
        """Trustless Gateway: CAR dups."""
        once = get_car(web, root)
        again = get_car(web, root, **{"car-dups": "y"})
        assert len(set(again)) < len(again)
        assert list(dict.fromkeys(again)) == once
        assert again.count(names(way("big/v").end)[0]) == 2

    def test_a_path_brings_what_proves_it(self, web, root, way) -> None:
        """gateway-conformance: default CAR response with pathing through UnixFS Directory."""
        assert get_car(web, f"{root}/a/c/0/0") == names(*way("a/c/0/0").roots)

    def test_a_path_through_a_hamt_brings_only_the_shards_on_the_way(self, web, root, way) -> None:
        """gateway-conformance: UnixFS file on a path with HAMT-sharded directory."""
        path = f"many/{7:060d}"
        found = get_car(web, f"{root}/{path}")
        way_there = way(path)
        assert found == names(*way_there.blocks, way_there.end)
        assert len(found) > len(way_there.roots)

    def test_dag_scope_block(self, web, root, way) -> None:
        for path in ("a", "a/c/0/0", "big/v", "many"):
            found = get_car(web, f"{root}/{path}", **{"dag-scope": "block"})
            assert found == names(*way(path).blocks, way(path).end)

    def test_dag_scope_entity(self, web, root, way, repository) -> None:
        get = repository._stores.blocks.get
        scope = {"dag-scope": "entity"}
        assert get_car(web, f"{root}/a/c", **scope) == names(*way("a/c").roots)
        leaves = [link.cid for link in dag_pb.decode(get(way("big/v").end))[0]]
        assert get_car(web, f"{root}/big/v", **scope) == names(*way("big/v").roots, *leaves)
        shards = get_car(web, f"{root}/many", **scope)
        assert len(shards) > 100
        assert all(text.startswith("bafy") for text in shards)

    @pytest.mark.parametrize(
        ("said", "leaves"),
        [
            ("0:*", [0, 1, 2]),
            (f"{MIB}:*", [1, 2]),
            (f"{MIB}:{2 * MIB - 1}", [1]),
            (f"{MIB}:{2 * MIB}", [1, 2]),
            (f"{MIB}:-{MIB}", [1]),
            ("-5:*", [2]),
            ("-99999999:*", [0, 1, 2]),
            (f"-99999999:-{2 * MIB}", [0]),
            ("0:0", [0]),
            ("5:99999999", [0, 1, 2]),
            ("9:3", []),
        ],
    )
    def test_entity_bytes(self, web, way, repository, said, leaves) -> None:
        end = way("big/v").end
        links = dag_pb.decode(repository._stores.blocks.get(end))[0]
        found = get_car(web, f"/ipfs/{cids.to_text(end)}", **{"entity-bytes": said})
        assert found == names(end, *(links[number].cid for number in leaves))

    def test_entity_bytes_of_a_directory_are_ignored(self, web, root, snapshot) -> None:
        assert get_car(web, root, **{"entity-bytes": "0:*"}) == [snapshot.cid]
        assert get_car(web, root, **{"entity-bytes": "99999:*"}) == [snapshot.cid]

    @pytest.mark.parametrize(
        "query",
        ["dag-scope=some", "entity-bytes=x", "entity-bytes=1", "entity-bytes=9999999:*"],
    )
    def test_what_makes_no_sense_is_400(self, web, root, query) -> None:
        assert web.get(f"{root}/big/v?format=car&{query}").status_code == 400

    def test_etags_tell_what_differs(self, web, root) -> None:
        """Trustless Gateway: the ETag must follow dag-scope and entity-bytes."""
        queries = ["", "&dag-scope=block", "&dag-scope=entity", "&entity-bytes=0:5", "&car-dups=y"]
        asked = [f"{root}/big/v?format=car{query}" for query in queries]
        asked += [f"{root}/same/x?format=car"]
        etags = [web.head(url).headers["etag"] for url in asked]
        assert len(set(etags)) == len(etags)
        for url, etag in zip(asked, etags, strict=True):
            assert web.get(url).headers["etag"] == etag
            assert web.get(url, headers={"If-None-Match": etag}).status_code == 304

    def test_a_path_that_is_not_there_is_404(self, web, root) -> None:
        assert web.get(f"{root}/a/nope?format=car").status_code == 404


class TestTar:
    """Path Gateway: TAR responses (IPIP-288)."""

    def test_a_folder(self, web, root, snapshot) -> None:
        found = web.get(root, params={"format": "tar"})
        assert found.headers["content-type"] == "application/x-tar"
        assert found.headers["content-disposition"] == f'attachment; filename="{snapshot.cid}.tar"'
        with tarfile.open(fileobj=io.BytesIO(found.content)) as tar:
            members = {member.name: member for member in tar}
            values = {name: tar.extractfile(m).read() for name, m in members.items() if m.isfile()}
        want = {f"{snapshot.cid}/{key}": value for key, value in VALUES.items()}
        assert {k: v for k, v in values.items() if "/many/" not in k} == want
        assert len(values) == len(want) + 4000
        assert members[f"{snapshot.cid}/a/c"].isdir()

    def test_a_value(self, web, root) -> None:
        found = web.get(f"{root}/big/v", params={"format": "tar"})
        with tarfile.open(fileobj=io.BytesIO(found.content)) as tar:
            assert tar.getnames() == ["v"]
            assert tar.extractfile("v").read() == BIG


def test_head_says_what_get_says(web, port, root) -> None:
    for query in ("", "?format=raw", "?format=car", "?format=tar"):
        got, head = web.get(f"{root}/a/c/0/0{query}"), web.head(f"{root}/a/c/0/0{query}")
        for name in ("etag", "content-type", "cache-control", "x-ipfs-roots"):
            assert got.headers[name] == head.headers[name]
        assert got.headers.get("content-length") == head.headers.get("content-length")
        said = request(port, f"{root}/a/c/0/0{query}".encode(), method=b"HEAD")
        assert said.endswith(b"\r\n\r\n")
