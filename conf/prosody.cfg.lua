-- The component slot of cusaxd in Prosody 0.12 or later.
--
-- On Debian: copy to /etc/prosody/conf.d/cusax.cfg.lua, put your names and secret in, reload Prosody.
-- Prosody's component port (5347, loopback) is open as soon as there is a component.

Component "rooms.example.org"
    -- As xmpp.secret, or the content of xmpp.secret_file, of cusaxd.
    component_secret = "change-me"
    -- What disco shows while cusaxd is away.
    name = "Chat rooms with calls"
    -- When cusaxd comes back before Prosody noticed that it was gone, the new connection wins.
    component_conflict_resolve = "kick_old"

-- If the rooms' domain is not below the users' domain, users find it by an entry in their host:
--
--     VirtualHost "example.org"
--         disco_items = { { "rooms.example.net", "Rooms" } }
--
-- The domain must not have a `Component "rooms.example.org" "muc"` as well. If other servers' users are
-- to come, the domain needs a certificate and DNS as any other host of yours.
