#!/usr/bin/python3
"""A chat user with the library of Gajim: nbxmpp of Debian, driven by JSON lines (see lines.py).

    gajim.py --jid alice@chat.test --password P --port 5222

What arrives is told as the library understood it, so that a test sees what Gajim would show.
"""

import argparse
import asyncio
import threading
import uuid

import gi

gi.require_version("Soup", "3.0")

from gi.repository import GLib
from nbxmpp.client import Client
from nbxmpp.const import ConnectionProtocol, ConnectionType
from nbxmpp.namespaces import Namespace
from nbxmpp.protocol import JID, Message, Presence
from nbxmpp.structs import StanzaHandler

import lines

SECONDS = 15


def word(value):
    """What stands behind a member of an enumeration."""
    return getattr(value, "value", value)


class Gajim:
    def __init__(self, options):
        jid = JID.from_string(options.jid)
        self.client = client = Client(log_context="peer")
        client.set_domain(jid.domain)
        client.set_username(jid.localpart)
        client.set_password(options.password)
        client.set_resource("gajim")
        client.set_connection_types([ConnectionType.PLAIN])
        client.set_protocols([ConnectionProtocol.TCP])
        address = f"127.0.0.1:{options.port}"
        client.set_custom_host(address, ConnectionProtocol.TCP, ConnectionType.PLAIN)
        client.set_mechs({"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"})
        self.connected = threading.Event()
        client.subscribe("connected", lambda *_: self.connected.set())
        client.register_handler(StanzaHandler("presence", self.presence, priority=100))
        client.register_handler(StanzaHandler("message", self.message, priority=100))
        threading.Thread(target=GLib.MainLoop().run, daemon=True).start()

    def presence(self, _client, _stanza, properties):
        user, destroyed = properties.muc_user, properties.muc_destroyed
        lines.emit(
            "presence",
            nick=properties.muc_nickname,
            type=word(properties.type),
            codes=sorted(int(word(code)) for code in properties.muc_status_codes or ()),
            affiliation=user and word(user.affiliation),
            role=user and word(user.role),
            reason=user and user.reason,
            own=properties.is_muc_self_presence,
            occupant_id=properties.occupant_id,
            destroyed=destroyed is not None,
            error=properties.error and properties.error.condition,
        )

    def message(self, _client, _stanza, properties):
        moderation, subject = properties.moderation, properties.muc_subject
        lines.emit(
            "message",
            nick=properties.muc_nickname,
            type=word(properties.type),
            body=properties.body,
            subject=subject and subject.text,
            codes=sorted(int(word(code)) for code in properties.muc_status_codes or ()),
            delayed=properties.has_server_delay,
            stanza_ids=[one.id for one in properties.stanza_ids],
            occupant_id=properties.occupant_id,
            archive_id=properties.mam and properties.mam.id,
            moderated=moderation and moderation.stanza_id,
            reason=moderation and moderation.reason,
            error=properties.error and properties.error.condition,
        )

    async def task(self, start):
        """Starts a task of the library in its own thread, and waits for the result."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def finish(task):
            try:
                outcome = (task.finish(), None)
            except Exception as error:
                outcome = (None, error)
            loop.call_soon_threadsafe(settle, *outcome)

        def settle(result, error):
            if error is not None:
                done.set_exception(Exception(getattr(error, "condition", None) or str(error)))
            else:
                done.set_result(result)

        GLib.idle_add(lambda: (start(finish), False)[1])
        return await asyncio.wait_for(done, SECONDS)

    def run(self, call):
        GLib.idle_add(lambda: (call(), False)[1])

    @property
    def muc(self):
        return self.client.get_module("MUC")

    # The commands.

    async def go_online(self):
        self.run(self.client.connect)
        if not await asyncio.to_thread(self.connected.wait, SECONDS):
            raise TimeoutError("no connection")
        self.run(lambda: self.client.send_stanza(Presence()))

    async def join(self, room, nick):
        presence = Presence(to=f"{room}/{nick}")
        presence.setTag("x", namespace=Namespace.MUC)
        self.run(lambda: self.client.send_stanza(presence))

    async def leave(self, room, nick):
        presence = Presence(to=f"{room}/{nick}", typ="unavailable")
        self.run(lambda: self.client.send_stanza(presence))

    async def say(self, room, body):
        message = Message(to=room, body=body, typ="groupchat")
        self.run(lambda: self.client.send_stanza(message))

    async def subject(self, room, text):
        self.run(lambda: self.muc.set_subject(room, text))

    async def role(self, room, nick, role, reason=""):
        await self.task(lambda done: self.muc.set_role(room, nick, role, reason, callback=done))

    async def affiliation(self, room, jid, affiliation):
        users = {jid: {"affiliation": affiliation}}
        await self.task(lambda done: self.muc.set_affiliation(room, users, callback=done))

    async def affiliations(self, room, affiliation):
        found = await self.task(lambda done: self.muc.get_affiliation(room, affiliation, callback=done))
        return {"jids": [str(jid) for jid in found.users]}

    async def configure(self, room, **fields):
        """Fetches the owner's form, changes some fields, sends it back: what it said before."""
        found = await self.task(lambda done: self.muc.request_config(room, callback=done))
        before = {}
        for name, value in fields.items():
            field = found.form[name]
            before[name] = field.value
            field.value = value
        found.form.type_ = "submit"
        await self.task(lambda done: self.muc.set_config(room, found.form, callback=done))
        return {"before": before, "labels": [one.label for one in found.form.iter_fields()]}

    async def archive(self, room, page):
        """The archive from its beginning; its messages are events. How many pages there were."""
        mam, after, pages = self.client.get_module("MAM"), None, 0
        while True:
            query = str(uuid.uuid4())
            result = await self.task(
                lambda done: mam.make_query(room, query, after=after, max_=page, callback=done)
            )
            pages += 1
            if result.complete:
                return {"pages": pages}
            after = result.rsm.last

    async def retract(self, room, stanza_id, reason):
        self.run(lambda: self.muc.retract_message(JID.from_string(room), stanza_id, reason))

    async def destroy(self, room, reason=""):
        await self.task(lambda done: self.muc.destroy(room, reason, callback=done))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jid", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--port", type=int, required=True)
    peer = Gajim(parser.parse_args())
    names = """go_online join leave say subject role affiliation affiliations configure archive
               retract destroy""".split()
    await lines.serve({name: getattr(peer, name) for name in names})


asyncio.run(main())
