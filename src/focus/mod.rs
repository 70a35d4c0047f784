//! How phones see rooms: a SIP conference focus (RFC 4353, RFC 4579) with its event package (RFC 4575).
