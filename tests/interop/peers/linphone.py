#!/usr/bin/env python3
"""Linphone (Debian's liblinphone10, through ctypes), driven by JSON lines (see lines.py).

    linphone.py --user dave --password P --domain sip.test --proxy 'sip:127.0.0.1:5060;transport=udp'
                --home DIR --sip-port N --rtp-port N [--play in.wav]

With `--config-uri URL` it begins without any account and takes what is told there. It registers with the proxy and, once in a call with a focus, subscribes to the conference package
by itself: every change of the list of participants that it shows is a `participants` event.
"""

import argparse
import asyncio
import ctypes
import os
import pathlib

import lines

POLL_SECONDS = 0.02
REGISTERED = 2
ENDED = ("LinphoneCallError", "LinphoneCallEnd", "LinphoneCallReleased")

Pointer, Text = ctypes.c_void_p, ctypes.c_char_p


class Node(ctypes.Structure):
    pass


Node._fields_ = [("next", ctypes.POINTER(Node)), ("prev", ctypes.POINTER(Node)), ("data", Pointer)]


def nodes(pointer):
    node = ctypes.cast(pointer, ctypes.POINTER(Node)) if pointer else None
    while node:
        yield node.contents.data
        node = node.contents.next


class Library:
    """liblinphone's C functions by name, each with the types that it is first called with."""

    def __init__(self):
        self.library = ctypes.CDLL("liblinphone.so.10")

    def __call__(self, name, result, *typed):
        function = getattr(self.library, "linphone_" + name)
        function.restype, function.argtypes = result, [kind for kind, _ in typed]
        return function(*(value for _, value in typed))


def registration(options):
    if not options.proxy:
        return ""
    return f"""[proxy_0]
reg_proxy=<{options.proxy}>
reg_route=<{options.proxy}>
reg_identity=sip:{options.user}@{options.domain}
reg_expires=120
reg_sendregister=1
publish=0
quality_reporting_enabled=0
"""


def account(options):
    if options.config_uri:
        return ""
    return f"""{registration(options)}[auth_info_0]
username={options.user}
userid={options.user}
passwd={options.password}
realm={options.domain}
domain={options.domain}
algorithm={options.algorithm}
"""


def settings(options):
    return f"""[sip]
sip_port={options.sip_port}
sip_tcp_port={options.sip_port}
sip_tls_port=-1
bind_address=127.0.0.1
guess_hostname=1
contact=sip:{options.user}@127.0.0.1
use_ipv6=0
default_proxy=0
media_encryption=none
[rtp]
audio_rtp_port={options.rtp_port}
bind_address=127.0.0.1
[sound]
echocancellation=0
[video]
enabled=0
capture=0
display=0
automatically_initiate=0
automatically_accept=0
{account(options)}[misc]
prefer_ipv6=0
{f"config-uri={options.config_uri}" if options.config_uri else ""}
"""


