#!/usr/bin/env python3
"""A chat user: slixmpp, driven by JSON lines (see lines.py).

    chat.py --jid alice@chat.test --password P --port 5222

Every presence and message that arrives is an event, with what a test looks at already taken out
of the XML; `xml` has the rest.
"""

import argparse
import asyncio
import xml.etree.ElementTree as ET

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout, PresenceError

import lines

USER = "{http://jabber.org/protocol/muc#user}"
REQUEST = "http://jabber.org/protocol/muc#request"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
SECONDS = 15


class Refused(Exception):
    """An error stanza: its text is the condition's name."""


def condition(xml):
    """The defined condition of an error stanza, or None."""
    error = next((child for child in xml if child.tag.endswith("}error")), None)
    if error is None:
        return None
    names = [c.tag.removeprefix(STANZAS) for c in error if c.tag.startswith(STANZAS)]
    return next((name for name in names if name != "text"), "undefined-condition")


def text(xml, path):
    found = xml.find(path)
    return None if found is None else found.text or ""


def presence(stanza):
    xml = stanza.xml
    item = xml.find(f"{USER}x/{USER}item")
    destroy = xml.find(f"{USER}x/{USER}destroy")
    fields = {
        "from": str(stanza["from"]),
        "nick": stanza["from"].resource,
        "type": xml.get("type"),
        "codes": [int(status.get("code")) for status in xml.iter(f"{USER}status")],
        "hats": [hat.get("title") for hat in xml.iter("{urn:xmpp:hats:0}hat")],
        "error": condition(xml),
        "destroyed": destroy is not None,
        "xml": ET.tostring(xml, encoding="unicode"),
    }
    if item is not None:
        for name in ("affiliation", "role", "jid"):
            fields[name] = item.get(name)
        fields["new_nick"] = item.get("nick")
        fields["reason"] = text(item, f"{USER}reason")
    return fields


def voice(xml):
    """Who asks for voice, if that is what a message is (XEP-0045 §8.6)."""
    fields = {
        field.get("var"): text(field, "{jabber:x:data}value")
        for field in xml.iterfind("{jabber:x:data}x/{jabber:x:data}field")
    }
    return fields.get("muc#roomnick") if fields.get("FORM_TYPE") == REQUEST else None


def message(stanza):
    xml = stanza.xml
    delay = xml.find("{urn:xmpp:delay}delay")
    return {
        "from": str(stanza["from"]),
        "nick": stanza["from"].resource,
        "type": xml.get("type"),
        "stanza_id": xml.get("id"),
        "body": text(xml, "{jabber:client}body"),
        "subject": text(xml, "{jabber:client}subject"),
        "codes": [int(status.get("code")) for status in xml.iter(f"{USER}status")],
        "voice": voice(xml),
        "delayed": delay is not None,
        "error": condition(xml),
        "xml": ET.tostring(xml, encoding="unicode"),
    }


def archived(xml):
    """A result of XEP-0313."""
    result = xml.find("{urn:xmpp:mam:2}result")
    forwarded = result.find("{urn:xmpp:forward:0}forwarded")
    inner = forwarded.find("{jabber:client}message")
    item = inner.find(f"{USER}x/{USER}item")
    return {
        "id": result.get("id"),
        "from": inner.get("from"),
        "to": inner.get("to"),
        "body": text(inner, "{jabber:client}body"),
        "stamp": forwarded.find("{urn:xmpp:delay}delay").get("stamp"),
        "jid": None if item is None else item.get("jid"),
        "retracted": inner.find("{urn:xmpp:message-retract:1}retracted") is not None,
    }


