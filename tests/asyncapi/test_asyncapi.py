"""The AsyncAPI document in the tree: made from the models, true of the topics, and good to AsyncAPI's own parser."""

import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from broker.access import rights
from schemas.messages import PAYLOADS
from schemas.topics import ChannelTopic, LoopTopic, parse
from tests.conftest import needs
from zeroloop.asyncapi import CHANNELS, FILE, document, page, render

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "asyncapi.html"


def test_the_document_in_the_tree_is_the_one_of_the_models() -> None:
    assert FILE.read_text(encoding="utf-8") == render(), "run `make schema` and commit what it changes"
    assert PAGE.read_text(encoding="utf-8") == page(document()), "run `make schema` and commit what it changes"


def test_every_topic_of_the_contract_is_a_channel_and_none_is_more() -> None:
    addresses = {channel.address.format(loop="l", station="s", channel="c") for channel in CHANNELS}
    assert None not in {parse(address) for address in addresses}
    assert len(addresses) == len(CHANNELS) == len(LoopTopic) + len(ChannelTopic) + 1
    assert {channel.payload for channel in CHANNELS} == set(PAYLOADS)


@pytest.mark.parametrize("role", ["station", "equalizer", "operator", "meter"])
def test_who_sends_in_the_document_may_send_at_the_broker(role: str) -> None:
    """The access list and the document were written apart; where they differ, one of them is wrong."""
    allowed = {right.topic for right in rights(role, "s", "l") if right.way == "write"}  # type: ignore[arg-type]
    for channel in CHANNELS:
        if role in channel.senders:
            assert channel.address.format(loop="l", station="s", channel="+") in {
                topic.replace("station/+", "station/s") for topic in allowed
            }, channel.name


def test_every_example_is_valid_against_the_schemas_of_the_document() -> None:
    made = document()
    for message in made["components"]["messages"].values():
        schema = {"$ref": message["payload"]["$ref"], "components": made["components"]}
        for example in message["examples"]:
            Draft202012Validator(schema).validate(example["payload"])


def test_every_reference_leads_somewhere() -> None:
    made = document()

    def follow(node: object) -> int:
        if isinstance(node, list):
            return sum(follow(item) for item in node)
        if not isinstance(node, dict):
            return 0
        count = sum(follow(item) for item in node.values())
        if isinstance(reference := node.get("$ref"), str):
            target: object = made
            for part in reference.removeprefix("#/").split("/"):
                assert isinstance(target, dict)
                target = target[part]
            count += 1
        return count

    assert follow(made) > len(CHANNELS)


def test_the_page_links_to_what_it_has() -> None:
    ids: set[str] = set()
    links: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
            for name, value in attrs:
                if value is not None and name in {"id", "href"}:
                    (ids if name == "id" else links).add(value)

    Reader().feed(page(document()))
    assert links
    assert {link.removeprefix("#") for link in links} <= ids


def test_asyncapis_own_parser_finds_no_error(tmp_path: Path) -> None:
    node = needs("node", "nodejs")
    if not (HERE / "node_modules" / "@asyncapi" / "parser").is_dir():
        pytest.skip("needs AsyncAPI's parser (npm ci --prefix tests/asyncapi)")
    done = subprocess.run([node, HERE / "check.mjs", FILE], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"channels {len(CHANNELS)} " in done.stdout
    assert "warning" not in done.stdout, done.stdout

    broken = json.loads(FILE.read_text(encoding="utf-8"))
    del broken["info"]["title"]
    (tmp_path / "broken.json").write_text(json.dumps(broken), encoding="utf-8")
    done = subprocess.run(
        [node, HERE / "check.mjs", tmp_path / "broken.json"], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 1