class Linphone:
    def __init__(self, options):
        home = pathlib.Path(options.home)
        # Without this folder the library never opens its sockets.
        (home / ".local/share/linphone").mkdir(parents=True, exist_ok=True)
        os.environ["HOME"] = str(home)
        (home / "rc").write_text(settings(options))
        self.lib, self.call, self.last = Library(), None, None
        self.lib("core_set_log_level_mask", None, (ctypes.c_uint, 0))
        factory = self.lib("factory_get", Pointer)
        self.core = self.lib("factory_create_core_3", Pointer, (Pointer, factory),
                             (Text, str(home / "rc").encode()), (Text, None), (Pointer, None))
        self.lib("core_set_use_files", None, (Pointer, self.core), (ctypes.c_int, 1))
        if options.play:
            self.lib("core_set_play_file", None, (Pointer, self.core), (Text, options.play.encode()))
        self.lib("core_set_record_file", None, (Pointer, self.core),
                 (Text, str(home / "heard.wav").encode()))
        self.lib("core_start", ctypes.c_int, (Pointer, self.core))

    async def run(self):
        while True:
            self.lib("core_iterate", None, (Pointer, self.core))
            self.report()
            await asyncio.sleep(POLL_SECONDS)

    def state(self):
        """The call's state by the library's own name for it."""
        state = self.lib("call_get_state", ctypes.c_int, (Pointer, self.call))
        return self.lib("call_state_to_string", Text, (ctypes.c_int, state)).decode()

    def report(self):
        if self.call is None:
            for call in nodes(self.lib("core_get_calls", Pointer, (Pointer, self.core))):
                self.call = self.lib("call_ref", Pointer, (Pointer, call))
        if self.call is None:
            return
        state = self.state()
        conference = None
        if state not in ENDED:
            conference = self.lib("call_get_conference", Pointer, (Pointer, self.call))
        now = (state, self.conference(conference) if conference else None)
        if now != self.last:
            self.last = now
            lines.emit("call", state=state)
            if now[1]:
                lines.emit("participants", **now[1])

    def conference(self, conference):
        def text(name, pointer):
            return (self.lib(name, Text, (Pointer, pointer)) or b"").decode(errors="replace")

        people = []
        for one in nodes(self.lib("conference_get_participant_list", Pointer, (Pointer, conference))):
            address = self.lib("participant_get_address", Pointer, (Pointer, one))
            devices = self.lib("participant_get_devices", Pointer, (Pointer, one))
            people.append({
                "address": text("address_as_string", address),
                "admin": bool(self.lib("participant_is_admin", ctypes.c_ubyte, (Pointer, one))),
                "devices": [text("participant_device_get_name", device) for device in nodes(devices)],
            })
        return {"subject": text("conference_get_subject", conference), "people": people}

    # The commands.

    async def identity(self):
        """The account that it has, once it has one."""
        for _ in range(int(15 / POLL_SECONDS)):
            account = self.lib("core_get_default_account", Pointer, (Pointer, self.core))
            if account:
                params = self.lib("account_get_params", Pointer, (Pointer, account))
                address = self.lib("account_params_get_identity_address", Pointer, (Pointer, params))
                text = self.lib("address_as_string", Text, (Pointer, address)).decode()
                lines.emit("identity", address=text)
                return
            await asyncio.sleep(POLL_SECONDS)
        raise TimeoutError("no account")

    async def register(self):
        account = self.lib("core_get_default_account", Pointer, (Pointer, self.core))
        for _ in range(int(15 / POLL_SECONDS)):
            if self.lib("account_get_state", ctypes.c_int, (Pointer, account)) == REGISTERED:
                return
            await asyncio.sleep(POLL_SECONDS)
        raise TimeoutError("not registered")

    async def dial(self, uri):
        self.last = None
        self.call = self.lib("core_invite", Pointer, (Pointer, self.core), (Text, uri.encode()))
        if not self.call:
            raise ValueError("the call was not made")
        self.lib("call_ref", Pointer, (Pointer, self.call))

    async def answer(self):
        self.lib("call_accept", ctypes.c_int, (Pointer, self.call))

    async def dtmf(self, digits):
        for digit in digits:
            self.lib("call_send_dtmf", ctypes.c_int, (Pointer, self.call),
                     (ctypes.c_char, digit.encode()))
            await asyncio.sleep(0.5)

    async def hangup(self):
        self.lib("call_terminate", ctypes.c_int, (Pointer, self.call))

    async def hold(self):
        self.lib("call_pause", ctypes.c_int, (Pointer, self.call))

    async def resume(self):
        self.lib("call_resume", ctypes.c_int, (Pointer, self.call))


async def main():
    parser = argparse.ArgumentParser()
    for name in "user password domain home".split():
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--proxy", default="", help="where it registers, if it does")
    parser.add_argument("--config-uri", default="", help="where it is told its account, instead")
    parser.add_argument("--algorithm", default="MD5", help="the digest's, and no other")
    parser.add_argument("--sip-port", type=int, required=True)
    parser.add_argument("--rtp-port", type=int, required=True)
    parser.add_argument("--play")
    phone = Linphone(parser.parse_args())
    running = asyncio.ensure_future(phone.run())
    names = "identity register dial answer dtmf hangup hold resume".split()
    await lines.serve({name: getattr(phone, name) for name in names})
    if phone.call is not None and phone.state() not in ENDED:
        await phone.hangup()
        await asyncio.sleep(0.5)
    running.cancel()
    phone.lib("core_stop", None, (Pointer, phone.core))


asyncio.run(main())