class Chat(slixmpp.ClientXMPP):
    def __init__(self, options):
        super().__init__(options.jid, options.password)
        self.address = ("127.0.0.1", options.port)
        for plugin in ("xep_0004", "xep_0030", "xep_0045", "xep_0050", "xep_0199", "xep_0203", "xep_0313"):
            self.register_plugin(plugin)
        mechanisms = self.plugin["feature_mechanisms"]
        mechanisms.unencrypted_plain = mechanisms.unencrypted_scram = True
        self.enable_starttls = self.enable_direct_tls = False
        self.enable_plaintext = True
        self.muc, self.disco_plugin = self.plugin["xep_0045"], self.plugin["xep_0030"]
        self.add_event_handler("session_start", self.online)
        self.add_event_handler("failed_auth", lambda _: lines.emit("failed_auth"))
        self.add_event_handler("disconnected", lambda _: lines.emit("disconnected"))
        self.add_filter("in", self.arrived)
        self.joining = {}

    def online(self, _):
        self.send_presence()
        lines.emit("online", jid=str(self.boundjid))

    def arrived(self, stanza):
        if isinstance(stanza, slixmpp.Presence):
            lines.emit("presence", **presence(stanza))
            waiting = self.joining.get(stanza["from"].bare)
            if stanza["type"] == "error" and waiting is not None and not waiting.done():
                waiting.set_exception(Refused(condition(stanza.xml)))
        elif isinstance(stanza, slixmpp.Message):
            lines.emit("message", **message(stanza))
        return stanza

    async def refusable(self, coroutine):
        try:
            return await coroutine
        except (IqError, PresenceError) as error:
            stanza = error.iq if isinstance(error, IqError) else error.presence
            raise Refused(condition(stanza.xml)) from None
        except IqTimeout:
            raise TimeoutError("no answer") from None

    # The commands.

    async def go_online(self):
        """Connects (again), and waits until the session stands."""
        if not self.is_connected():
            self.connect(*self.address)
        await self.wait_until("session_start", SECONDS)

    async def join(self, room, nick, password=None, history=20):
        # The library misses refusals that do not echo the join's payload.
        refused = self.joining[room] = asyncio.get_running_loop().create_future()
        joined = asyncio.ensure_future(
            self.muc.join_muc_wait(
                slixmpp.JID(room), nick, password=password, maxstanzas=history, timeout=SECONDS
            )
        )
        await asyncio.wait([joined, refused], return_when=asyncio.FIRST_COMPLETED)
        del self.joining[room]
        if refused.done():
            joined.cancel()
            refused.result()
        own, subject, occupants, old = await self.refusable(joined)
        return {
            "own": presence(own),
            "subject": subject["subject"],
            "occupants": [presence(one) for one in occupants],
            "history": [message(one) for one in old],
        }

    async def leave(self, room, nick):
        self.muc.leave_muc(slixmpp.JID(room), nick)

    async def say(self, room, body):
        self.send_message(mto=room, mbody=body, mtype="groupchat")

    async def whisper(self, to, body):
        self.send_message(mto=to, mbody=body, mtype="chat")

    async def voice(self, room, nick, allow):
        form = self.plugin["xep_0004"].make_form(ftype="submit")
        form.add_field(var="FORM_TYPE", ftype="hidden", value=REQUEST)
        form.add_field(var="muc#role", value="participant")
        form.add_field(var="muc#roomnick", value=nick)
        form.add_field(var="muc#request_allow", ftype="boolean", value=allow)
        answer = self.make_message(mto=room)
        answer.append(form)
        answer.send()

    async def subject(self, room, text):
        self.muc.set_subject(room, text)

    async def nick(self, room, nick):
        return {"nick": await self.muc.set_self_nick(slixmpp.JID(room), nick, timeout=SECONDS)}

    async def role(self, room, nick, role, reason=""):
        await self.refusable(self.muc.set_role(room, nick, role, reason=reason, timeout=SECONDS))

    async def affiliation(self, room, jid, affiliation, reason=""):
        change = self.muc.set_affiliation(
            room, affiliation, jid=jid, reason=reason, timeout=SECONDS
        )
        await self.refusable(change)

    async def affiliations(self, room, affiliation):
        listed = self.muc.get_affiliation_list(room, affiliation, timeout=SECONDS)
        return {"jids": [str(jid) for jid in await self.refusable(listed)]}

    async def config(self, room):
        form = await self.refusable(self.muc.get_room_config(room, timeout=SECONDS))
        return {"fields": {name: field["value"] for name, field in form.get_fields().items()}}

    async def configure(self, room, **fields):
        """Fetches the owner's form, changes some fields, sends it back."""
        form = await self.refusable(self.muc.get_room_config(room, timeout=SECONDS))
        unknown = [name for name in fields if name not in form.get_fields()]
        if unknown:
            raise KeyError(f"the form has no {unknown}")
        for name, value in fields.items():
            form.get_fields()[name]["value"] = value
        form["type"] = "submit"
        await self.refusable(self.muc.set_room_config(room, form, timeout=SECONDS))

    async def destroy(self, room, reason=""):
        await self.refusable(self.muc.destroy(room, reason, timeout=SECONDS))

    async def disco(self, jid, node=""):
        info = await self.refusable(
            self.disco_plugin.get_info(jid=jid, node=node, timeout=SECONDS, cached=False)
        )
        forms = {}
        for field in info.xml.iter("{jabber:x:data}field"):
            forms[field.get("var")] = [v.text or "" for v in field.iter("{jabber:x:data}value")]
        return {
            "identities": [list(one) for one in info["disco_info"]["identities"]],
            "features": sorted(info["disco_info"]["features"]),
            "form": forms,
        }

    async def items(self, jid):
        found = await self.refusable(self.disco_plugin.get_items(jid=jid, timeout=SECONDS))
        return {"items": [[str(i[0]), i[2]] for i in found["disco_items"]["items"]]}

    async def archive(self, room, page=10, reverse=False):
        """All of a room's archive, page by page, as the library walks it."""
        walk = self.plugin["xep_0313"].iterate(
            jid=slixmpp.JID(room), reverse=reverse, rsm={"max": page}
        )
        return {"messages": [archived(result.xml) async for result in walk]}

    async def metadata(self, room):
        request = self.plugin["xep_0313"].get_archive_metadata(slixmpp.JID(room), timeout=SECONDS)
        found = (await self.refusable(request))["mam_metadata"]
        return {"start": found["start"]["id"], "end": found["end"]["id"]}

    async def ping(self, jid):
        await self.refusable(self.plugin["xep_0199"].send_ping(slixmpp.JID(jid), timeout=SECONDS))

    async def iq(self, type, to, xml):
        request = self.make_iq(itype=type, ito=to)
        request.append(ET.fromstring(xml))
        result = await self.refusable(request.send(timeout=SECONDS))
        return {"xml": ET.tostring(result.xml, encoding="unicode")}

    async def command(self, to, node, form=None, session=None, action=None):
        """One step of an ad-hoc command, by slixmpp's own XEP-0050."""
        fields = None
        if form is not None:
            fields = self.plugin["xep_0004"].make_form(ftype="submit")
            for var, value in form.items():
                fields.add_field(var=var, value=value)
        answer = await self.refusable(
            self.plugin["xep_0050"].send_command(
                to, node, action=action or "execute", payload=fields, sessionid=session, timeout=SECONDS
            )
        )
        command = answer["command"]
        asked = command["form"].get_fields() if command.xml.find("{jabber:x:data}x") is not None else {}
        return {
            "status": command["status"],
            "session": command["sessionid"],
            "actions": sorted(command["actions"]),
            "fields": sorted(var for var in asked if var != "FORM_TYPE"),
            "xml": ET.tostring(answer.xml, encoding="unicode"),
        }

    async def commands(self, to):
        """The commands that are offered, by slixmpp's own XEP-0050."""
        answer = await self.refusable(self.plugin["xep_0050"].get_commands(jid=to, timeout=SECONDS))
        return {"nodes": [item[1] for item in answer["disco_items"]["items"]]}

    async def raw(self, xml):
        """Bytes on the stream as they are, whatever the library would say to them."""
        self.send_raw(xml)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jid", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--port", type=int, required=True)
    chat = Chat(parser.parse_args())
    names = """go_online join leave say whisper voice subject nick role affiliation affiliations config
               configure destroy disco items archive metadata ping iq command commands raw""".split()
    await lines.serve({name: getattr(chat, name) for name in names})
    await chat.disconnect(wait=1)


asyncio.run(main())
